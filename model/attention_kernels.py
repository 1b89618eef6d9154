"""The spatial attention of model.fast_attention in two Triton kernels, for GPUs: a pass forward and a pass backward.

Shapes: B clips, F frames, S positions, D width. ``projected``, ``tokens``, ``old_key`` (B, F, S, D) of any floating
dtype, contiguous; ``audio_key``, ``old_audio`` (B, D), ``bias`` (D,) and every sum (B, F, D) are float32. With

    k = tanh(projected + bias)        score = k audio_key        p = softmax of the score over the S positions

the forward pass gives total = sum exp(score), key = sum p k, value = sum p tokens, and for clips with an old network's
keys and audio key, whose map q is made in the same way, the divergence sum q (log q - log p). Nothing of the size of
the tokens is written. The backward pass makes k, p and q again and writes the gradient of ``projected`` once.

A program takes one frame of one clip and a block of channels. Each sum is taken in an order that only the sizes decide,
without atomics: equal inputs, equal bits, whatever was run or compiled before. Triton is loaded with this module.
"""

from collections.abc import Sequence

import torch
import triton  # pyright: ignore[reportMissingImports] (torch brings it for GPUs alone)
import triton.language as tl  # pyright: ignore[reportMissingImports]

BLOCK_S, BLOCK_D, WARPS = 8, 128, 4


