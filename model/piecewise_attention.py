"""Audio-guided attention on a CPU: a piece of the batch at a time, and of its single elements a block at a time.

A piece goes through one product of matrices. Its single elements then go through softmax and sums in blocks that stay
in a core's cache meanwhile: a pass over a block costs a third of one over a piece, a tenth of one over the batch. The
backward pass needs the tokens again, their keys, and small tensors (derivation at ``_gradients``).

Shapes: B clips, F frames, S positions, D width; n of the clips, those whose tokens this process holds, or fewer.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from model.attention import squashed
from utils.devices import emulates_bf16

TOKENS_IN_BLOCK = {"cpu": 128, "cuda": 65536}


class PiecewiseAttention(torch.autograd.Function):
    """What model.fast_attention.pool_tokens returns, for the same arguments; ``learns``: a backward pass is to come."""

    @staticmethod
    def forward(ctx, audio_key, weight, bias, tokens, precision, teacher: Any, replayed, learns):
        frames, positions, width = tokens.shape
        count, cut = tokens.num_local, tokens.num_local if teacher is None else replayed
        total, key, value, temporal = (bias.new_empty(count, frames, width) for _ in range(4))
        pooled, distance = torch.empty_like(audio_key), bias.new_zeros(())
        scores = bias.new_empty(count - cut, frames, width)
        kept = []  # of each piece its keys and the teacher's maps, for the backward pass
        narrow = weight if precision is None else weight.to(precision)
        for piece in tokens.pieces(weight.device.type, replayed):
            here, x = slice(piece.start, piece.stop), tokens.take(piece)
            keys = _keys(x.to(narrow.dtype), narrow, bias)
            old = parts = None
            if teacher is not None and piece.start >= cut:
                old = teacher(tokens.batch_rows(piece), x)["spatial"]
                parts = torch.empty_like(old)
            if learns:
                kept.append((keys, old))
            for block, rows in _blocks(piece, frames * positions, weight.device.type):
                visual_key = keys[block].to(bias.dtype)
                _attend(audio_key[rows], visual_key, x[block], total[rows], key[rows], value[rows])
                if old is not None and parts is not None:
                    _compare(old[block], audio_key[rows], visual_key, total[rows], parts[block])
            of_frames = key[here] * audio_key[here, None]
            if parts is not None:
                distance += parts.sum()
                scores[piece.start - cut : piece.stop - cut] = of_frames
            temporal[here] = of_frames.softmax(1)
            torch.sum(temporal[here] * value[here], 1, out=pooled[here])
        ctx.save_for_backward(audio_key, weight, bias, total, key, value, temporal)
        ctx.tokens, ctx.precision, ctx.replayed, ctx.cut, ctx.kept = tokens, precision, replayed, cut, kept
        ctx.set_materialize_grads(False)
        return pooled, scores, distance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_pooled: Any, d_scores: Any, d_distance: Any):
        audio_key, weight, bias, total, key, value, temporal = ctx.saved_tensors
        d_weight, d_bias, d_audio = torch.zeros_like(weight), torch.zeros_like(bias), torch.empty_like(audio_key)
        d_pooled = torch.zeros_like(audio_key) if d_pooled is None else d_pooled
        d_distance = bias.new_zeros(()) if d_distance is None else d_distance
        gradients = _gradients if ctx.precision is None else _gradients_in_fewer_passes
        for piece, (keys, old) in zip(ctx.tokens.pieces(weight.device.type, ctx.replayed), ctx.kept, strict=True):
            here, x = slice(piece.start, piece.stop), ctx.tokens.take(piece)
            of_scores = None
            if d_scores is not None and piece.start >= ctx.cut:
                of_scores = d_scores[piece.start - ctx.cut : piece.stop - ctx.cut]
            of_frames = audio_key[here], key[here], value[here], temporal[here]
            d_key, d_value, d_audio_of_frames = _gradients_of_frames(d_pooled[here], of_scores, *of_frames)
            d_projection = torch.empty_like(x, dtype=ctx.precision or bias.dtype)
            for block, rows in _blocks(piece, x.shape[1] * x.shape[2], weight.device.type):
                small = audio_key[rows], total[rows], key[rows], value[rows], d_key[block], d_value[block]
                of_old = None if old is None else old[block], d_distance
                d_audio[rows] = gradients(x[block], keys[block], *small, *of_old, d_projection[block])
            d_audio[here] += d_audio_of_frames
            d_projection, x = d_projection.flatten(0, 2), x.flatten(0, 2).to(d_projection.dtype)
            d_bias += d_projection.sum(0, dtype=bias.dtype)
            if ctx.precision is None:
                d_weight.addmm_(d_projection.T, x)
            else:
                d_weight += d_projection.T @ x
        ctx.kept = None  # the graph may live until the next one is built
        return d_audio, d_weight, d_bias, None, None, None, None, None


def _blocks(piece: range, tokens: int, device_type: str) -> Iterator[tuple[slice, slice]]:
    """Blocks of a piece of clips of so many tokens: their rows within the piece, and within the batch."""
    size = max(1, TOKENS_IN_BLOCK[device_type] // tokens)
    for start in range(0, len(piece), size):
        stop = min(start + size, len(piece))
        yield slice(start, stop), slice(piece.start + start, piece.start + stop)


def _keys(x, weight, bias):
    """``tanh(W x + b)`` in the dtype of ``x`` and ``weight``."""
    if x.dtype == bias.dtype:
        return F.linear(x, weight, bias).tanh_()
    if x.is_cuda or emulates_bf16(x.device):
        return squashed(F.linear(x, weight), bias).to(x.dtype)
    # oneDNN's product with what comes after it, before it rounds: a pass instead of six. There is no public name.
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "tanh", [], "")


def _attend(audio_key, visual_key, x, total, key, value):
    """Sum over positions of ``exp(score)``, and the means of keys and tokens that it weighs, into (n, F, D) each."""
    # Scores lie in (-1, 1): the softmax needs no maximum.
    weights = (visual_key * audio_key[:, None, None]).exp_()
    torch.sum(weights, 2, out=total)
    torch.sum(weights * x.to(weights.dtype), 2, out=value).div_(total)
    torch.sum(weights.mul_(visual_key), 2, out=key).div_(total)


def _compare(old, audio_key, visual_key, total, out):
    """What KL(old || new) sums up; log p = score - log(total). No map has a 0, since scores lie in (-1, 1)."""
    log_new = (visual_key * audio_key[:, None, None]).sub_(total.log()[:, :, None])
    torch.log(old, out=out).sub_(log_new).mul_(old)


def _gradients_of_frames(d_pooled, d_scores, audio_key, key, value, temporal):
    """Gradients of the frames' keys and values (n, F, D), and of the audio key (n, D), as far as it weighs frames."""
    upstream = d_pooled[:, None]
    softmax_backward = torch._softmax_backward_data  # pyright: ignore[reportPrivateImportUsage] (there is no public one)
    found = softmax_backward(upstream * value, temporal, 1, value.dtype)
    if d_scores is not None:
        found += d_scores
    return found * audio_key[:, None], upstream * temporal, (found * key).sum(1)


