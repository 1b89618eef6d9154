"""Audio-guided spatial and temporal attention over visual tokens (AV-CIL, ICCV 2023, section 3.2).

Shapes: B clips, F frames, S positions, D width.
"""

from typing import NamedTuple

import torch
from torch.nn import functional as F


class Attended(NamedTuple):
    """``pooled`` (B, D), and the scores whose softmax are the attention maps.

    ``spatial_scores`` (B, F, S, D): softmax over S is the spatial attention of each frame, one map per channel.
    ``temporal_scores`` (B, F, D): softmax over F is the temporal attention, one map per channel.
    """

    pooled: torch.Tensor
    spatial_scores: torch.Tensor
    temporal_scores: torch.Tensor


def audio_guided_attention(audio_key: torch.Tensor, visual_key: torch.Tensor, visual: torch.Tensor) -> Attended:
    """Pool visual tokens by what the audio points at.

    ``audio_key`` (B, D) and ``visual_key`` (B, F, S, D) lie in (-1, 1); ``visual`` (B, F, S, D) are the raw tokens:
    attention weighs these, not their projection.
    """
    spatial_scores = visual_key * audio_key[:, None, None]
    spatial = torch.softmax(spatial_scores, dim=2)
    frame_key = (spatial * visual_key).sum(2)
    temporal_scores = frame_key * audio_key[:, None]
    temporal = torch.softmax(temporal_scores, dim=1)
    pooled = (temporal * (spatial * visual).sum(2)).sum(1)
    return Attended(pooled, spatial_scores, temporal_scores)


def project(
    tokens: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, precision: torch.dtype | None = None
) -> torch.Tensor:
    """Keys ``tanh(W x + b)`` of tokens (n, F, S, D); the dtype is that of ``bias``, or ``precision``."""
    if precision is None:
        return F.linear(tokens.to(bias.dtype), weight, bias).tanh_()
    return squashed(F.linear(tokens.to(precision), weight.to(precision)), bias)


def squashed(projected: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """``tanh(projected + bias)``: in the dtype of ``projected`` on a GPU, of ``bias`` on a CPU, which works in that.

    On a CPU by the logistic function, within 2e-7: a quarter of the time that tanh itself takes there.
    """
    if projected.is_cuda:
        return torch.tanh(projected.to(bias.dtype) + bias).to(projected.dtype)
    return torch.add(2 * bias, projected, alpha=2).sigmoid_().mul_(2).sub_(1)
