"""Visual tokens from the fastest memory that holds a step's clips: the device, the host, or else the file.

Where they come from changes nothing but the time: every tier gives the same values.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from features.sources import Features
from features.tokens import Tokens
from utils.devices import Group
from utils.errors import InputError

# What an update needs on a GPU beside the features held, in sizes of the tokens of its batch: the tokens, their
# projection and the teacher's keys of replayed clips, within a graph that keeps its memory, and half of it for
# validation beside that; and bytes for the network, its optimiser and the libraries.
BATCH_TOKENS, LIBRARY_BYTES = 4, 1e9
# On a CPU features that are not held are read from the page cache nearly as fast: little is enough.
CPU_BYTES = 0.5e9
CLIPS_AT_ONCE, ITEMS_AHEAD = 64, 2


@dataclass(frozen=True)
class CacheOptions:
    """Where visual tokens are held: up to ``device_gb`` and ``host_gb`` GB there, or ``auto``.

    ``num_workers`` threads read ahead (0: none). Of several processes (``group``) each holds the clips whose number
    modulo their count is its rank. ``dtype``: what tokens are kept and used in, by default that of the file.
    ``batch_size``: clips of the largest batch, for which ``auto`` leaves room on a GPU.
    """

    device_gb: str = "auto"
    host_gb: str = "auto"
    num_workers: int = 1
    group: Group | None = None
    dtype: torch.dtype | None = None
    batch_size: int = 384


class TokenCache:
    """The tokens, (F, S, D) each, of clips numbered like ``ids``, for use on ``device``; ``options``: CacheOptions."""

    def __init__(self, features: Features, ids: list[str], shape: tuple, device: torch.device, options: CacheOptions):
        self.features, self.ids, self.shape, self.device = features, ids, shape, device
        self.group = options.group
        self.stored = torch.float16 if features.describe(ids[0])[1] == np.float16 else torch.float32
        self.dtype = options.dtype or self.stored
        self.clip_bytes = self.dtype.itemsize * int(np.prod(shape))
        self.budgets = {
            "device": device_bytes(options.device_gb, device, options.batch_size * self.clip_bytes),
            "host": host_bytes(options.host_gb, device),
        }
        self.caches = {}
        self.threads = ThreadPoolExecutor(options.num_workers) if options.num_workers else None

    def local(self, clips: np.ndarray) -> np.ndarray:
        """Those of ``clips`` whose tokens this process reads."""
        return clips if self.group is None else clips[clips % self.group.world == self.group.rank]

    def prefetch(self, clips: np.ndarray, later: np.ndarray, progress: Callable) -> None:
        """Hold ``clips``, those of a step, on the device, or if there are too many on the host, or not at all.

        ``later``: clips that are used once at its end, and held as well where there is room.
        """
        clips, later = self.local(np.unique(clips)), self.local(np.unique(later))
        tiers = ("device", "host") if self.device.type == "cuda" else ("device",)
        chosen = next((tier for tier in tiers if len(clips) * self.clip_bytes <= self.budgets[tier]), None)
        for tier in set(self.caches) - {chosen}:
            del self.caches[tier]  # of an earlier step: its memory is needed, and its place is not where to look
        if chosen:
            together = np.union1d(clips, later)
            clips = together if len(together) * self.clip_bytes <= self.budgets[chosen] else clips
            self._cache(chosen, len(clips)).hold(clips, self.read, progress, self.threads)

    def has_room_for(self, size: int) -> bool:
        """Whether ``size`` bytes more fit into the device's budget beside the clips held."""
        held = self.caches["device"].capacity * self.clip_bytes if "device" in self.caches else 0
        return held + size <= self.budgets["device"]

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
        out = torch.empty((len(clips), *self.shape), dtype=self.stored, pin_memory=self.device.type == "cuda")
        self.features.read([self.ids[clip] for clip in clips], out.numpy().reshape(len(clips), -1))
        return out

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
        tokens = host.take(clips) if host is not None and host.holds(clips) else self.read(clips)
        whole = tokens.to(self.device, non_blocking=True).to(self.dtype)
        return lambda piece: whole[piece.start : piece.stop]

    def _cache(self, tier, needed):
        """The tier's cache, with room for ``needed`` clips: for all of the data set if they fit."""
        if tier in self.caches and self.caches[tier].capacity < needed:
            del self.caches[tier]  # before there is another
        if tier not in self.caches:
            everything = len(self.local(np.arange(len(self.ids))))
            fits = everything * self.clip_bytes <= self.budgets[tier]
            where = (self.device, False) if tier == "device" else ("cpu", True)
            capacity = everything if fits else needed
            self.caches[tier] = TierCache(len(self.ids), capacity, self.shape, self.dtype, *where)
        return self.caches[tier]