@triton.jit
def _tanh(x):
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def _inside(s, d, S: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Which elements of a block exist. Where the width is whole blocks only the positions are looked at."""
    inside = (s < S)[:, None]
    if D % BLOCK_D != 0:
        inside = inside & (d < D)[None, :]
    return inside


@triton.jit
def attend_kernel(projected, tokens, audio_key, bias, old_key, old_audio, total, key, value, old_total, divergence,
                  F: tl.constexpr, S: tl.constexpr, D: tl.constexpr, HAS_OLD: tl.constexpr, BLOCK_S: tl.constexpr,
                  BLOCK_D: tl.constexpr):  # fmt: skip
    """Sums over the positions of one frame. Partial sums stay in registers, per row of a block, until the end."""
    frame = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    channel = d < D
    clip = (frame // F) * D + d
    guide = tl.load(audio_key + clip, channel, 0.0)
    shift = tl.load(bias + d, channel, 0.0)
    sum_w = tl.zeros([BLOCK_S, BLOCK_D], tl.float32)
    sum_wk = tl.zeros([BLOCK_S, BLOCK_D], tl.float32)
    sum_wx = tl.zeros([BLOCK_S, BLOCK_D], tl.float32)
    if HAS_OLD:
        old_guide = tl.load(old_audio + clip, channel, 0.0)
        sum_old = tl.zeros([BLOCK_S, BLOCK_D], tl.float32)
        sum_apart = tl.zeros([BLOCK_S, BLOCK_D], tl.float32)
    for start in range(0, S, BLOCK_S):
        s = start + tl.arange(0, BLOCK_S)
        inside = _inside(s, d, S, D, BLOCK_D)
        at = frame * S * D + s[:, None] * D + d[None, :]
        k = _tanh(tl.load(projected + at, inside, 0.0).to(tl.float32) + shift[None, :])
        x = tl.load(tokens + at, inside, 0.0).to(tl.float32)
        score = k * guide[None, :]
        w = tl.where(inside, tl.exp(score), 0.0)  # scores lie in (-1, 1): the softmax needs no maximum
        sum_w += w
        sum_wk += w * k
        sum_wx += w * x
        if HAS_OLD:
            old_score = tl.load(old_key + at, inside, 0.0).to(tl.float32) * old_guide[None, :]
            old_w = tl.where(inside, tl.exp(old_score), 0.0)
            sum_old += old_w
            sum_apart += old_w * (old_score - score)
    out = frame * D + d
    all_w = tl.where(channel, tl.sum(sum_w, 0), 1.0)
    tl.store(total + out, all_w, channel)
    tl.store(key + out, tl.sum(sum_wk, 0) / all_w, channel)
    tl.store(value + out, tl.sum(sum_wx, 0) / all_w, channel)
    if HAS_OLD:
        # log q - log p = old score - score + log total - log old total. Where both networks agree, each part is 0.
        all_old = tl.where(channel, tl.sum(sum_old, 0), 1.0)
        tl.store(old_total + out, all_old, channel)
        tl.store(divergence + out, tl.sum(sum_apart, 0) / all_old + tl.log(all_w / all_old), channel)


@triton.jit
def gradients_kernel(projected, tokens, audio_key, bias, old_key, old_audio, total, key, value, old_total, d_key,
                     d_value, d_divergence, d_projected, d_audio, d_bias, F: tl.constexpr, S: tl.constexpr,
                     D: tl.constexpr, HAS_OLD: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr):  # fmt: skip
    """Gradients of one frame. ``d_projected`` may be ``projected``: each element is read before it is written."""
    frame = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    channel = d < D
    clip, out = (frame // F) * D + d, frame * D + d
    guide = tl.load(audio_key + clip, channel, 0.0)
    shift = tl.load(bias + d, channel, 0.0)
    scale = 1 / tl.load(total + out, channel, 1.0)
    dk = tl.load(d_key + out, channel, 0.0)
    dv = tl.load(d_value + out, channel, 0.0)
    # The mean of dp = dk k + dv x under p.
    mean = dk * tl.load(key + out, channel, 0.0) + dv * tl.load(value + out, channel, 0.0)
    sum_audio = tl.zeros([BLOCK_S, BLOCK_D], tl.float32)
    sum_bias = tl.zeros([BLOCK_S, BLOCK_D], tl.float32)
    if HAS_OLD:
        old_guide = tl.load(old_audio + clip, channel, 0.0)
        old_scale = 1 / tl.load(old_total + out, channel, 1.0)
        weight = tl.load(d_divergence)
    for start in range(0, S, BLOCK_S):
        s = start + tl.arange(0, BLOCK_S)
        inside = _inside(s, d, S, D, BLOCK_D)
        at = frame * S * D + s[:, None] * D + d[None, :]
        k = _tanh(tl.load(projected + at, inside, 0.0).to(tl.float32) + shift[None, :])
        x = tl.load(tokens + at, inside, 0.0).to(tl.float32)
        p = tl.where(inside, tl.exp(k * guide[None, :]) * scale[None, :], 0.0)
        d_score = p * (dk[None, :] * k + dv[None, :] * x - mean[None, :])
        if HAS_OLD:
            old_score = tl.load(old_key + at, inside, 0.0).to(tl.float32) * old_guide[None, :]
            q = tl.where(inside, tl.exp(old_score) * old_scale[None, :], 0.0)
            d_score += weight * (p - q)
        sum_audio += d_score * k
        gradient = (p * dk[None, :] + d_score * guide[None, :]) * (1 - k * k)
        sum_bias += gradient
        tl.store(d_projected + at, gradient.to(d_projected.dtype.element_ty), inside)
    tl.store(d_audio + out, tl.sum(sum_audio, 0), channel)
    tl.store(d_bias + out, tl.sum(sum_bias, 0), channel)


def attend(
    projected: torch.Tensor,
    tokens: torch.Tensor,
    audio_key: torch.Tensor,
    bias: torch.Tensor,
    old: Sequence[torch.Tensor] | None = None,
    out: Sequence[torch.Tensor] | None = None,
) -> list[torch.Tensor]:
    """Return total, key, value (B, F, D), and with ``old`` (its key and audio key) old_total and divergence as well.

    ``out``: total, key and value to write into. ValueError if a tensor is not contiguous.
    """
    clips, frames, _, width = projected.shape
    _check(projected, tokens, audio_key, bias, *(old or ()), *(out or ()))
    sums = [bias.new_empty(clips, frames, width) for _ in range(2 if out and old else 0 if out else 5 if old else 3)]
    sums = [*(out or ()), *sums]
    unused = projected, audio_key  # of the kernel without an old network, which reads neither
    total, key, value, *old_sums = sums
    _launch(
        attend_kernel,
        projected,
        old is not None,
        (projected, tokens, audio_key, bias, *(old or unused), total, key, value, *(old_sums or (total, total))),
    )
    return sums


def gradients(
    projected: torch.Tensor,
    tokens: torch.Tensor,
    audio_key: torch.Tensor,
    bias: torch.Tensor,
    sums: Sequence[torch.Tensor],
    d_key: torch.Tensor,
    d_value: torch.Tensor,
    old: Sequence[torch.Tensor] | None = None,
    d_divergence: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of ``audio_key`` (B, D) and ``bias`` (D,); that of ``projected`` takes its place in memory.

    ``sums`` is what ``attend`` returned; ``d_divergence`` a scalar tensor, that of each divergence.
    """
    _check(projected, tokens, audio_key, bias, *sums, d_key, d_value, *(old or ()))
    total, key, value, *old_total = sums[:4]
    d_audio, d_bias = torch.empty_like(total), torch.empty_like(total)
    unused = projected, audio_key
    _launch(
        gradients_kernel,
        projected,
        old is not None,
        (
            *(projected, tokens, audio_key, bias, *(old or unused), total, key, value, *(old_total or (total,))),
            *(d_key, d_value, total if old is None else d_divergence, projected, d_audio, d_bias),
        ),
    )
    return d_audio.sum(1), d_bias.sum((0, 1))


def _launch(kernel, projected, has_old, tensors):
    clips, frames, positions, width = projected.shape
    block_d = min(BLOCK_D, triton.next_power_of_2(width))
    grid = clips * frames, triton.cdiv(width, block_d)
    if clips:
        kernel[grid](*tensors, frames, positions, width, has_old, BLOCK_S, block_d, num_warps=WARPS)


def _check(*tensors):
    if not all(tensor.is_contiguous() for tensor in tensors):
        raise ValueError("attention kernels take contiguous tensors only")
