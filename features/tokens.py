"""The visual tokens of a batch, taken piece by piece, so that they need not be in one place at once."""

import numpy as np
import torch

# Tokens in a piece: few enough for a CPU's cache, enough to fill a GPU.
TOKENS_AT_ONCE = {"cpu": 512, "cuda": 65536}


class Tokens:
    """``count`` clips' tokens of ``shape`` (F, S, D); ``take(rows)`` returns those of some rows as (n, F, S, D).

    ``owned`` (an array) are the rows whose tokens this process holds, ascending, when several processes share the clips
    (utils.devices.Group ``group``); otherwise all.
    """

    def __init__(self, take, count, shape, owned=None, group=None):
        self.take, self.count, self.shape = take, count, tuple(shape)
        self.owned, self.group = owned, group

    @classmethod
    def of(cls, tensor):
        """The tokens in a tensor (B, F, S, D)."""
        return cls(lambda rows: tensor[rows.start : rows.stop], len(tensor), tensor.shape[1:])

    def __len__(self):
        return self.count

    @property
    def local(self):
        """How many clips' tokens this process holds."""
        return self.count if self.owned is None else len(self.owned)

    def rows(self, values):
        """The rows of a tensor (B, ...) that belong to the tokens held here."""
        return values if self.owned is None else values[self.owned]

    def batch_rows(self, piece):
        """The rows of the batch that a range of the rows held here stands for, as an array."""
        here = np.arange(piece.start, piece.stop)
        return here if self.owned is None else self.owned[here]

    def first_replayed(self, replayed):
        """Where, among the rows held here, those of the slice ``replayed`` begin."""
        if self.owned is None:
            return replayed.start
        return int((self.owned < replayed.start).sum())

    def pieces(self, device_type, cut=None):
        """Ranges of the rows held here, small enough to work on at once; none lies on both sides of ``cut``."""
        size = max(1, TOKENS_AT_ONCE[device_type] // (self.shape[0] * self.shape[1]))
        ends = [0, self.local] if cut is None else [0, cut, self.local]
        return [
            range(start, min(start + size, stop))
            for begin, stop in zip(ends, ends[1:], strict=False)
            for start in range(begin, stop, size)
        ]

    def tensor(self):
        """All of them at once, (B, F, S, D)."""
        return torch.cat([self.take(piece) for piece in self.pieces("cuda")])
