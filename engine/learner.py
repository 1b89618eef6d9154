"""What the engine asks of a method."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from dataloader import Batch, IncrementalData
from engine.tasks import Task
from features.tokens import FeatureSizes
from utils.datasets import MODALITIES

if TYPE_CHECKING:
    from engine.step_log import StepLog


# Shared options that mean something only to a method that keeps exemplars, and to one that trains in epochs.
MEMORY_OPTIONS: tuple[str, ...] = ("memory_size", "memory_per_class")
EPOCH_OPTIONS: tuple[str, ...] = (
    "max_epochs",
    "lr",
    "weight_decay",
    "lr_decay",
    "milestones",
    "train_batch_size",
    "checkpoint_every",
    "probe_gradients",
)


class Learner:
    """A method of class-incremental learning. One subclass per file under ``methods/``, found by the file's name.

    The engine calls, for each task: ``begin_task``, ``fit_task``, ``end_task``, and then ``scores`` on the test clips.
    A method that learns by gradient descent derives from ``engine.gradient.GradientLearner`` instead.
    """

    modalities = tuple(MODALITIES)
    classifiers = ("linear",)  # allowed values of --classifier, the default first
    has_epochs = False  # whether EPOCH_OPTIONS mean something to it
    has_variants = False  # whether --variant means something to it; to paired replay it always does
    has_features = False  # whether it has a network whose features change: ``features``
    precisions = ("auto", "fp32", "tf32")  # allowed values of --precision
    tf32_holds = False  # whether TF32 has been shown to give its results: what a GPU then takes by itself
    replay = "none"  # how exemplars come back: none, merged or paired (engine.gradient)

    def __init__(self, args: argparse.Namespace, data: IncrementalData | FeatureSizes, device: torch.device | str):
        """``args``: all options; ``data``: of a run, or only the sizes of its features; ``device``: of all tensors."""
        self.args, self.device = args, torch.device(device)
        self.data = cast(IncrementalData, data)  # without a run, nothing but sizes is asked of it

    @classmethod
    def needs_tokens(cls, modality: str) -> bool:
        """Whether it looks at single visual tokens, rather than at the mean of each clip."""
        return modality == "audio-visual"

    @classmethod
    def add_options(cls, group: argparse._ArgumentGroup) -> None:
        """Add the method's own command-line options."""

    @classmethod
    def without_effect(cls, args: argparse.Namespace) -> dict[str, str]:
        """Options that change nothing in a run with ``args``, by name, each with the reason.

        Where one is given a shared option is left out of the run, which says so; one of the method's own is refused.
        """
        reasons: dict[str, str] = {}
        if not cls.has_epochs:
            reasons |= dict.fromkeys(EPOCH_OPTIONS, f"{args.method} has no epochs")
        if cls.replay == "none":
            reasons |= dict.fromkeys(MEMORY_OPTIONS, f"{args.method} keeps no exemplars")
        if cls.replay != "paired":
            reasons["exemplar_batch_size"] = f"{args.method} has no batches of exemplars alone"
            if not cls.has_variants:
                reasons["variant"] = f"{args.method} is the same in both"
        if not cls.has_features:
            reasons["save_features"] = f"{args.method} has no network that makes one feature of a clip"
        if args.modality == "audio":
            reasons["num_frames"] = "sound has no frames"
        if cls.needs_of_network(args) is None:
            reasons["network"] = f"{args.method} trains no network that can be exchanged"
        return reasons

    @classmethod
    def needs_of_network(cls, args: argparse.Namespace) -> set[str] | None:
        """What ``--network`` must give: names of outputs and of methods (``gives``); None: it has no use for one."""
        return None

    @classmethod
    def check_tasks(cls, args: argparse.Namespace, tasks: list[Task]) -> None:
        """InputError if the method cannot learn the classes in these ``tasks``; called before anything is read."""

    def begin_task(self, task: Task) -> None:
        """Make room for the classes of ``task``."""

    def fit_task(self, task: Task, log: StepLog) -> None:
        """Learn the classes of ``task``; a method with epochs reports each to ``log``."""

    def end_task(self, task: Task) -> None:
        """Keep what later tasks need, such as exemplars."""

    def scores(self, batch: Batch) -> torch.Tensor:
        """Return (B, classes seen so far), higher is better: logits, similarities or negative distances."""
        raise TypeError(f"{type(self).__name__} defines no scores")

    def features(self, batch: Batch) -> dict[str, torch.Tensor]:
        """What its network makes of a batch, each (B, D): ``feature``, of both modalities ``audio`` and ``visual``."""
        return {}

    def replayable_clips(self, task: Task) -> np.ndarray:
        """Indices of the training clips that steps after ``task`` may see again."""
        return np.array([], dtype=np.int64)

    def state(self) -> dict:
        """Everything learned so far as tensors and plain values, so that it loads with ``weights_only=True``."""
        return {}

    def load_state(self, state: dict) -> None:
        """Take over what ``state()`` returned."""

    def resume_state(self) -> dict:
        """What only later steps need, beyond ``state()``: kept on disk for the last step alone."""
        return {}

    def load_resume_state(self, state: dict) -> None:
        """Take over what ``resume_state()`` returned."""
