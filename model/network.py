"""The audio-visual network: attention, one projection per sense, and a classifier (AV-CIL, ICCV 2023, section 3)."""

import torch
from torch import nn

from model.attention import audio_guided_attention
from model.heads import GrowingLinear

MODALITIES = ("audio", "visual", "audio-visual")


class AudioVisualNet(nn.Module):
    """Classify a clip by its audio feature (B, A), its visual tokens (B, F, S, D), or both.

    With both, the audio decides which positions and frames of the visual tokens count; the two projected senses are
    added. Audio alone is one projection; visual alone is the projection of the mean token.
    """

    def __init__(self, modality, num_classes, audio_dim=None, visual_dim=None, head=GrowingLinear):
        super().__init__()
        self.modality = modality
        width = audio_dim if modality == "audio" else visual_dim
        # The order of these lines is the order of the random draws: the same seed, the same weights.
        if modality != "visual":
            self.audio_proj = nn.Linear(audio_dim, width)
        if modality != "audio":
            self.visual_proj = nn.Linear(visual_dim, width)
        if modality == "audio-visual":
            self.attn_audio_proj = nn.Linear(audio_dim, visual_dim)
            self.attn_visual_proj = nn.Linear(visual_dim, visual_dim)
        self.classifier = head(width, num_classes)

    def forward(self, audio=None, visual=None):
        """Return a dict with ``logits`` (B, classes) and ``feature`` (B, D), the classifier's input.

        Audio-visual adds ``audio`` and ``visual`` (B, D), the two projected senses, ``pooled`` (B, D), and the
        attention's ``spatial_scores`` (B, F, S, D) and ``temporal_scores`` (B, F, D).
        """
        if self.modality == "audio-visual":
            attended = self.attend(audio, visual)
            return attended._asdict() | self.fuse(torch.relu(self.audio_proj(audio)), attended.pooled)
        if self.modality == "audio":
            feature = torch.relu(self.audio_proj(audio))
        else:
            feature = torch.relu(self.visual_proj(visual.mean((1, 2))))
        return {"feature": feature, "logits": self.classifier(feature)}

    def attend(self, audio, visual):
        """Pool the visual tokens as the audio directs (model.attention.Attended)."""
        audio_key = torch.tanh(self.attn_audio_proj(audio))
        visual_key = torch.tanh(self.attn_visual_proj(visual))
        return audio_guided_attention(audio_key, visual_key, visual)

    def fuse(self, audio, pooled):
        """Classify the sum of the projected ``audio`` (B, D) and the projection of the ``pooled`` tokens (B, D)."""
        visual = torch.relu(self.visual_proj(pooled))
        feature = audio + visual
        return {"audio": audio, "visual": visual, "feature": feature, "logits": self.classifier(feature)}
