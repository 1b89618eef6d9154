"""Attention in pieces gives the numbers and gradients of the plain form, its definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from features import tokens as tokens_module
from features.tokens import Tokens
from methods.avcil import BatchAttention, attention_distillation
from model import piecewise_attention
from model.attention import project
from model.network import AudioVisualNet
from utils.devices import emulates_bf16

REPLAYED = 3


def networks(width, precision=None):
    torch.manual_seed(0)
    network, teacher = (AudioVisualNet("audio-visual", 4, 5, width, precision=precision).double() for _ in range(2))
    return network, teacher.requires_grad_(False)


def clips(count, frames, positions, width):
    generator = torch.Generator().manual_seed(1)
    audio = torch.randn(count, 5, generator=generator, dtype=torch.float64)
    return audio, torch.randn(count, frames, positions, width, generator=generator, dtype=torch.float64)


def plain(network, teacher, audio, visual):
    """Pooled tokens and both distances on the last clips, as model.attention and utils.losses define them."""
    attended = network.attention(audio, visual)
    rows = slice(len(audio) - REPLAYED, None)
    old = teacher.attention(audio[rows], visual[rows])
    spatial = attention_distillation(attended.spatial_scores[rows], old.spatial_scores, 2)
    temporal = attention_distillation(attended.temporal_scores[rows], old.temporal_scores, 1)
    return attended.pooled, spatial, temporal


def through_the_network(network, teacher, audio, visual):
    replayed = slice(len(audio) - REPLAYED, len(audio))
    old = BatchAttention(replayed, lambda rows, tokens: teacher.frozen_attention(audio[rows], tokens))
    out = network.attend(audio, visual if isinstance(visual, Tokens) else Tokens.of(visual), old)
    return out["pooled"], out["spatial_distance"], out["temporal_distance"]


def gradients_of(network, outputs):
    pooled, spatial, temporal = outputs
    loss = (
        (pooled * torch.linspace(-1, 1, pooled.shape[1], device=pooled.device)).square().sum()
        + 0.3 * spatial
        + 0.7 * temporal
    )
    names = [name for name, _ in network.named_parameters() if name.startswith("attn")]
    return dict(zip(names, torch.autograd.grad(loss, [network.get_parameter(name) for name in names]), strict=True))


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(REPLAYED, 9),
    frames=st.integers(1, 4),
    positions=st.integers(1, 5),
    width=st.integers(1, 7),
    at_once=st.integers(1, 200),
    in_block=st.integers(1, 60),
)
def test_values_and_gradients(count, frames, positions, width, at_once, in_block):
    network, teacher = networks(width)
    audio, visual = clips(count, frames, positions, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tokens_module.TOKENS_AT_ONCE, "cpu", at_once)
        patch.setitem(piecewise_attention.TOKENS_IN_BLOCK, "cpu", in_block)
        ours, theirs = (form(network, teacher, audio, visual) for form in (through_the_network, plain))
        for mine, expected in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-12)
        expected = gradients_of(network, theirs)
        for name, mine in gradients_of(network, ours).items():
            torch.testing.assert_close(mine, expected[name], rtol=1e-9, atol=1e-11)


def test_single_precision():
    network, teacher = (each.float() for each in networks(48))
    audio, visual = (each.float() for each in clips(20, 8, 4, 48))
    ours, theirs = (form(network, teacher, audio, visual) for form in (through_the_network, plain))
    torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=1e-6)
    expected = gradients_of(network, theirs)
    for name, mine in gradients_of(network, ours).items():
        torch.testing.assert_close(mine, expected[name], rtol=1e-4, atol=1e-4 * expected[name].abs().max().item())


def test_bfloat16_products_are_close_to_single_precision():
    audio, visual = (each.float() for each in clips(20, 8, 4, 48))
    found = []
    for precision in (None, torch.bfloat16):
        network, teacher = (each.float() for each in networks(48, precision))
        outputs = through_the_network(network, teacher, audio, visual)
        found.append([*outputs[:1], *gradients_of(network, outputs).values()])
    for exact, rough in zip(*found, strict=True):
        # bfloat16 has eight bits: relative to the largest entry, errors of a few thousandths.
        assert (exact - rough).abs().max() < 0.02 * exact.abs().max()
        assert not torch.equal(exact, rough)


def test_gradients_in_fewer_passes_are_the_same_but_for_roundings():
    network, teacher = networks(16)
    found = []
    for form in (piecewise_attention._gradients, piecewise_attention._gradients_in_fewer_passes):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(piecewise_attention, "_gradients", form)
            found.append(gradients_of(network, through_the_network(network, teacher, *clips(9, 3, 5, 16))))
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, rtol=1e-9, atol=1e-11)


# bfloat16 rounds to 2**-9 of the value: emulated, of products up to 4 before the bias is there, else of keys below 1.
@pytest.mark.parametrize("emulated, tolerance", [(True, 2**-7), (False, 2**-9)])
def test_keys_beside_16_bit_products(monkeypatch, emulated, tolerance):
    if not emulated and emulates_bf16(torch.device("cpu")):
        pytest.skip("this processor has no instructions for bfloat16")
    monkeypatch.setattr(piecewise_attention, "emulates_bf16", lambda _: emulated)
    generator = torch.Generator().manual_seed(2)
    x, weight = (torch.randn(*shape, generator=generator).bfloat16() for shape in ((5, 2, 3, 64), (64, 64)))
    bias = torch.randn(64, generator=generator)
    expected = torch.tanh(x.double() @ weight.double().T / 8 + bias)
    found = piecewise_attention._keys(x, weight / 8, bias)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=2**-9, atol=tolerance)


def test_half_precision_tokens_are_used_as_the_numbers_they_are():
    network, teacher = (each.float() for each in networks(16))
    audio, visual = clips(7, 2, 3, 16)
    half = visual.half()
    ours = through_the_network(network, teacher, audio.float(), half)
    theirs = plain(network, teacher, audio.float(), half.float())
    torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=1e-6)


def test_tokens_of_no_clip():
    # What a process has to do that holds none of the batch's clips.
    network, _ = networks(6)
    audio, visual = clips(REPLAYED, 2, 3, 6)
    none = Tokens.of(visual[:0])
    out = network.attend(audio[:0], none)
    assert out["pooled"].shape == (0, 6)
    F.mse_loss(out["pooled"].sum(0), torch.zeros(6, dtype=torch.float64)).backward()
    assert network.attn_visual_proj.weight.grad.abs().sum() == 0


def test_pieces_cover_each_row_once_and_keep_to_one_side_of_the_cut():
    tokens = Tokens(None, 10, (2, 3, 4), local_rows=np.array([0, 2, 3, 7, 8, 9]))
    assert tokens.first_replayed(slice(7, 10)) == 3
    for cut in (None, 0, 3, 6):
        pieces = tokens.pieces("cpu", cut)
        assert [row for piece in pieces for row in piece] == list(range(6))
        assert cut is None or all(piece.stop <= cut or piece.start >= cut for piece in pieces)
    assert tokens.batch_rows(range(2, 5)).tolist() == [3, 7, 8]


def test_keys_in_half_precision_are_tanh():
    projected = torch.tensor([-90.0, -4.0, -0.25, 0.0, 0.015625, 3.0, 90.0], dtype=torch.bfloat16)
    bias = torch.linspace(-0.5, 0.5, 7)
    expected = torch.tanh(projected.double() + bias.double())
    found = project(projected[None, None, None], torch.eye(7), bias, torch.bfloat16)
    torch.testing.assert_close(found[0, 0, 0].double(), expected, rtol=1e-6, atol=2e-7)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_on_a_gpu(precision):
    network, teacher = (each.float().cuda() for each in networks(64, precision))
    audio, visual = (each.float().cuda() for each in clips(40, 8, 49, 64))
    ours = through_the_network(network, teacher, audio, visual)
    exact, exact_teacher = (each.float().cuda() for each in networks(64))
    theirs = plain(exact, exact_teacher, audio, visual)
    tolerance = 1e-4 if precision is None else 0.02
    for mine, expected in zip(ours, theirs, strict=True):
        assert (mine - expected).abs().max() < tolerance * expected.abs().max()
    mine, expected = gradients_of(network, ours), gradients_of(exact, theirs)
    for name in expected:
        assert (mine[name] - expected[name]).abs().max() < 2 * tolerance * expected[name].abs().max()
