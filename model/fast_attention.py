"""Audio-guided spatial attention without its large intermediates: the same numbers as model.attention.

The plain form keeps some nine tensors of the size of the tokens for the backward pass. On a CPU a piece of the batch at
a time goes through projection, softmax and both weighted sums while it is in cache; the backward pass needs the tokens
again, their projection, and small tensors (derivation at ``_gradients``). On a GPU a whole batch goes through one
matrix product and one kernel each way (model.attention_kernels). The definition is
model.attention.audio_guided_attention; tests hold both forms to it, values and gradients.

Shapes: B clips, F frames, S positions, D width; n of the clips, those whose tokens this process holds.
"""

import functools
import importlib
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from features.tokens import Tokens
from model.attention import audio_guided_attention


@functools.cache
def kernels() -> ModuleType | None:
    """model.attention_kernels, tried out on the current GPU; None, after a warning, where Triton does not work."""
    try:
        module = importlib.import_module("model.attention_kernels")
        projected, audio_key = torch.zeros(1, 1, 1, 16, device="cuda"), torch.zeros(1, 16, device="cuda")
        module.attend(projected, projected, audio_key, audio_key[0])
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # no Triton, no C compiler, a GPU it does not know: it fails in many ways
        reason = f"{type(error).__name__}: {str(error)[:120]}"
        warnings.warn(f"Triton does not work here, attention takes the slow form ({reason})", stacklevel=2)
        return None
    return module


def uses_kernels(bias: torch.Tensor) -> bool:
    """Whether attention with this ``bias`` runs through the kernels: float32 on a GPU where Triton works."""
    return bias.is_cuda and bias.dtype == torch.float32 and kernels() is not None


def working_kernels() -> ModuleType:
    """The same, where ``uses_kernels`` has said that they work."""
    module = kernels()
    assert module is not None
    return module


class SpatialAttention(NamedTuple):
    """``key`` and ``value`` (B, F, D): projected and raw tokens, summed over positions by attention.

    ``distance``: KL from the teacher's maps to these, summed over clips, frames and channels; 0 without a teacher.
    """

    key: torch.Tensor
    value: torch.Tensor
    distance: torch.Tensor


def spatial_attention(
    audio_key: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    tokens: Tokens,
    precision: torch.dtype | None = None,
    teacher: Callable | None = None,
    replayed: int | None = None,
) -> SpatialAttention:
    """Attend to the positions of each frame by audio (AV-CIL, ICCV 2023, eq. 1 and 2).

    ``audio_key`` (n, D) in (-1, 1) for the n clips whose ``tokens`` (features.tokens.Tokens) are here; ``weight``
    (D, D) and ``bias`` (D,) project tokens to keys, before tanh. ``precision``: dtype of the matrix products, by
    default that of the weight. ``teacher(rows, tokens)`` gives what ``frozen_attention`` of the old network does for
    rows from ``replayed`` on.
    """
    learns = torch.is_grad_enabled()
    form = _WholeAttention if uses_kernels(bias) else _PiecewiseAttention
    return SpatialAttention(*form.apply(audio_key, weight, bias, tokens, precision, teacher, replayed, learns))


def frozen_attention(
    audio_key: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    tokens: torch.Tensor,
    precision: torch.dtype | None = None,
) -> dict[str, torch.Tensor]:
    """The attention of a network that does not learn, to be kept and compared with; a row per clip.

    ``tokens`` (n, F, S, D) and the rest as of ``spatial_attention``. ``temporal`` (n, F, D) are the temporal maps. The
    spatial maps are ``spatial`` (n, F, S, D), or for the kernels their ``key`` (n, F, S, D), in 16 bits beside 16-bit
    products, and ``audio_key`` (n, D), of which they are made anew: half the size.
    """
    if not uses_kernels(bias):
        visual_key = project(tokens, weight, bias, precision)
        attended = audio_guided_attention(audio_key, visual_key.to(bias.dtype), tokens.to(bias.dtype))
        return {"spatial": attended.spatial_scores.softmax(2), "temporal": attended.temporal_scores.softmax(1)}
    dtype = precision or weight.dtype
    projected = F.linear(tokens.to(dtype), weight.to(dtype))
    frame_key = working_kernels().attend(projected, tokens.contiguous(), audio_key, bias)[1]
    # Keys lie in (-1, 1), where float16 has eight times the steps of bfloat16.
    keys = (projected + bias).tanh_().to(torch.float16 if precision else bias.dtype)
    return {"key": keys, "audio_key": audio_key, "temporal": (frame_key * audio_key[:, None]).softmax(1)}


