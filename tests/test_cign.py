"""The network of class tokens against its formula, written out."""

import math

import pytest
import torch

from engine.registry import find_method
from features import tokens as tokens_module
from features.tokens import Tokens
from model.class_tokens import ClassTokenNet, gather_in_pieces
from tests.helpers import tiny
from utils.losses import class_token_distillation


def by_the_formula(grouping, q, x):
    """Scores (B, C) of class tokens ``q`` (C, D) over tokens ``x`` (B, K, X), as the paper has them."""
    queries, keys, values = q @ grouping.query.weight.T, x @ grouping.key.weight.T, x @ grouping.value.weight.T
    attention = torch.softmax(keys @ queries.T / math.sqrt(q.shape[1]), 2)  # (B, K, C), over classes
    share = attention / (attention.sum(1, keepdim=True) + 1)
    grouped = q + (share.transpose(1, 2) @ values) @ grouping.out.weight.T
    return torch.relu(grouped) @ grouping.score.weight[0] + grouping.score.bias


@pytest.mark.parametrize("modality", ["audio", "visual", "audio-visual"])
def test_scores_and_gradients(modality, monkeypatch):
    monkeypatch.setitem(tokens_module.TOKENS_AT_ONCE, "cpu", 20)  # three clips at a time
    torch.manual_seed(0)
    network = ClassTokenNet(modality, 4, 7, 9 if modality != "audio" else None).double()
    network.classifier.tokens.data.mul_(50)
    audio, visual = torch.randn(5, 7, dtype=torch.float64), torch.randn(5, 2, 3, 9, dtype=torch.float64)
    expected, q = 0, network.classifier.tokens
    if modality != "visual":
        expected = expected + by_the_formula(network.audio, q, audio[:, None])
    if modality != "audio":
        expected = expected + by_the_formula(network.visual, q, visual.flatten(1, 2))
    ours = network(audio, None if visual is None else Tokens.of(visual))["logits"]
    torch.testing.assert_close(ours, expected)
    parameters = [p for name, p in network.named_parameters() if "identity" not in name]
    weights = torch.randn_like(ours)
    mine, theirs = (torch.autograd.grad((value * weights).sum(), parameters) for value in (ours, expected))
    torch.testing.assert_close(mine, theirs)


def test_maps_are_not_kept():
    """Between the passes nothing of the size (clips, tokens, classes) is alive."""
    kept = []

    def pack(tensor):
        kept.append(tensor.numel())
        return tensor

    tokens = Tokens.of(torch.randn(4, 8, 50, 6))
    queries = torch.randn(30, 6, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        gather_in_pieces(tokens, queries)
    assert not kept or max(kept) <= queries.numel()


def test_growth_keeps_what_was_learned():
    network = ClassTokenNet("audio", 3, 7)
    head = network.classifier
    before = [value.clone() for value in (head.tokens, head.identity.weight, head.identity.bias)]
    head.grow(2)
    assert head.num_classes == 5 and head.identity.weight.shape == (5, 7)
    for old, new in zip(before, (head.tokens, head.identity.weight, head.identity.bias), strict=True):
        torch.testing.assert_close(new[:3], old, rtol=0, atol=0)
    assert 0.01 < head.tokens[3:].std() < 0.04


def test_class_token_distillation_by_hand():
    teacher = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    student = torch.zeros(2, 2)
    # First token: (3/4, 1/4) against (1/2, 1/2); second: equal.
    expected = (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2
    assert class_token_distillation(student, teacher).item() == pytest.approx(expected)


def test_the_option_of_avcil(tmp_path):
    tiny.make(tmp_path)
    printed, _ = tiny.train(tmp_path, "avcil", "--class_token_distillation", "0.5")
    assert printed.count("token_distillation:") == 4
    printed, _ = tiny.train(tmp_path, "avcil")
    assert "token_distillation" not in printed


def test_terms(tmp_path):
    tiny.make(tmp_path)
    for modality in find_method("cign").modalities:
        printed, _ = tiny.train(tmp_path, "cign", "--modality", modality)
        assert printed.count("token_identity:") == 6 and printed.count("token_distillation:") == 4


def test_learns(tmp_path):
    tiny.make(tmp_path, {"train": 30, "val": 5, "test": 10})
    flags = ["--max_epochs", "25", "--memory_size", "60", "--train_batch_size", "32", "--lr", "0.01"]
    assert tiny.train(tmp_path, "cign", *flags)[1]["last_accuracy"] > 0.5
