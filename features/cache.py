"""Visual tokens from the fastest memory that holds a step's clips: the device, the host, or else the file.

Where they come from changes nothing but the time: every tier gives the same values.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from features.sources import Features
from features.tokens import Tokens
from features.transfer import ITEMS_AHEAD, PinnedRing, Prefetcher, in_turn
from utils.command_line import cores
from utils.devices import Group, device_bytes, host_bytes

CLIPS_AT_ONCE = 64
MOST_THREADS = 8  # that read ahead of a GPU


@dataclass(frozen=True)
class CacheOptions:
    """Where visual tokens are held: up to ``device_gb`` and ``host_gb`` GB there, or ``auto``.

    ``num_workers`` threads read ahead (0: none; by default one, beside a GPU up to 8). Of several processes (``group``)
    each holds the clips whose number modulo their count is its rank. ``dtype``: what tokens are kept and used in, by
    default that of the file. For ``auto``: ``batch_size``, clips of the largest batch, for which a GPU has room left,
    and ``runs_per_gpu``, how many processes share it and the memory beside it.
    """

    device_gb: str = "auto"
    host_gb: str = "auto"
    num_workers: int | None = None
    group: Group | None = None
    dtype: torch.dtype | None = None
    batch_size: int = 384
    runs_per_gpu: int = 1


class TokenCache:
    """The tokens, (F, S, D) each, of clips numbered like ``ids``, for use on ``device``; ``options``: CacheOptions."""

    def __init__(self, features: Features, ids: list[str], shape: tuple, device: torch.device, options: CacheOptions):
        self.features, self.ids, self.shape, self.device = features, ids, shape, device
        self.group = options.group
        self.stored = torch.float16 if features.describe(ids[0])[1] == np.float16 else torch.float32
        self.dtype = options.dtype or self.stored
        self.clip_bytes = self.dtype.itemsize * int(np.prod(shape))
        batch, sharing = options.batch_size * self.clip_bytes, options.runs_per_gpu
        on_host = self.stored.itemsize * int(np.prod(shape))
        self.room = {  # in clips
            "device": int(device_bytes(options.device_gb, device, batch, sharing) / self.clip_bytes),
            "host": int(host_bytes(options.host_gb, device, sharing) / on_host),
        }
        self.caches, self._ring = {}, None
        self.num_workers = num_threads(device) if options.num_workers is None else options.num_workers
        self.threads = ThreadPoolExecutor(self.num_workers) if self.num_workers else None

    def local(self, clips: np.ndarray) -> np.ndarray:
        """Those of ``clips`` whose tokens this process reads."""
        return clips if self.group is None else clips[clips % self.group.world == self.group.rank]

    def prefetch(self, clips: np.ndarray, later: np.ndarray, progress: Callable) -> None:
        """Hold ``clips``, those of a step, on the device, or if there are too many on the host, or not at all.

        ``later``: clips that are used once at its end, and held as well where there is room.
        """
        clips, later = self.local(np.unique(clips)), self.local(np.unique(later))
        tiers = ("device", "host") if self.device.type == "cuda" else ("device",)
        chosen = next((tier for tier in tiers if len(clips) <= self.room[tier]), None)
        for tier in set(self.caches) - {chosen}:
            del self.caches[tier]  # of an earlier step: its memory is needed, and its place is not where to look
        if chosen:
            together = np.union1d(clips, later)
            clips = together if len(together) <= self.room[chosen] else clips
            bring = chosen == "device" and self.device.type == "cuda"
            self._cache(chosen, len(clips)).hold(clips, lambda parts: self.read_parts(parts, progress, bring))

    def has_room_for(self, size: int) -> bool:
        """Whether ``size`` bytes more fit into the device's budget beside the clips held."""
        held = self.caches["device"].capacity if "device" in self.caches else 0
        return size <= (self.room["device"] - held) * self.clip_bytes

    def tokens_on_device(self, index: torch.Tensor) -> Tokens:
        """The Tokens of the clips ``index`` (B,), indices on the device, which ``holds`` them all; of one process."""
        cache = self.caches["device"]
        return Tokens(lambda piece: cache.take(index[piece.start : piece.stop]), len(index), self.shape)

    def tokens(self, clips: np.ndarray, index: torch.Tensor) -> Tokens:
        """The Tokens of a batch of ``clips``, whose indices are on the device as ``index``, too."""
        if self.group is None and self.holds(clips):
            return self.tokens_on_device(index)
        local_rows = None
        if self.group is not None:
            local_rows = np.flatnonzero(clips % self.group.world == self.group.rank)
        local = clips if local_rows is None else clips[local_rows]
        return Tokens(self._taker(local), len(clips), self.shape, local_rows, self.group)

    @property
    def copies_per_batch(self) -> bool:
        """Whether tokens cross to the device batch by batch."""
        return self.device.type == "cuda" and "device" not in self.caches

    def holds(self, clips: np.ndarray) -> bool:
        """Whether all of ``clips`` are on the device."""
        return "device" in self.caches and self.caches["device"].holds(self.local(clips))

    def read(self, clips: np.ndarray) -> torch.Tensor:
        """Read ``clips`` as they are in the file: (n, F, S, D) in main memory."""
        out = torch.empty((len(clips), *self.shape), dtype=self.stored)
        self._read_into(clips, out)
        return out

    def _read_into(self, clips, out):
        self.features.read([self.ids[clip] for clip in clips], out.numpy().reshape(len(clips), -1))

    def _taker(self, clips):
        if self.holds(clips):
            cache = self.caches["device"]
            return lambda piece: cache.take(clips[piece.start : piece.stop])
        if self.device.type != "cuda":
            ahead = Prefetcher(self.read, clips, self.threads)
            # Not in the threads that read: those would start workers of torch's own, and all of them get in each
            # other's way from then on.
            return lambda piece: ahead(piece).to(self.dtype)
        host = self.caches.get("host")
        if host is not None and host.holds(clips):
            return self._to_device(len(clips), lambda rows, piece: host.copy(clips[rows.start : rows.stop], piece))
        return self._from_file(clips)

    def read_parts(self, parts: list[np.ndarray], progress: Callable, bring: bool) -> Iterator[torch.Tensor]:
        """The tokens of each of ``parts`` in turn, which threads read ahead; ``bring``: on to the GPU."""
        if bring:
            for clips in progress(parts):
                yield self._from_file(clips)(range(len(clips)))
            return
        read = in_turn(self.read, parts, self.threads, max(ITEMS_AHEAD, self.num_workers))
        for _, values in zip(progress(parts), read, strict=True):
            yield values

    def _from_file(self, clips):
        return self._to_device(len(clips), lambda rows, piece: self._read_into(clips[rows.start : rows.stop], piece))

    def _to_device(self, count, fill):
        if self._ring is None:
            self._ring = PinnedRing(self.device, self.shape, self.stored)
        return self._ring.send(count, fill, self.dtype, self.threads)

    def _cache(self, tier, needed):
        """The tier's cache, with room for ``needed`` clips: for all of the data set if they fit."""
        if tier in self.caches and self.caches[tier].capacity < needed:
            del self.caches[tier]  # before there is another
        if tier not in self.caches:
            everything = len(self.local(np.arange(len(self.ids))))
            fits = everything <= self.room[tier]
            # On the host as in the file: what crosses to a GPU changes its type there.
            kept = (self.dtype, self.device) if tier == "device" else (self.stored, "cpu")
            self.caches[tier] = TierCache(len(self.ids), everything if fits else needed, self.shape, *kept)
        return self.caches[tier]