def project(
    tokens: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, precision: torch.dtype | None = None
) -> torch.Tensor:
    """Keys ``tanh(W x + b)`` of tokens (n, F, S, D); the dtype is that of ``bias``, or ``precision``."""
    if precision is None:
        return F.linear(tokens.to(bias.dtype), weight, bias).tanh_()
    return _squashed(F.linear(tokens.to(precision), weight.to(precision)), bias)


class _PiecewiseAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, audio_key, weight, bias, tokens, precision, teacher: Any, replayed, learns):
        frames, positions, width = tokens.shape
        shape, cut = (tokens.num_local, frames, positions, width), tokens.num_local if teacher is None else replayed
        # Whole tensors, filled piece by piece: many small ones would leave the memory in pieces as well.
        sums = [bias.new_empty(tokens.num_local, frames, width) for _ in range(3)]
        keys = bias.new_empty(shape if learns else 0, dtype=precision)
        maps = bias.new_empty((shape[0] - cut, *shape[1:]) if learns else 0)
        frozen, distance = weight if precision is None else weight.to(precision), bias.new_zeros(())
        for piece in tokens.pieces(weight.device.type, replayed):
            here = slice(piece.start, piece.stop)
            x = tokens.take(piece)
            visual_key = project(x, frozen, bias, precision)
            for whole, part in zip(sums, _attend(audio_key[here], visual_key, x), strict=True):
                whole[here] = part
            if teacher is not None and piece.start >= cut:
                old = teacher(tokens.batch_rows(piece), x)["spatial"]
                distance += _distance(old, audio_key[here], visual_key, sums[0][here])
                if learns:
                    maps[piece.start - cut : piece.stop - cut] = old
            if learns:
                keys[here] = visual_key
        total, key, value = sums
        ctx.save_for_backward(audio_key, weight, bias, total, key, value)
        ctx.tokens, ctx.precision, ctx.replayed, ctx.cut = tokens, precision, replayed, cut
        ctx.keys, ctx.maps = keys, maps
        return key, value, distance

    @staticmethod
    @once_differentiable
    def backward(ctx, d_key, d_value, d_distance):
        audio_key, weight, bias, total, key, value = ctx.saved_tensors
        d_weight, d_bias, d_audio = torch.zeros_like(weight), torch.zeros_like(bias), torch.empty_like(audio_key)
        inner = d_key * key + d_value * value
        for piece in ctx.tokens.pieces(weight.device.type, ctx.replayed):
            here = slice(piece.start, piece.stop)
            old = ctx.maps[piece.start - ctx.cut : piece.stop - ctx.cut] if piece.start >= ctx.cut else None
            visual_key = ctx.keys[here]
            x = ctx.tokens.take(piece)
            small = (audio_key[here], total[here], d_key[here], d_value[here], inner[here])
            d_projection, bias_part, d_audio[here] = _gradients(x, visual_key, *small, old, d_distance)
            d_bias += bias_part
            x = x.flatten(0, 2).to(d_projection.dtype)
            if ctx.precision is None:
                d_weight.addmm_(d_projection.T, x)
            else:
                d_weight += d_projection.T @ x
        ctx.keys = ctx.maps = None  # the graph may live until the next one is built
        return d_audio, d_weight, d_bias, None, None, None, None, None


