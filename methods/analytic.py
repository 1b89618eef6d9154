"""Analytic learning: ridge regression on fixed features, in closed form, without exemplars or epochs.

After ACIL (Zhuang et al., NeurIPS 2022), DS-AL (AAAI 2024) and MMAL. Old classes are not forgotten because the solution
is that of all clips seen so far together, whatever the order in which they came.
"""

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from engine.gradient import GradientLearner
from engine.learner import Learner
from model.analytic_features import AnalyticFeatures
from model.ridge import LeastSquares
from utils.command_line import not_negative, not_negative_number, positive, positive_number

CLASS_SIZE = 100  # clips of a class that count as much as without --balance


class Analytic(Learner):
    @classmethod
    def add_options(cls, group):
        group.add_argument("--expansion", type=positive, default=8192, help="random ReLU features")
        group.add_argument(
            "--gamma",
            type=positive_number,
            nargs="+",
            default=[10.0, 100.0, 1000.0, 10000.0],
            help="ridge penalties to choose from by validation",
        )
        group.add_argument("--heads", type=not_negative, default=4, help="closed-form attention heads over tokens")
        group.add_argument("--sharpness", type=not_negative_number, default=3.0, help="of the attention of the heads")
        group.add_argument(
            "--balance",
            type=not_negative_number,
            default=0.0,
            help=f"for uneven classes, 0 to 1: a clip of a class of n clips counts ({CLASS_SIZE}/n)^BALANCE",
        )
        group.add_argument(
            "--analytic_trunk",
            choices=("raw", "avcil", "both"),
            default="raw",
            help="what is expanded: the features themselves, those of a network trained in step 0, or both",
        )

    def __init__(self, args, data, device):
        super().__init__(args, data, device)
        self.features = AnalyticFeatures(args.heads, args.sharpness)
        self.trunk = None if args.analytic_trunk == "raw" else GradientLearner(args, data, device)
        self.sums = LeastSquares(args.expansion, device)
        self.gamma = self.weights = self.random = None

    def fit_task(self, task, log):
        clips, val = self.data.clips("train", task.new), self.data.clips("val", task.seen)
        if task.index == 0:
            self._fit_features(task, log, clips)
        self.sums.grow(task.stop)
        self._add(clips)
        self._choose_weights(val)

    def scores(self, batch):
        return self._expanded(batch) @ self.weights

    def _fit_features(self, task, log, clips):
        if self.trunk:
            self.trunk.begin_task(task)
            self.trunk.fit_task(task, log)
        if self.args.analytic_trunk != "avcil":
            self.features.fit(lambda: self._batches(clips))

    def _batches(self, clips):
        size = self.args.infer_batch_size
        plan = [clips[start : start + size] for start in range(0, len(clips), size)]
        return tqdm(self.data.batches(plan), "Features", len(plan), unit="batch", disable=None, leave=False)

    @torch.no_grad()
    def _add(self, clips):
        """Take ``clips`` into the sums; of several processes each takes a part, and all get the whole."""
        group = self.data.group
        found = self.sums if group is None else LeastSquares(self.args.expansion, self.device)
        found.grow(self.sums.cross.shape[1])
        weights = self._class_weights(clips)
        for batch in self._batches(clips):
            mine = slice(None) if group is None else slice(group.rank, None, group.world)
            label = batch.label[mine]
            found.add(self._expanded(batch)[mine], label, weight=None if weights is None else weights[label])
        if group is not None:
            found.gram, found.cross = group.sum(found.gram), group.sum(found.cross)
            found.count = len(clips)
            self.sums.merge(found)

    def _class_weights(self, clips):
        """How much a clip of each class counts, (classes,) float64, or None: all the same.

        A class comes whole within one step, so that its size is known and never changes.
        """
        if not self.args.balance:
            return None
        sizes = np.bincount(self.data.label[clips]).clip(1)
        return torch.from_numpy((CLASS_SIZE / sizes) ** self.args.balance).to(self.device)

    @torch.no_grad()
    def _choose_weights(self, clips):
        """Solve for each penalty in question, and keep what does best on ``clips``; of equals the larger penalty."""
        found = [(self._expanded(batch), batch.label) for batch in self._batches(clips)]
        phi, label = (torch.cat(parts) for parts in zip(*found, strict=True))
        best, solve = (-1.0, 0.0), self.sums.solver()
        for gamma in self._penalties():
            weights = solve(gamma)
            accuracy = float(((phi @ weights).argmax(1) == label).double().mean())
            if (accuracy, gamma) > best:
                best, self.weights = (accuracy, gamma), weights
        self.gamma = best[1]

    def _penalties(self):
        """All of them at first, then the last choice and the next larger: with more clips the sums only grow."""
        grid = sorted(self.args.gamma)
        if self.gamma is None:
            return grid
        place = grid.index(self.gamma)
        return grid[place : place + 2]

    def _expanded(self, batch):
        """Random ReLU features (B, E) float64 of a batch."""
        parts = [] if self.args.analytic_trunk == "avcil" else [self.features(batch)]
        if self.trunk:
            self.trunk.network.eval()
            parts.append(F.normalize(self.trunk.forward(self.trunk.network, batch)["feature"].double(), dim=1))
        rows = torch.cat(parts, 1)
        if self.random is None:
            self.random = self._random_directions(rows.shape[1])
        return torch.relu(rows @ self.random)

    def _random_directions(self, width):
        generator = torch.Generator().manual_seed(self.args.seed)
        drawn = torch.randn(width, self.args.expansion, generator=generator, dtype=torch.float64)
        return (drawn / width**0.5).to(self.device)

    def state(self):
        trunk = self.trunk.state() if self.trunk else None
        return {"features": self.features.state(), "trunk": trunk, "weights": self.weights, "gamma": self.gamma}

    def load_state(self, state):
        self.features.load_state(state["features"], self.device)
        if self.trunk:
            self.trunk.load_state(state["trunk"])
        self.weights, self.gamma = state["weights"].to(self.device), state["gamma"]

    def resume_state(self):
        return self.sums.state()

    def load_resume_state(self, state):
        self.sums.load_state(state)
