"""What iCaRL and AFC share: herded exemplars mixed with the new clips, and the nearest mean of exemplars."""

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from dataloader import Batch
from engine.gradient import GradientLearner
from engine.tasks import Task
from utils.exemplars import class_mean, herd
from utils.seeding import start_pass


class HerdingLearner(GradientLearner):
    """Exemplars by herding, replayed within the pool of new clips. With the classifier NME, scores are distances."""

    replay = "merged"
    has_teacher = True
    class_means = None  # (classes, D), of the network as it is, when the classifier is NME

    def training_clips(self, task: Task) -> np.ndarray:
        return np.concatenate((super().training_clips(task), self.exemplars()))

    @torch.no_grad()
    def features(self, clips: np.ndarray) -> torch.Tensor:
        """L2-normalised features (N, D) of ``clips``."""
        start_pass()
        self.network.eval()
        features = [self.forward(self.network, batch)["feature"] for batch in self.batches(clips)]
        return F.normalize(torch.cat(features), dim=1)

    def features_by_class(self, clips: np.ndarray) -> tuple[torch.Tensor, ...]:
        """``features``, cut into one tensor per class, in the order in which ``clips`` bring the classes."""
        starts = np.flatnonzero(np.diff(self.data.label[clips], prepend=-1))
        return self.features(clips).tensor_split(starts[1:].tolist())

    def herd(self, features: torch.Tensor, quota: int) -> list[int]:
        return herd(features, quota, repeat=self.args.variant == "released")

    def choose_exemplars(self, task: Task, quota: int) -> dict[int, list[str]]:
        videos = self.data.ids_by_class(task.new)
        features = self.features_by_class(self.data.clips("train", task.new))
        return {
            label: [videos[label][row] for row in self.herd(rows, quota)]
            for label, rows in zip(videos, features, strict=True)
        }

    def prepare_scores(self, task: Task) -> None:
        """Class means by the network as it is: of old classes' exemplars, and of those herded from the new ones."""
        if self.args.classifier != "NME":
            return
        quota, released = self.memory.quota(task.start or task.stop), self.args.variant == "released"
        features = self.features_by_class(self.training_clips(task))
        new, old = features[: task.num_new], features[task.num_new :]
        chosen = [rows[self.herd(rows, quota)] for rows in new]
        self.class_means = torch.stack([class_mean(rows, quota, released) for rows in (*old, *chosen)])

    def scores(self, batch: Batch) -> torch.Tensor:
        if self.args.classifier != "NME":
            return super().scores(batch)
        self.network.eval()
        feature = F.normalize(self.forward(self.network, batch)["feature"], dim=1)
        return -torch.cdist(feature, self.class_means)

    def snapshot(self) -> dict[str, Any]:
        return super().snapshot() | {"class_means": self.class_means}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        means = state["class_means"]
        self.class_means = None if means is None else means.to(self.device)
