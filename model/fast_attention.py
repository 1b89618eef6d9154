"""Audio-guided spatial attention without its large intermediates: the same numbers as model.attention.

The plain form keeps some nine tensors of the size of the tokens for the backward pass. On a CPU the batch goes through
projection, softmax and sums piece by piece (model.piecewise_attention). On a GPU a whole batch goes through one matrix
product and one kernel each way (model.attention_kernels). The definition is model.attention.audio_guided_attention;
tests hold both forms to it, values and gradients.

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
from model.attention import project
from model.piecewise_attention import PiecewiseAttention


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


class PooledTokens(NamedTuple):
    """``pooled`` (B, D): tokens, summed over positions and frames by attention.

    Of the replayed clips, for comparison with the teacher's maps: ``scores`` (n, F, D), whose softmax over frames are
    the temporal maps, and ``distance``, KL from the teacher's spatial maps to these, summed over clips, frames and
    channels. Without a teacher none and 0.
    """

    pooled: torch.Tensor
    scores: torch.Tensor
    distance: torch.Tensor


def pool_tokens(
    audio_key: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    tokens: Tokens,
    precision: torch.dtype | None = None,
    teacher: Callable | None = None,
    replayed: int | None = None,
) -> PooledTokens:
    """Attend to the positions of each frame and to frames by audio (AV-CIL, ICCV 2023, eq. 1 to 4).

    ``audio_key`` (n, D) in (-1, 1) for the n clips whose ``tokens`` (features.tokens.Tokens) are here; ``weight``
    (D, D) and ``bias`` (D,) project tokens to keys, before tanh. ``precision``: dtype of the matrix products, by
    default that of the weight. ``teacher(rows, tokens)`` gives what ``frozen_attention`` of the old network does for
    rows from ``replayed`` on.
    """
    arguments = audio_key, weight, bias, tokens, precision, teacher, replayed, torch.is_grad_enabled()
    if not uses_kernels(bias):
        return PooledTokens(*PiecewiseAttention.apply(*arguments))
    key, value, distance = _WholeAttention.apply(*arguments)
    scores = key * audio_key[:, None]
    pooled = (torch.softmax(scores, 1) * value).sum(1)
    return PooledTokens(pooled, scores[len(scores) if teacher is None else replayed :], distance)


def frozen_attention(
    audio_key: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    tokens: torch.Tensor,
    precision: torch.dtype | None = None,
) -> dict[str, torch.Tensor]:
    """The attention of a network that does not learn, to be kept and compared with; a row per clip.

    ``tokens`` (n, F, S, D) and the rest as of ``pool_tokens``. ``temporal`` (n, F, D) are the temporal maps. The
    spatial maps are ``spatial`` (n, F, S, D), or for the kernels their ``key`` (n, F, S, D), in 16 bits beside 16-bit
    products, and ``audio_key`` (n, D), of which they are made anew: half the size.
    """
    if not uses_kernels(bias):
        visual_key = project(tokens, weight, bias, precision)
        spatial = (visual_key * audio_key[:, None, None]).softmax(2)
        return {"spatial": spatial, "temporal": ((spatial * visual_key).sum(2) * audio_key[:, None]).softmax(1)}
    dtype = precision or weight.dtype
    projected = F.linear(tokens.to(dtype), weight.to(dtype))
    frame_key = working_kernels().attend(projected, tokens.contiguous(), audio_key, bias)[1]
    # Keys lie in (-1, 1), where float16 has eight times the steps of bfloat16.
    keys = (projected + bias).tanh_().to(torch.float16 if precision else bias.dtype)
    return {"key": keys, "audio_key": audio_key, "temporal": (frame_key * audio_key[:, None]).softmax(1)}


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
