"""Analytic learning: ridge regression on fixed features, in closed form, without exemplars or epochs.

After ACIL (Zhuang et al., NeurIPS 2022). Old classes are not forgotten because the solution is that of all clips seen
so far together, whatever the order in which they came. A clip is seen in several views (its sound, its tokens pooled in
several ways, and both), and each view has its own random features, sums and solutions:

    view x of a clip  ->  phi = relu(random directions . x)  ->  G = sum phi phi^T,  Q = sum phi y^T
    ridge regression W = (G + penalty)^-1 Q, and linear discriminants that follow from it
    scores = sum over views and solutions of  share x (phi W + offset)

The shares, which decide how much sound and sight count and how strongly each view is penalised, are fitted anew after
each step to the validation clips of the classes seen. docs/closed_form.md has reasons, sources and figures.
"""

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from dataloader import Batch, IncrementalData
from engine.gradient import GradientLearner
from engine.learner import EPOCH_OPTIONS, Learner
from engine.step_log import StepLog
from engine.tasks import Task
from model.analytic_features import AnalyticFeatures
from model.random_features import UNIT, RandomFeatures
from model.ridge import RidgeSums
from model.ridge_mixture import RidgeMixture
from utils.command_line import not_negative, not_negative_number, number, positive
from utils.devices import available
from utils.errors import InputError

CLASS_SIZE = 100  # clips of a class that count as much as without --balance
LEAST_BYTES = 2  # for each product of two random features: 32 bits, of half of them
CLIPS_AT_ONCE = 4096  # whose features are held before they enter the sums
KEPT_BYTES = 2e9  # of features of validation and test clips, which stay the same over the steps
TRAIN = 0  # in data.split


