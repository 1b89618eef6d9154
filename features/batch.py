"""A batch of clips.

Shapes: B clips, A width of audio, F frames, S positions, D width of visual tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from features.tokens import Tokens


@dataclass
class Batch:
    """Clips of one step of training or inference; the last ``num_replayed`` of them come from the exemplar memory.

    ``clip`` (B,) indices into the data, ``label`` (B,), ``audio`` (B, A) or None. ``visual``: the clips'
    features.tokens.Tokens, (F, S, D) each (``.tensor()`` has them in one piece), or None; where a learner needs no
    single tokens, each clip's mean as its only one, (1, 1, D). ``index`` (B,): the indices on the device; ``clip`` is
    None in a batch that is known only there, or of clips that are not in the data.
    """

    clip: np.ndarray | None
    label: torch.Tensor
    audio: torch.Tensor | None
    visual: Tokens | None
    num_replayed: int = 0
    index: torch.Tensor = None  # pyright: ignore[reportAssignmentType] (made of clip below)

    def __post_init__(self):
        if self.index is None and self.clip is not None:
            self.index = torch.from_numpy(self.clip).to(None if self.label is None else self.label.device)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def new(self) -> slice:
        """The rows that are not replayed, as a slice."""
        return slice(0, len(self) - self.num_replayed)

    @property
    def replayed(self) -> slice:
        """The rows that come from the exemplar memory, as a slice."""
        return slice(len(self) - self.num_replayed, len(self))
