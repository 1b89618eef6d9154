"""Audio-guided spatial and temporal attention over visual tokens (AV-CIL, ICCV 2023, section 3.2).

Shapes: B clips, F frames, S positions, D width.
"""

from typing import NamedTuple

import torch


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
