"""What a run leaves on disk so that it can go on: one file per finished step, and one within the step being learned.

Tensors and plain values only, so that a file loads with ``weights_only=True`` and cannot run code.
"""

import contextlib
import io
import itertools
import json
import os
import time
from dataclasses import dataclass, field

import torch

from utils.errors import InputError
from utils.files import atomic_path
from utils.seeding import random_state

# A checkpoint within a step is due when this many times the time it takes has passed since the last one.
PATIENCE = 20
CURE = "the run cannot go on from it; start anew with --overwrite"


@dataclass
class History:
    """What a run has found so far: a row of results per finished step, and the lines of ``epochs.csv``."""

    rows: list = field(default_factory=list)
    epoch_lines: list = field(default_factory=list)

    @staticmethod
    def line(row):
        """The line of ``steps.jsonl`` for a row: what a repetition of the run repeats, in brief."""
        return json.dumps({name: value for name, value in row.items() if name not in ("seconds", "confusion")})

    @property
    def matrix(self):
        """The accuracy matrix: row t holds the accuracies of tasks 0 to t after step t."""
        return [row["accuracy_by_task"] for row in self.rows]


class Pace:
    """When to write the checkpoint of an epoch: every so many epochs, or (``auto``) seldom enough to cost little."""

    def __init__(self, every):
        self.every, self.cost, self.last = every, 0.0, time.perf_counter()

    def due(self, epoch):
        if self.every == "auto":
            return time.perf_counter() - self.last >= PATIENCE * self.cost
        return (epoch + 1) % self.every == 0

    def timed(self, write):
        """Call ``write()`` and remember what it cost."""
        started = time.perf_counter()
        write()
        self.last = time.perf_counter()
        self.cost = self.last - started


def save(path, content):
    """Write ``content``, with the state of all random generators, to ``path``: whole, or not at all."""
    buffer = io.BytesIO()
    torch.save(content | {"random": random_state()}, buffer)
    # Written by Python, whose errors name what is wrong with the disk.
    with atomic_path(path) as aside, open(aside, "wb") as file:
        file.write(buffer.getbuffer())


def load(path):
    """The content of a checkpoint, on the CPU; InputError if it is damaged or holds anything but data."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file can fail anywhere in zipfile, pickle or torch
        raise InputError(f"{path}: not a readable checkpoint ({str(error)[:80]}); {CURE}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {type(content).__name__}, not a checkpoint; {CURE}")
    return content


class Checkpoints:
    """The checkpoints in ``folder``. ``every``: see Pace, of those within a step. Only who ``leads`` writes."""

    def __init__(self, folder, every, leads=True):
        self.folder, self.leads, self.pace = folder, leads, Pace(every)
        self.within_step = os.path.join(folder, "unfinished.pt")

    def of_step(self, step):
        return os.path.join(self.folder, f"step_{step}.pt")

    def last_step(self):
        """The content of the last finished step's, or None."""
        steps = itertools.takewhile(lambda step: os.path.exists(self.of_step(step)), itertools.count())
        last = max(steps, default=None)
        return None if last is None else load(self.of_step(last))

    def ongoing(self, step):
        """The path of what only the step after ``step`` needs."""
        return os.path.join(self.folder, f"ongoing_{step}.pt")

    def save_step(self, step, content, ongoing):
        """Write what ``step`` ended with, and ``ongoing`` for the next one if there is any; remove what is past."""
        if self.leads:
            if ongoing:
                save(self.ongoing(step), ongoing)
            save(self.of_step(step), content)
            for past in (self.within_step, self.ongoing(step - 1)):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(past)

    def save_epoch(self, step, epoch, content):
        """Write ``content()``, a dict, after ``epoch`` of ``step`` if it is time to."""
        if self.leads and self.pace.due(epoch):
            self.pace.timed(lambda: save(self.within_step, {"step": step, "epoch": epoch, **content()}))

    def last_epoch(self, step):
        """What ``save_epoch`` wrote last in this step, or None."""
        if not os.path.exists(self.within_step):
            return None
        content = load(self.within_step)
        return content if content.get("step") == step else None
