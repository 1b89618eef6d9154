"""What a run leaves on disk so that it can go on: one file per finished step, and one within the step being learned.

Tensors and plain values only, so that a file loads with ``weights_only=True`` and cannot run code.
"""

import contextlib
import io
import itertools
import os
import time
from collections.abc import Callable

import torch

from utils.errors import InputError
from utils.files import atomic_path
from utils.seeding import random_state

MAX_OVERHEAD = 1 / 20  # share of the time that checkpoints within a step may take
HINT = "the run cannot go on from it; start anew with --overwrite"


class CheckpointTimer:
    """When to write the checkpoint of an epoch: every so many epochs, or (``auto``) seldom enough to cost little."""

    def __init__(self, every: int | str):
        self.every, self.cost, self.last = every, 0.0, time.perf_counter()

    def due(self, epoch: int) -> bool:
        """Whether to write one after ``epoch``."""
        if self.every == "auto":
            return self.cost <= MAX_OVERHEAD * (time.perf_counter() - self.last)
        return (epoch + 1) % self.every == 0

    def timed(self, write: Callable[[], None]) -> None:
        """Call ``write()`` and remember what it cost."""
        started = time.perf_counter()
        write()
        self.last = time.perf_counter()
        self.cost = self.last - started


def save(path: str, content: dict) -> None:
    """Write ``content``, with the state of all random generators, to ``path``: whole, or not at all."""
    buffer = io.BytesIO()
    torch.save(content | {"random": random_state()}, buffer)
    # Written by Python, whose errors name what is wrong with the disk.
    with atomic_path(path) as aside, open(aside, "wb") as file:
        file.write(buffer.getbuffer())


def load(path: str) -> dict:
    """The content of a checkpoint, on the CPU; InputError if it is damaged or holds anything but data."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file can fail anywhere in zipfile, pickle or torch
        raise InputError(f"{path}: not a readable checkpoint ({str(error)[:80]}); {HINT}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {type(content).__name__}, not a checkpoint; {HINT}")
    return content


class Checkpoints:
    """The checkpoints in ``folder``; ``every``: how often within a step (CheckpointTimer). Only ``is_main`` writes."""

    def __init__(self, folder: str, every: int | str, is_main: bool = True):
        self.folder, self.is_main, self.timer = folder, is_main, CheckpointTimer(every)
        self.within_step = os.path.join(folder, "unfinished.pt")

    def of_step(self, step: int) -> str:
        """The path of what ``step`` ended with."""
        return os.path.join(self.folder, f"step_{step}.pt")

    def last_step(self) -> dict | None:
        """The content of the last finished step's, or None."""
        steps = itertools.takewhile(lambda step: os.path.exists(self.of_step(step)), itertools.count())
        last = max(steps, default=None)
        return None if last is None else load(self.of_step(last))

    def for_next_step(self, step: int) -> str:
        """The path of what only the step after ``step`` needs."""
        return os.path.join(self.folder, f"ongoing_{step}.pt")

    def save_step(self, step: int, content: dict, resume_state: dict) -> None:
        """Write what ``step`` ended with, and ``resume_state``, if any, for the next one; remove what is past."""
        if self.is_main:
            if resume_state:
                save(self.for_next_step(step), resume_state)
            save(self.of_step(step), content)
            for past in (self.within_step, self.for_next_step(step - 1)):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(past)

    def save_epoch(self, step: int, epoch: int, content: Callable[[], dict]) -> None:
        """Write what ``content()`` returns, after ``epoch`` of ``step``, if it is time to."""
        if self.is_main and self.timer.due(epoch):
            self.timer.timed(lambda: save(self.within_step, {"step": step, "epoch": epoch, **content()}))

    def last_epoch(self, step: int) -> dict | None:
        """What ``save_epoch`` wrote last in this step, or None."""
        if not os.path.exists(self.within_step):
            return None
        content = load(self.within_step)
        return content if content.get("step") == step else None