def _gradients(x, visual_key, audio_key, total, key, value, d_key, d_value, old, d_distance, out):
    """Write the gradient of the projection before tanh to ``out`` (n, F, S, D); return that of the audio key (n, D).

    With p the attention, k the keys, x the tokens: dp = d_key k + d_value x, whose p-weighted sum over positions is
    ``inner``; of the softmax d_score = p (dp - inner), of the KL d_score = d_distance (p - old).
    """
    visual_key, x = visual_key.to(audio_key.dtype), x.to(audio_key.dtype)
    inner = d_key * key + d_value * value
    attention = (visual_key * audio_key[:, None, None]).exp_().div_(total[:, :, None])
    d_score = (visual_key * d_key[:, :, None]).addcmul_(d_value[:, :, None], x).sub_(inner[:, :, None]).mul_(attention)
    if old is not None:
        d_score += d_distance * (attention - old)
    d_visual_key = attention.mul_(d_key[:, :, None]).addcmul_(d_score, audio_key[:, None, None])
    torch.mul(d_visual_key, 1 - visual_key.square(), out=out)
    return d_score.mul_(visual_key).sum((1, 2))


def _gradients_in_fewer_passes(x, visual_key, audio_key, total, key, value, d_key, d_value, old, d_distance, out):
    """The same rounded otherwise, beside products in 16 bits; in float32 seeds keep giving the rows they gave."""
    visual_key, x, audio_key = visual_key.to(audio_key.dtype), x.to(audio_key.dtype), audio_key[:, None, None]
    offset = (d_key * key + d_value * value).neg_()
    if old is not None:
        offset += d_distance
    attention = torch.addcmul(total.log().neg_()[:, :, None], visual_key, audio_key).exp_()
    d_score = torch.addcmul(offset[:, :, None], visual_key, d_key[:, :, None]).addcmul_(x, d_value[:, :, None])
    d_score.mul_(attention)
    if old is not None:
        d_score.addcmul_(old, d_distance, value=-1)
    d_visual_key = attention.mul_(d_key[:, :, None]).addcmul_(d_score, audio_key)
    out.copy_(torch.ops.aten.tanh_backward(d_visual_key, visual_key))
    return d_score.mul_(visual_key).sum((1, 2))