class _WholeAttention(torch.autograd.Function):
    """The form for GPUs: each clip's tokens are taken once, kept with their projection, and go through two kernels."""

    @staticmethod
    def forward(ctx, audio_key, weight, bias, tokens, precision, teacher: Any, replayed, learns):
        frames, _, width = tokens.shape
        cut, dtype = tokens.num_local if teacher is None else replayed, precision or weight.dtype
        x = tokens.take(range(tokens.num_local)).contiguous()
        projected = F.linear(x.to(dtype), weight.to(dtype))
        sums = [bias.new_empty(tokens.num_local, frames, width) for _ in range(3)]
        parts: list[tuple[slice, Any, Any]] = [(slice(0, cut), None, ())]
        distance = bias.new_zeros(())
        working_kernels().attend(*_rows(slice(0, cut), projected, x, audio_key), bias, out=_rows(slice(0, cut), *sums))
        if teacher is not None and cut < tokens.num_local:
            rows = slice(cut, tokens.num_local)
            # A slice where it can be one: indices would have to be copied to the device.
            old = teacher(rows if tokens.local_rows is None else tokens.local_rows[rows], x[rows])
            old = old["key"], old["audio_key"]
            kept = working_kernels().attend(*_rows(rows, projected, x, audio_key), bias, old, _rows(rows, *sums))
            parts.append((rows, old, kept[3:4]))
            distance = kept[4].sum()
        if learns:
            ctx.save_for_backward(audio_key, weight, bias, *sums)
            ctx.x, ctx.projected, ctx.parts = x, projected, parts
        return *sums[1:], distance

    @staticmethod
    @once_differentiable
    def backward(ctx, d_key, d_value, d_distance):
        audio_key, weight, bias, *sums = ctx.saved_tensors
        d_audio, d_bias = torch.empty_like(audio_key), torch.zeros_like(bias)
        d_key, d_value = d_key.contiguous(), d_value.contiguous()
        projected, x = ctx.projected, ctx.x
        for rows, old, old_total in ctx.parts:
            part = _rows(rows, projected, x, audio_key)
            upstream = _rows(rows, d_key, d_value)
            found = working_kernels().gradients(
                *part, bias, [*_rows(rows, *sums), *old_total], *upstream, old, d_distance
            )
            d_audio[rows] = found[0]
            d_bias += found[1]
        ctx.x = ctx.projected = ctx.parts = None  # the graph may live until the next one is built
        # The projection's gradient now lies where the projection was.
        narrow = {} if projected.dtype == weight.dtype else {"out_dtype": weight.dtype}
        d_weight = torch.mm(projected.flatten(0, 2).T, x.flatten(0, 2).to(projected.dtype), **narrow)
        return d_audio, d_weight, d_bias, None, None, None, None, None


def _rows(rows, *tensors):
    return [tensor[rows] for tensor in tensors]


def _squashed(projected, bias):
    """``tanh(projected + bias)``: in the dtype of ``projected`` on a GPU, of ``bias`` on a CPU, which works in that.

    On a CPU by the logistic function, within 2e-7: a quarter of the time that tanh itself takes there.
    """
    if projected.is_cuda:
        return torch.tanh(projected.to(bias.dtype) + bias).to(projected.dtype)
    return torch.add(2 * bias, projected, alpha=2).sigmoid_().mul_(2).sub_(1)


def _attend(audio_key, visual_key, x):
    """Sum over positions of ``exp(score)``, and the means of keys and tokens that it weighs: each (n, F, D)."""
    visual_key, x = visual_key.to(audio_key.dtype), x.to(audio_key.dtype)
    # Scores lie in (-1, 1): the softmax needs no maximum.
    weights = (visual_key * audio_key[:, None, None]).exp_()
    total = weights.sum(2)
    value = (weights * x).sum(2).div_(total)
    return total, weights.mul_(visual_key).sum(2).div_(total), value


def _distance(old, audio_key, visual_key, total):
    """KL(old || new) summed over a piece; log p = score - log(total). No map has a 0, since scores lie in (-1, 1)."""
    log_new = (visual_key.to(audio_key.dtype) * audio_key[:, None, None]).sub_(total.log()[:, :, None])
    return (old.log() - log_new).mul_(old).sum()


def _gradients(x, visual_key, audio_key, total, d_key, d_value, inner, old, d_distance):
    """Gradients of the projection before tanh (n * F * S, D), in the dtype of the keys, of its bias and the audio key.

    With p the attention, k the keys, x the tokens: dp = d_key k + d_value x, whose p-weighted sum over positions is
    ``inner``; of the softmax d_score = p (dp - inner), of the KL d_score = d_distance (p - old).
    """
    narrow, visual_key, x = visual_key.dtype, visual_key.to(audio_key.dtype), x.to(audio_key.dtype)
    attention = (visual_key * audio_key[:, None, None]).exp_().div_(total[:, :, None])
    d_score = (visual_key * d_key[:, :, None]).addcmul_(d_value[:, :, None], x).sub_(inner[:, :, None]).mul_(attention)
    if old is not None:
        d_score += d_distance * (attention - old)
    d_audio = (d_score * visual_key).sum((1, 2))
    d_visual_key = attention.mul_(d_key[:, :, None]).addcmul_(d_score, audio_key[:, None, None])
    d_projection = d_visual_key.mul_(1 - visual_key.square()).flatten(0, 2)
    return d_projection.to(narrow), d_projection.sum(0), d_audio