class TierCache:
    """Room for ``capacity`` clips of ``shape`` on ``device``.

    Clips are numbers below ``num_clips``. Those that are held stay until their room is needed.
    """

    def __init__(
        self,
        num_clips: int,
        capacity: int,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ):
        self.values = torch.empty((capacity, *shape), dtype=dtype, device=device)
        self.row_of = np.full(num_clips, -1)
        self.row_on_device: torch.Tensor | None = None  # the same beside the values, once clips are held

    @property
    def capacity(self) -> int:
        return len(self.values)

    def holds(self, clips: np.ndarray) -> bool:
        return bool((self.row_of[clips] >= 0).all())

    def hold(self, clips: np.ndarray, read: Callable[[list[np.ndarray]], Iterable[torch.Tensor]]) -> bool:
        """Make room for ``clips``, and fill it by ``read(parts)``, the features of each part in turn.

        False, and nothing done, if they are too many.
        """
        clips = np.unique(clips)
        if len(clips) > self.capacity:
            return False
        missing = clips[self.row_of[clips] < 0]
        rows = self._free_rows(len(missing), keep=clips)
        starts = range(0, len(missing), CLIPS_AT_ONCE)
        for start, values in zip(starts, read([missing[at : at + CLIPS_AT_ONCE] for at in starts]), strict=True):
            for row, value in zip(rows[start : start + CLIPS_AT_ONCE], values, strict=True):
                self.values[row].copy_(value)
        self.row_of[missing] = rows
        self.row_on_device = torch.from_numpy(self.row_of).to(self.values.device, copy=True)
        return True

    def take(self, clips: np.ndarray | torch.Tensor) -> torch.Tensor:
        """The features of ``clips``, all of which are held, (n, *shape); indices in an array, or beside the values."""
        if isinstance(clips, torch.Tensor):
            assert self.row_on_device is not None  # clips are held
            rows = self.row_on_device.index_select(0, clips)
        else:
            rows = torch.from_numpy(self.row_of[clips]).to(self.values.device, non_blocking=True)
        return self.values.index_select(0, rows)

    def copy(self, clips: np.ndarray, out: torch.Tensor) -> None:
        """Write the features of ``clips``, all of which are held in main memory, to ``out`` (n, *shape) there."""
        # By NumPy, which starts no threads: this runs beside the training, whose own PyTorch would take for it.
        np.take(self.values.numpy(), self.row_of[clips], axis=0, out=out.numpy(), mode="clip")

    def _free_rows(self, count, keep):
        """``count`` rows without a clip; clips other than ``keep`` give up theirs if there are not enough."""
        free = np.setdiff1d(np.arange(self.capacity), self.row_of)
        if len(free) < count:
            held = np.setdiff1d(np.flatnonzero(self.row_of >= 0), keep)
            self.row_of[held[: count - len(free)]] = -1
            free = np.setdiff1d(np.arange(self.capacity), self.row_of)
        return free[:count]


def num_threads(device: torch.device) -> int:
    """Threads that read ahead: one, beside a GPU as many as there are cores for, up to 8."""
    return min(MOST_THREADS, cores()) if device.type == "cuda" else 1