class Prefetcher:
    """``take(piece)`` of ``clips`` by ``read``, which meanwhile reads the piece that comes next in ``threads``."""

    def __init__(self, read, clips, threads):
        self.read, self.clips, self.threads = read, clips, threads
        self.pending = {}

    def __call__(self, piece):
        ahead = self.pending.pop((piece.start, piece.stop), None)
        following = range(piece.stop, min(piece.stop + len(piece), len(self.clips)))
        self.pending = {}
        if self.threads and len(following):
            task = self.threads.submit(self.read, self.clips[following.start : following.stop])
            self.pending[following.start, following.stop] = task
        return ahead.result() if ahead else self.read(self.clips[piece.start : piece.stop])


class TierCache:
    """Room for ``capacity`` clips of ``shape`` on ``device``; ``pinned`` host memory crosses to a GPU faster.

    Clips are numbers below ``num_clips``. Those that are held stay until their room is needed.
    """

    def __init__(
        self,
        num_clips: int,
        capacity: int,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        pinned: bool = False,
    ):
        self.values = torch.empty((capacity, *shape), dtype=dtype, device=device, pin_memory=pinned)
        self.row_of = np.full(num_clips, -1)
        self.row_on_device: torch.Tensor | None = None  # the same beside the values, once clips are held

    @property
    def capacity(self) -> int:
        return len(self.values)

    def holds(self, clips: np.ndarray) -> bool:
        return bool((self.row_of[clips] >= 0).all())

    def hold(self, clips: np.ndarray, read: Callable, progress: Callable, threads: Executor | None = None) -> bool:
        """Make room for ``clips`` and fill it by ``read(clips) -> tensor``, which ``threads`` do meanwhile.

        False, and nothing done, if they are too many.
        """
        clips = np.unique(clips)
        if len(clips) > self.capacity:
            return False
        missing = clips[self.row_of[clips] < 0]
        rows = self._free_rows(len(missing), keep=clips)
        starts = range(0, len(missing), CLIPS_AT_ONCE)
        parts = [missing[start : start + CLIPS_AT_ONCE] for start in starts]
        for start, values in zip(progress(starts), in_turn(read, parts, threads), strict=True):
            part = torch.from_numpy(rows[start : start + CLIPS_AT_ONCE]).to(self.values.device)
            self.values.index_copy_(0, part, values.to(self.values.device).to(self.values.dtype))
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

    def _free_rows(self, count, keep):
        """``count`` rows without a clip; clips other than ``keep`` give up theirs if there are not enough."""
        free = np.setdiff1d(np.arange(self.capacity), self.row_of)
        if len(free) < count:
            held = np.setdiff1d(np.flatnonzero(self.row_of >= 0), keep)
            self.row_of[held[: count - len(free)]] = -1
            free = np.setdiff1d(np.arange(self.capacity), self.row_of)
        return free[:count]


def in_turn(function: Callable, items: list, threads: Executor | None) -> Iterator:
    """``function`` of each of ``items``, in their order; a few are worked on in ``threads`` while one is used."""
    pending = deque()
    for item in items:
        pending.append(threads.submit(function, item) if threads else item)
        if len(pending) > ITEMS_AHEAD or not threads:
            yield pending.popleft().result() if threads else function(pending.popleft())
    while pending:
        yield pending.popleft().result()


def device_bytes(text: str, device: torch.device, batch_bytes: float) -> float:
    """Bytes for features on ``device``: ``text`` is a number of GB, or ``auto``, what is free but for batches.

    ``batch_bytes``: of the tokens of the largest batch.
    """
    if text != "auto":
        return _gigabytes("--device_cache", text)
    if device.type == "cuda":
        return max(0, torch.cuda.mem_get_info(device)[0] - BATCH_TOKENS * batch_bytes - LIBRARY_BYTES)
    return min(CPU_BYTES, available() / 4)


def host_bytes(text: str, device: torch.device) -> float:
    """Bytes for features in the memory beside a GPU, where they wait if they do not fit there; ``auto``: half."""
    if text != "auto":
        return _gigabytes("--host_cache", text)
    return available() / 2 if device.type == "cuda" else 0


def available() -> float:
    """Bytes of main memory that can be had without swapping; 8 GB where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 8e9


def _gigabytes(flag, text):
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise InputError(f"{flag} {text}: give a number of GB, 0 for none, or auto")
    return value * 1e9
