"""Features of the clips of a step, held where they are used, so that a batch is index arithmetic."""

import numpy as np
import torch

CLIPS_AT_ONCE = 64


class ClipCache:
    """Room for ``capacity`` clips of ``shape`` on ``device``; ``pinned`` host memory crosses to a GPU faster.

    Clips are numbers below ``num_clips``. Those that are held stay until their room is needed.
    """

    def __init__(self, num_clips, capacity, shape, dtype, device="cpu", pinned=False):
        self.values = torch.empty((capacity, *shape), dtype=dtype, device=device, pin_memory=pinned)
        self.row_of = np.full(num_clips, -1)

    @property
    def capacity(self):
        return len(self.values)

    def holds(self, clips):
        return bool((self.row_of[clips] >= 0).all())

    def hold(self, clips, read, progress):
        """Make room for ``clips`` and fill it by ``read(clips) -> tensor``; False, and nothing done, if too many."""
        clips = np.unique(clips)
        if len(clips) > self.capacity:
            return False
        missing = clips[self.row_of[clips] < 0]
        rows = self._free_rows(len(missing), keep=clips)
        for start in progress(range(0, len(missing), CLIPS_AT_ONCE)):
            part = slice(start, start + CLIPS_AT_ONCE)
            found = read(missing[part]).to(self.values.device).to(self.values.dtype)
            self.values[torch.from_numpy(rows[part]).to(self.values.device)] = found
        self.row_of[missing] = rows
        return True

    def take(self, clips):
        """The features of ``clips``, all of which are held, (n, *shape)."""
        rows = torch.from_numpy(self.row_of[clips])
        return self.values.index_select(0, rows.to(self.values.device, non_blocking=True))

    def _free_rows(self, count, keep):
        """``count`` rows without a clip; clips other than ``keep`` give up theirs if there are not enough."""
        free = np.setdiff1d(np.arange(self.capacity), self.row_of)
        if len(free) < count:
            held = np.setdiff1d(np.flatnonzero(self.row_of >= 0), keep)
            self.row_of[held[: count - len(free)]] = -1
            free = np.setdiff1d(np.arange(self.capacity), self.row_of)
        return free[:count]
