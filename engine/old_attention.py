"""The frozen network's attention on replayed clips, for the distillation of attention maps (VAD; AV-CIL, ICCV 2023)."""

import torch
from torch.nn import functional as F

from engine.lessons import Lessons


class OldAttentionMaps:
    """The attention maps of the network ``teacher``: kept where memory allows, else made as they are needed."""

    def __init__(self, teacher):
        self.teacher, self.kept = teacher, None

    def keep(self, data, exemplars, batches):
        """Keep the maps of ``exemplars`` if ``data`` (dataloader.IncrementalData) has the memory.

        ``batches(clips)`` brings clips in inference batches.
        """
        mine = data.owned(exemplars)
        if len(mine) and data.tokens.has_room_for(len(mine) * self._bytes_per_clip(data.visual_shape)):
            self.kept = Lessons(mine, self._maps_of(mine, batches), data.device)

    def of(self, batch):
        """OldAttention of one batch."""
        return OldAttention(batch.replayed, lambda rows, tokens: self._maps(batch, rows, tokens))

    @torch.no_grad()
    def _maps(self, batch, rows, tokens):
        if self.kept is not None:
            kept = self.kept(batch.clip[rows])
            return kept["spatial"], kept["temporal"]
        return self._ask(batch.audio[rows], tokens)

    def _ask(self, audio, tokens):
        attended = self.teacher.attention(audio, tokens)
        return attended.spatial_scores.softmax(2), attended.temporal_scores.softmax(1)

    @torch.no_grad()
    def _maps_of(self, clips, batches):
        found = []
        for batch in batches(clips):
            for piece in batch.visual.pieces(batch.audio.device.type):
                found.append(self._ask(batch.audio[batch.visual.batch_rows(piece)], batch.visual.take(piece)))
        spatial, temporal = zip(*found, strict=True)
        return {"spatial": torch.cat(spatial), "temporal": torch.cat(temporal)}

    @staticmethod
    def _bytes_per_clip(shape):
        frames, positions, width = shape
        return 4 * frames * (positions + 1) * width


class OldAttention:
    """Old attention in one batch. ``maps(rows, tokens)`` gives spatial (n, F, S, D) and temporal (n, F, D) maps.

    ``replayed`` are the rows of the batch that are distilled. The forward pass asks for the spatial maps piece by piece
    (model.spatial_attention); the temporal ones are collected on the way.
    """

    def __init__(self, replayed, maps):
        self.replayed, self.maps, self.temporal = replayed, maps, []

    @property
    def count(self):
        return self.replayed.stop - self.replayed.start

    def __call__(self, rows, tokens):
        spatial, temporal = self.maps(rows, tokens)
        self.temporal.append(temporal)
        return spatial

    def temporal_distance(self, scores):
        """KL from the old temporal maps to softmax of ``scores`` (n, F, D), summed over clips and channels."""
        if not self.temporal:
            return scores.sum()  # of no clip: 0
        return F.kl_div(torch.log_softmax(scores, 1), torch.cat(self.temporal), reduction="sum")