class Analytic(Learner):
    @classmethod
    def needs_tokens(cls, modality: str) -> bool:
        return modality != "audio"  # their extremes, in visual runs too

    @classmethod
    def add_options(cls, group: Any) -> None:
        group.add_argument(
            "--expansion",
            type=positive,
            default=7500,
            help="random ReLU features of a single view; of k views each has 1/sqrt(k) as many: the same memory",
        )
        group.add_argument(
            "--penalties",
            type=number(float, "a number above 0, of 1e12 at most", lambda value: 0 < value <= 1e12),
            nargs="+",
            default=[0.125, 1.0],
            help="ridge penalties to mix and to choose from, where 1 counts as much as a clip",
        )
        group.add_argument("--heads", type=not_negative, default=4, help="closed-form attention heads over tokens")
        group.add_argument("--sharpness", type=not_negative_number, default=3.0, help="of the attention of the heads")
        group.add_argument(
            "--balance",
            type=number(float, "a number from 0 to 1", lambda value: 0 <= value <= 1),
            default=0.0,
            help=f"for uneven classes, 0 to 1: a clip of a class of n clips counts ({CLASS_SIZE}/n)^BALANCE",
        )
        group.add_argument(
            "--analytic_trunk",
            choices=("raw", "avcil", "both"),
            default="raw",
            help="what is expanded: the features themselves, those of a network trained in step 0, or both",
        )

    @classmethod
    def without_effect(cls, args: Any) -> dict[str, str]:
        reasons = super().without_effect(args)
        if args.analytic_trunk != "raw":
            reasons = {name: reason for name, reason in reasons.items() if name not in EPOCH_OPTIONS}
        if args.modality != "audio-visual" or args.analytic_trunk == "avcil":
            reasons |= dict.fromkeys(("heads", "sharpness"), "only sound beside sight, as they are, has heads")
        elif not args.heads:
            reasons["sharpness"] = "there are no heads (--heads 0)"
        return reasons

    @classmethod
    def needs_of_network(cls, args: Any) -> set[str] | None:
        return None if args.analytic_trunk == "raw" else {"logits", "feature"}

    @classmethod
    def check_tasks(cls, args: Any, tasks: list[Task]) -> None:
        needed, free = LEAST_BYTES * args.expansion**2, available()
        if needed > free:
            raise InputError(
                f"--expansion {args.expansion}: its sums take {needed / 1e9:.0f} GB or more, {free / 1e9:.0f} GB of"
                f" memory are free; give {int((free / LEAST_BYTES) ** 0.5)} at most"
            )

    def __init__(self, args: Any, data: IncrementalData, device: torch.device):
        super().__init__(args, data, device)
        self.views = AnalyticFeatures(args.heads, args.sharpness, data.visual_shape, args.seed, device)
        self.trunk = None if args.analytic_trunk == "raw" else GradientLearner(args, data, device)
        self.expansions = []  # model.random_features.RandomFeatures of each view
        self.ridge: RidgeMixture | None = None
        self.weights: torch.Tensor | None = None
        self.offsets: torch.Tensor | None = None
        self.mixture: Any = None
        self.kept = {}  # clip -> its features

    def fit_task(self, task: Task, log: StepLog) -> None:
        clips = self.data.clips("train", task.new)
        if task.index == 0:
            self._fit_views(task, log, clips)
        self._add(clips, task.stop)
        self._solve(self.data.clips("val", task.seen))

    @torch.no_grad()
    def scores(self, batch: Batch) -> torch.Tensor:
        assert self.weights is not None and self.offsets is not None  # after a step
        return self._features(batch).double() @ self.weights.double() + self.offsets

    def _fit_views(self, task, log, clips):
        """Measure scales and heads on the first step's clips; with a trunk, train the network too."""
        if self.trunk:
            self.trunk.begin_task(task)
            self.trunk.fit_task(task, log)
        if self.args.analytic_trunk == "avcil":
            return
        vectors = self.views.fit(lambda: self._batches(clips))
        if not self.trunk:  # pooled already: these clips' tokens need not be looked at again
            for rows in np.array_split(np.arange(len(clips)), len(self._plan(clips))):
                part = {name: values[rows] for name, values in vectors.items()}
                self._keep(clips[rows], self._expand(self.views(part), self._clip_weight(clips[rows])))

    def _add(self, clips, num_classes):
        """Take ``clips`` into the sums; of several processes each adds a part of them, and all get the whole."""
        group = self.data.group
        for chunk in np.split(clips, range(CLIPS_AT_ONCE, len(clips), CLIPS_AT_ONCE)):
            features, label = self._features_and_labels(chunk)
            self.ridge = self.ridge or self._new_ridge()
            self.ridge.grow(num_classes)
            if group is None:
                self.ridge.add(features, label)
            else:
                part = self._new_ridge()
                part.grow(num_classes)
                part.add(features[group.rank :: group.world], label[group.rank :: group.world])
                part.all_reduce(group)
                self.ridge.merge(part)
        for clip in clips:
            self.kept.pop(clip, None)

    def _solve(self, clips):
        """Solve for all penalties, and mix the solutions as does best on the validation ``clips``."""
        features, label = self._features_and_labels(clips)
        assert self.ridge is not None  # clips come first
        weights, self.offsets, self.mixture = self.ridge.solve(
            self.args.penalties, features, label, self._class_weight(), UNIT**2
        )
        self.weights = weights.float()

    def _new_ridge(self):
        return RidgeMixture([RidgeSums(expansion.width, self.device) for expansion in self.expansions])

    def _plan(self, clips):
        size = self.args.infer_batch_size
        return [clips[start : start + size] for start in range(0, len(clips), size)]

    def _batches(self, clips):
        plan = self._plan(clips)
        return tqdm(self.data.batches(plan), "Features", len(plan), unit="batch", disable=None, leave=False)

    @torch.no_grad()
    def _features_and_labels(self, clips):
        parts = [(self._features(batch), batch.label) for batch in self._batches(clips)]
        return (torch.cat(each) for each in zip(*parts, strict=True))

    def _features(self, batch):
        """Random features of a batch (B, E) int16, those of all views side by side."""
        if batch.clip is None:
            return self._expand(self._views_of(batch))
        if all(clip in self.kept for clip in batch.clip):
            return torch.stack([self.kept[clip] for clip in batch.clip])
        if (self.data.split[batch.clip] == TRAIN).any():
            return self._expand(self._views_of(batch), self._clip_weight(batch.clip))
        features = self._expand(self._views_of(batch))
        self._keep(batch.clip, features)
        return features

    def _views_of(self, batch):
        views = {} if self.args.analytic_trunk == "avcil" else self.views(self.views.vectors(batch))
        if self.trunk:
            self.trunk.network.eval()
            views["network"] = F.normalize(self.trunk.forward(self.trunk.network, batch)["feature"].double(), dim=1)
        return views

    def _expand(self, views, weight=None):
        if not self.expansions:
            width = max(1, int(self.args.expansion / len(views) ** 0.5))
            self.expansions = [
                RandomFeatures(x.shape[1], width, self.args.seed * len(views) + number, self.device)
                for number, x in enumerate(views.values())
            ]
        parts = zip(self.expansions, views.values(), strict=True)
        return torch.cat([expansion(x, weight) for expansion, x in parts], 1)

    def _keep(self, clips, features):
        if (len(self.kept) + len(clips)) * features[:1].nbytes <= KEPT_BYTES:
            self.kept.update(zip(clips, features, strict=True))

    def _class_weight(self):
        """The square root of what a clip of each class counts, (classes,) float64, or None: all count the same.

        A class comes whole within one step, so that its size is known and never changes.
        """
        if not self.args.balance:
            return None
        sizes = np.bincount(self.data.label[self.data.split == TRAIN])
        return torch.from_numpy((CLASS_SIZE / sizes) ** (self.args.balance / 2)).to(self.device)

    def _clip_weight(self, clips):
        """What the features of training clips are multiplied by, (n,), or None."""
        weight = self._class_weight()
        return None if weight is None else weight[self.data.labels[torch.from_numpy(clips)]]

    def state(self) -> dict:
        return {
            "views": self.views.state(),
            "trunk": self.trunk.state() if self.trunk else None,
            "weights": self.weights,
            "offsets": self.offsets,
            "mixture": self.mixture,
        }

    def load_state(self, state: dict) -> None:
        self.views.load_state(state["views"])
        if self.trunk:
            self.trunk.load_state(state["trunk"])
        self.weights, self.offsets = state["weights"].to(self.device), state["offsets"].to(self.device)
        self.mixture = state["mixture"]

    def resume_state(self) -> dict:
        return self.ridge.state() if self.ridge else {"sums": []}

    def load_resume_state(self, state: dict) -> None:
        self.ridge = RidgeMixture([RidgeSums(len(saved["cross"]), self.device) for saved in state["sums"]])
        self.ridge.load_state(state)
