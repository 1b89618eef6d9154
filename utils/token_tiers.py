"""Visual tokens from the fastest memory that holds a step's clips: the device, the host, or else the file.

Where they come from changes nothing but the time: every tier gives the same values.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from model.tokens import Tokens
from utils.clip_cache import ClipCache


class TokenTiers:
    """The tokens, (F, S, D) each, of clips numbered like ``ids``, for use on ``device``.

    ``device_bytes`` and ``host_bytes`` bound what is held there. Of several processes (``group``) each holds the clips
    whose number modulo their count is its rank. ``num_workers`` threads read ahead. ``dtype``: what the tokens are
    kept and used in, by default that of the file.
    """

    def __init__(self, features, ids, shape, device, device_bytes, host_bytes, group=None, num_workers=1, dtype=None):
        self.features, self.ids, self.shape, self.device, self.group = features, ids, shape, device, group
        self.stored = torch.float16 if features.describe(ids[0])[1] == np.float16 else torch.float32
        self.dtype = dtype or self.stored
        self.clip_bytes = self.dtype.itemsize * int(np.prod(shape))
        self.budgets = {"device": device_bytes, "host": host_bytes}
        self.caches = {}
        self.ahead = ThreadPoolExecutor(num_workers) if num_workers else None

    def owned(self, clips):
        """Those of ``clips`` whose tokens this process reads."""
        return clips if self.group is None else clips[clips % self.group.world == self.group.rank]

    def place(self, clips, progress):
        """Hold ``clips``, those of a step, on the device, or if there are too many on the host, or not at all."""
        clips = self.owned(np.unique(clips))
        for tier in ("device", "host") if self.device.type == "cuda" else ("device",):
            if len(clips) * self.clip_bytes <= self.budgets[tier]:
                self._cache(tier, len(clips)).hold(clips, self.read, progress)
                return

    def has_room_for(self, size):
        """Whether ``size`` bytes more fit into the device's budget beside the clips held."""
        held = self.caches["device"].capacity * self.clip_bytes if "device" in self.caches else 0
        return held + size <= self.budgets["device"]

    def tokens(self, clips):
        """The Tokens of a batch of ``clips``."""
        owned = None
        if self.group is not None:
            owned = np.flatnonzero(clips % self.group.world == self.group.rank)
        mine = clips if owned is None else clips[owned]
        return Tokens(self._taker(mine), len(clips), self.shape, owned, self.group)

    @property
    def crosses(self):
        """Whether tokens cross to the device batch by batch."""
        return self.device.type == "cuda" and "device" not in self.caches

    def holds(self, clips):
        """Whether all of ``clips`` are on the device."""
        return "device" in self.caches and self.caches["device"].holds(self.owned(clips))

    def read(self, clips):
        """Read ``clips`` as they are in the file: (n, F, S, D) in main memory."""
        out = torch.empty((len(clips), *self.shape), dtype=self.stored, pin_memory=self.device.type == "cuda")
        self.features.read([self.ids[clip] for clip in clips], out.numpy().reshape(len(clips), -1))
        return out

    def _taker(self, clips):
        if self.holds(clips):
            cache = self.caches["device"]
            return lambda piece: cache.take(clips[piece.start : piece.stop])
        if self.device.type != "cuda":
            ahead = ReadAhead(self.read, clips, self.ahead)
            # Not in the threads that read: those would start workers of torch's own, and all of them get in each
            # other's way from then on.
            return lambda piece: ahead(piece).to(self.dtype)
        host = self.caches.get("host")
        found = host.take(clips) if host is not None and host.holds(clips) else self.read(clips)
        whole = found.to(self.device, non_blocking=True).to(self.dtype)
        return lambda piece: whole[piece.start : piece.stop]

    def _cache(self, tier, needed):
        """The tier's cache, with room for ``needed`` clips: for all of the data set if they fit."""
        if tier in self.caches and self.caches[tier].capacity < needed:
            del self.caches[tier]  # before there is another
        if tier not in self.caches:
            everything = len(self.owned(np.arange(len(self.ids))))
            fits = everything * self.clip_bytes <= self.budgets[tier]
            where = (self.device, False) if tier == "device" else ("cpu", True)
            capacity = everything if fits else needed
            self.caches[tier] = ClipCache(len(self.ids), capacity, self.shape, self.dtype, *where)
        return self.caches[tier]


class ReadAhead:
    """``take(piece)`` of ``clips`` by ``read``, which meanwhile reads the piece that comes next in ``threads``."""

    def __init__(self, read, clips, threads):
        self.read, self.clips, self.threads = read, clips, threads
        self.coming = {}

    def __call__(self, piece):
        coming = self.coming.pop((piece.start, piece.stop), None)
        following = range(piece.stop, min(piece.stop + len(piece), len(self.clips)))
        self.coming = {}
        if self.threads and len(following):
            task = self.threads.submit(self.read, self.clips[following.start : following.stop])
            self.coming[following.start, following.stop] = task
        return coming.result() if coming else self.read(self.clips[piece.start : piece.stop])
