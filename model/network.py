"""The audio-visual network: attention, one projection per modality, and a classifier (AV-CIL, ICCV 2023, section 3).

Shapes: B clips, F frames, S positions, D width of visual tokens and of all that is projected, A width of audio.
"""

from typing import Any

import torch
from torch import nn

from features.tokens import Tokens
from model.attention import Attended, audio_guided_attention, project
from model.fast_attention import frozen_attention, pool_tokens
from model.heads import GrowingLinear
from model.sharding import all_reduce, gather_rows, replicated

# Dtype of the matrix products of tokens; None: that of the weights.
PRECISIONS = {"auto": None, "fp32": None, "tf32": None, "bf16": torch.bfloat16}


class AudioVisualNet(nn.Module):
    """Classify a clip by its audio feature (B, A), its visual tokens (B, F, S, D), or both.

    With both, the audio decides which positions and frames of the visual tokens count; the two projected modalities are
    added. Audio alone is one projection; visual alone is the projection of the mean token. ``precision`` is the dtype
    of the matrix products of tokens, by default that of the weights.
    """

    # What forward returns of audio-visual clips, and the methods of the network that some learners call.
    gives = ("logits", "feature", "audio", "visual", "pooled", "spatial_distance", "temporal_distance")
    gives += ("fuse", "attention", "frozen_attention")

    def __init__(
        self,
        modality: str,
        num_classes: int,
        audio_dim: int | None = None,
        visual_dim: int | None = None,
        head: type[nn.Module] = GrowingLinear,
        precision: torch.dtype | None = None,
    ):
        super().__init__()
        self.modality, self.precision = modality, precision
        audio_width, visual_width = audio_dim or 0, visual_dim or 0  # of a modality that there is not: of no use
        width = audio_width if modality == "audio" else visual_width
        # The order of these lines is the order of the random draws: the same seed, the same weights.
        if modality != "visual":
            self.audio_proj = nn.Linear(audio_width, width)
        if modality != "audio":
            self.visual_proj = nn.Linear(visual_width, width)
        if modality == "audio-visual":
            self.attn_audio_proj = nn.Linear(audio_width, visual_width)
            self.attn_visual_proj = nn.Linear(visual_width, visual_width)
        self.classifier = head(width, num_classes)

    def forward(self, audio: Any = None, visual: Any = None, old: Any = None) -> dict[str, torch.Tensor]:
        """Return ``logits`` (B, classes) and ``feature`` (B, D), the classifier's input.

        ``visual``: features.tokens.Tokens. Audio-visual adds ``audio`` and ``visual`` (B, D), the two projected
        modalities, ``pooled`` (B, D), and with ``old`` (methods.avcil.BatchAttention) the ``spatial_distance`` and
        ``temporal_distance`` of attention from the old network's, means over the replayed clips.
        """
        if self.modality == "audio-visual":
            attended = self.attend(audio, visual, old)
            return attended | self.fuse(torch.relu(self.audio_proj(audio)), attended["pooled"])
        if self.modality == "audio":
            feature = torch.relu(self.audio_proj(audio))
        else:
            feature = torch.relu(self.visual_proj(visual.mean()))
        return {"feature": feature, "logits": self.classifier(feature)}

    def attend(self, audio: torch.Tensor, tokens: Tokens, old: Any = None) -> dict[str, torch.Tensor]:
        """Pool the visual tokens as the audio directs: ``pooled`` (B, D), and the distances from ``old`` attention."""
        parameters = self.attn_visual_proj.weight, self.attn_visual_proj.bias, self.audio_key(audio)
        weight, bias, key = (replicated(value, tokens.group) for value in parameters)
        key = tokens.rows(key)
        replayed = None if old is None else tokens.first_replayed(old.replayed)
        attended = pool_tokens(key, weight, bias, tokens, self.precision, old, replayed)
        out = {"pooled": gather_rows(attended.pooled, tokens)}
        if old is not None:
            distances = {"spatial": attended.distance, "temporal": old.temporal_distance(attended.scores)}
            for name, distance in distances.items():
                out[f"{name}_distance"] = all_reduce(distance, tokens.group) / old.count
        return out

    def audio_key(self, audio: torch.Tensor) -> torch.Tensor:
        """What the audio looks for in each channel, (B, D) in (-1, 1)."""
        return torch.tanh(self.attn_audio_proj(audio))

    def attention(self, audio: torch.Tensor, visual: torch.Tensor) -> Attended:
        """The attention with all its scores (model.attention.Attended), of tokens in one tensor (B, F, S, D)."""
        projection = self.attn_visual_proj
        visual_key = project(visual, projection.weight, projection.bias, self.precision)
        whole = projection.bias.dtype
        return audio_guided_attention(self.audio_key(audio), visual_key.to(whole), visual.to(whole))

    def frozen_attention(self, audio: torch.Tensor, visual: torch.Tensor) -> dict[str, torch.Tensor]:
        """The attention of this network, which does not learn, on tokens (B, F, S, D), for others to compare with."""
        projection = self.attn_visual_proj
        return frozen_attention(self.audio_key(audio), projection.weight, projection.bias, visual, self.precision)

    def fuse(self, audio: torch.Tensor, pooled: torch.Tensor) -> dict[str, torch.Tensor]:
        """Classify the sum of the projected ``audio`` (B, D) and the projection of the ``pooled`` tokens (B, D)."""
        visual = torch.relu(self.visual_proj(pooled))
        feature = audio + visual
        return {"audio": audio, "visual": visual, "feature": feature, "logits": self.classifier(feature)}
