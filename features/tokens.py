"""The visual tokens of a batch, taken piece by piece, so that they need not be in one place at once; sizes of features.

Shapes: B clips, F frames, S positions, D width; n clips of a piece, or of this process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

# Tokens in a piece: few enough for a CPU's cache, enough to fill a GPU.
TOKENS_AT_ONCE = {"cpu": 512, "cuda": 65536}


@dataclass
class FeatureSizes:
    """What a learner must know of features: width A of audio, shape (F, S, D) of visual tokens (None: unused)."""

    audio_dim: int | None = None
    visual_shape: tuple[int, int, int] | None = None

    @property
    def visual_dim(self) -> int | None:
        return None if self.visual_shape is None else self.visual_shape[-1]


class Tokens:
    """``count`` clips' tokens of ``shape`` (F, S, D); ``take(rows)`` returns those of some rows as (n, F, S, D).

    ``local_rows`` (an array) are the rows whose tokens this process holds, ascending, when several processes share the
    clips (utils.devices.Group ``group``); otherwise all. A clip's mean token is Tokens of one frame and position.
    """

    def __init__(
        self, take: Callable, count: int, shape: tuple, local_rows: np.ndarray | None = None, group: Any = None
    ):
        self.take, self.count, self.shape = take, count, tuple(shape)
        self.local_rows, self.group = local_rows, group

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Tokens:
        """The tokens in a tensor (B, F, S, D)."""
        return cls(lambda rows: tensor[rows.start : rows.stop], len(tensor), tensor.shape[1:])

    def __len__(self) -> int:
        return self.count

    @property
    def num_local(self) -> int:
        """How many clips' tokens this process holds."""
        return self.count if self.local_rows is None else len(self.local_rows)

    def rows(self, values: torch.Tensor) -> torch.Tensor:
        """The rows of a tensor (B, ...) that belong to the tokens held by this process."""
        return values if self.local_rows is None else values[self.local_rows]

    def batch_rows(self, piece: range) -> np.ndarray:
        """The rows of the batch that a range of the rows held by this process stands for."""
        rows = np.arange(piece.start, piece.stop)
        return rows if self.local_rows is None else self.local_rows[rows]

    def first_replayed(self, replayed: slice) -> int:
        """Where, among the rows held by this process, those of the slice ``replayed`` begin."""
        if self.local_rows is None:
            return replayed.start
        return int((self.local_rows < replayed.start).sum())

    def pieces(self, device_type: str, cut: int | None = None) -> list[range]:
        """Ranges of the rows held by this process, small enough to work on at once; none crosses ``cut``."""
        size = max(1, TOKENS_AT_ONCE[device_type] // (self.shape[0] * self.shape[1]))
        ends = [0, self.num_local] if cut is None else [0, cut, self.num_local]
        return [
            range(start, min(start + size, stop))
            for begin, stop in zip(ends, ends[1:], strict=False)
            for start in range(begin, stop, size)
        ]

    def mean(self) -> torch.Tensor:
        """The mean token of each clip, (B, D); all clips' tokens are held by this process."""
        pieces = [self.take(piece).flatten(1, 2) for piece in self.pieces("cuda")]
        return torch.cat([piece[:, 0] if piece.shape[1] == 1 else piece.mean(1) for piece in pieces])

    def tensor(self) -> torch.Tensor:
        """All of them at once, (B, F, S, D)."""
        return torch.cat([self.take(piece) for piece in self.pieces("cuda")])
