"""What a run leaves on disk so that it can go on: one file per finished step, and one within the step being learned.

Tensors and plain values only, so that a file loads with ``weights_only=True`` and cannot run code.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import itertools
import os
import re
import time
from collections.abc import Callable, Iterator

import torch

from engine.run_files import is_there
from engine.run_identity import defining, difference
from utils.errors import InputError, first_line
from utils.files import atomic_path, check_regular
from utils.seeding import random_state

MAX_OVERHEAD = 1 / 20  # share of the time that checkpoints within a step may take
MIN_SECONDS = 5  # between two of them: less is quickly done again
HINT = "the run cannot go on from it; start anew with --overwrite"


class CheckpointTimer:
    """When to write the checkpoint of an epoch: every so many epochs, or (``auto``) seldom enough to cost little."""

    def __init__(self, every: int | str):
        self.every, self.cost, self.last = every, 0.0, time.perf_counter()

    def due(self, epoch: int) -> bool:
        """Whether to write one after ``epoch``."""
        if self.every == "auto":
            seconds = time.perf_counter() - self.last
            return seconds >= MIN_SECONDS and self.cost <= MAX_OVERHEAD * seconds
        return (epoch + 1) % int(self.every) == 0

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
    check_regular(path)
    try:
        with open(path, "rb") as file:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can fail anywhere in zipfile, pickle or torch
        # Not to be read, for now: no reason to start anew. But of a file that is cut off its reader says EINVAL.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise OSError(error.errno, os.strerror(error.errno), path) from None
        raise InputError(f"{path}: not a readable checkpoint ({str(error)[:80]}); {HINT}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {type(content).__name__}, not a checkpoint; {HINT}")
    return content


class Checkpoints:
    """The checkpoints in ``folder`` of the run with options ``args``; each names its run. Only ``is_main`` writes."""

    def __init__(self, folder: str, args: argparse.Namespace, is_main: bool = True):
        self.folder, self.is_main, self.timer = folder, is_main, CheckpointTimer(args.checkpoint_every)
        self.arguments = vars(args)
        self.within_step = os.path.join(folder, "unfinished.pt")

    def of_step(self, step: int) -> str:
        """The path of what ``step`` ended with."""
        return step_path(self.folder, step)

    def any(self) -> bool:
        """Whether there is one to go on from."""
        return is_there(self.of_step(0)) or is_there(self.within_step)

    def last_step(self) -> dict | None:
        """The content of the last finished step's, or None."""
        last = last_step(self.folder)
        return None if last is None else self._load(self.of_step(last), last)

    def resume_state(self, step: int) -> dict:
        """What only the step after ``step`` needs."""
        return self._load(self.for_next_step(step))

    def for_next_step(self, step: int) -> str:
        """The path of what only the step after ``step`` needs."""
        return os.path.join(self.folder, f"ongoing_{step}.pt")

    def save_step(self, step: int, content: dict, resume_state: dict) -> None:
        """Write what ``step`` ended with, and ``resume_state``, if any, for the next one; remove what is past."""
        if self.is_main:
            if resume_state:
                save(self.for_next_step(step), {"arguments": self.arguments, **resume_state})
            save(self.of_step(step), {"arguments": self.arguments, "step": step, **content})
            for past in (self.within_step, self.for_next_step(step - 1)):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(past)

    def save_epoch(self, step: int, epoch: int, content: Callable[[], dict]) -> None:
        """Write what ``content()`` returns, after ``epoch`` of ``step``, if it is time to."""
        if self.is_main and self.timer.due(epoch):
            names = {"arguments": self.arguments, "step": step, "epoch": epoch}
            self.timer.timed(lambda: save(self.within_step, names | content()))

    def last_epoch(self, step: int) -> dict | None:
        """What ``save_epoch`` wrote last in this step, or None."""
        if not is_there(self.within_step):
            return None
        content = self._load(self.within_step)
        return content if content.get("step") == step else None

    def _load(self, path, step=None):
        """The content of a checkpoint; InputError if it is not of this run, or not of ``step``."""
        content = load(path)
        arguments = content.get("arguments")
        if not isinstance(arguments, dict):
            raise InputError(f"{path}: does not say which run it is of; {HINT}")
        differs = difference(defining(arguments), defining(self.arguments))
        if differs:
            raise InputError(f"{path}: a checkpoint of another run ({differs}); {HINT}")
        if step is not None and content.get("step") != step:
            raise InputError(f"{path}: a checkpoint of step {content.get('step')}; {HINT}")
        return content


def step_path(folder: str, step: int) -> str:
    """The checkpoint of a finished step in ``folder``."""
    return os.path.join(folder, f"step_{step}.pt")


def kept_steps(folder: str) -> list[int]:
    """The finished steps of which there is a checkpoint in ``folder``, in order."""
    names = os.listdir(folder) if is_there(folder) else []
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"step_(\d{1,6})\.pt", name)))


def last_step(folder: str) -> int | None:
    """The last finished step of which there is a checkpoint in ``folder``."""
    paths = (step_path(folder, step) for step in itertools.count())
    finished = sum(1 for _ in itertools.takewhile(is_there, paths))
    return finished - 1 if finished else None


@contextlib.contextmanager
def content_errors(path: str) -> Iterator[None]:
    """Let whatever the content of the checkpoint ``path`` makes impossible end in an InputError that names it."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError, IndexError) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"{path}: not what a run of this version keeps ({reason}); {HINT}") from None
