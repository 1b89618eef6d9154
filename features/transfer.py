"""How clips come nearer: indices, and features read ahead in threads, on to a GPU through a little pinned memory.

Shapes: n clips, a row (*shape) each.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Any

import numpy as np
import torch

ITEMS_AHEAD = 2
PIECES, PIECE_BYTES = 4, 2**25  # pinned memory is given in powers of two


class Prefetcher:
    """``take(piece)`` of ``clips`` by ``read``, which meanwhile reads the piece that comes next in ``threads``."""

    def __init__(self, read: Callable, clips: np.ndarray, threads: Executor | None):
        self.read, self.clips, self.threads = read, clips, threads
        self.pending = {}

    def __call__(self, piece: range) -> torch.Tensor:
        ahead = self.pending.pop((piece.start, piece.stop), None)
        following = range(piece.stop, min(piece.stop + len(piece), len(self.clips)))
        self.pending = {}
        if self.threads and len(following):
            task = self.threads.submit(self.read, self.clips[following.start : following.stop])
            self.pending[following.start, following.stop] = task
        return ahead.result() if ahead else self.read(self.clips[piece.start : piece.stop])


def in_turn(function: Callable, items: list, threads: Any = None, ahead: int = ITEMS_AHEAD) -> Iterator:
    """``function`` of each of ``items``, in their order; ``ahead`` are worked on in ``threads`` while one is used."""
    pending = deque()
    for item in items:
        pending.append(threads.submit(function, item) if threads else item)
        if len(pending) > ahead or not threads:
            yield pending.popleft().result() if threads else function(pending.popleft())
    while pending:
        yield pending.popleft().result()


class PinnedRing:
    """Brings rows from main memory to the GPU ``device``, beside what it computes: a stream and a few pinned pieces.

    A piece is filled anew as soon as its copy has ended, so that what is pinned does not grow with what is copied.
    """

    def __init__(self, device: torch.device, shape: tuple[int, ...], dtype: torch.dtype):
        row_bytes = dtype.itemsize * int(np.prod(shape))
        self.device, self.stream, self.lock = device, torch.cuda.Stream(device), threading.Lock()
        self.rows = max(1, PIECE_BYTES // row_bytes)  # in a piece
        self.pieces = [
            (torch.empty((self.rows, *shape), dtype=dtype, pin_memory=True), torch.cuda.Event()) for _ in range(PIECES)
        ]

    def send(
        self, count: int, fill: Callable[[range, torch.Tensor], object], dtype: torch.dtype, threads: Any = None
    ) -> Arriving:
        """``count`` rows on their way; ``fill(rows, piece)`` writes some of them into a pinned piece (n, *shape).

        ``threads`` fill several pieces at a time.
        """

        def filled(task):
            rows, (piece, copied) = task
            copied.synchronize()
            fill(rows, piece[: len(rows)])
            return task

        with self.lock, torch.cuda.stream(self.stream):
            shape = self.pieces[0][0].shape[1:]
            values = torch.empty((count, *shape), dtype=dtype, device=self.device)
            starts = range(0, count, self.rows)
            tasks = [(range(at, min(at + self.rows, count)), self.pieces[n % PIECES]) for n, at in enumerate(starts)]
            # One piece fewer ahead than there are: the copy out of a piece has been asked for before it is filled anew.
            for rows, (piece, copied) in in_turn(filled, tasks, threads, PIECES - 1):
                # Its own type first: of two types, PyTorch would convert in main memory, and wait.
                values[rows.start : rows.stop] = piece[: len(rows)].to(self.device, non_blocking=True)
                copied.record(self.stream)
            arrived = torch.cuda.Event()
            arrived.record(self.stream)
            return Arriving(values, arrived)


class Arriving:
    """Rows that a stream of their own brings; whoever uses them waits for them, on the GPU and not on the host."""

    def __init__(self, values: torch.Tensor, arrived: torch.cuda.Event):
        self.values, self.arrived, self.awaited = values, arrived, False

    def __call__(self, piece: range) -> torch.Tensor:
        """Some of the rows, (n, *shape), to be used on the current stream."""
        if not self.awaited:
            stream = torch.cuda.current_stream(self.values.device)
            stream.wait_event(self.arrived)
            self.values.record_stream(stream)
            self.awaited = True
        return self.values[piece.start : piece.stop]


def upload(rows: list[np.ndarray], device: torch.device) -> list[torch.Tensor]:
    """Arrays of indices as tensors on ``device``. They cross in one piece, and nothing waits for them."""
    if not rows:
        return []
    indices = torch.from_numpy(np.concatenate(rows))
    if device.type == "cuda":
        indices = indices.pin_memory().to(device, non_blocking=True)
    return list(indices.split([len(each) for each in rows]))
