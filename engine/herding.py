"""What iCaRL and AFC share: herded exemplars mixed with the new clips, and the nearest mean of exemplars."""

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from dataloader import Batch
from engine.gradient import GradientLearner
from engine.tasks import Task
from utils.exemplars import class_mean, herd
from utils.seeding import Batches, plain_pass


class HerdingLearner(GradientLearner):
    """Exemplars by herding, replayed within the pool of new clips. With the classifier NME, scores are distances.

    With NME, class means and the new classes' exemplars are chosen after every epoch; those of the best epoch count.
    Otherwise the network of the best epoch chooses exemplars once.
    """

    replay = "merged"
    has_teacher = True
    has_variants = True
    class_means: torch.Tensor | None = None  # NME: (classes, D), of the network as it is
    herded: dict[int, list[str]] | None = None  # NME: {new class: ids}, by the network as it is

    @classmethod
    def needs_of_network(cls, args: Any) -> set[str] | None:
        return {"logits", "feature"}

    def training_clips(self, task: Task) -> np.ndarray:
        return np.concatenate((super().training_clips(task), self.exemplars()))

    @torch.no_grad()
    def features_by_class(self, batches: Batches) -> dict[int, torch.Tensor]:
        """L2-normalised features (N, D) of each class in a pass over clips, in the order of the pass."""
        self.network.eval()
        features = [self.forward(self.network, batch)["feature"] for batch in self.data.batches(batches)]
        features = F.normalize(torch.cat(features), dim=1)
        label = self.data.label[np.concatenate([clips for clips, _ in batches])]
        classes, sizes = np.unique(label, return_counts=True)
        (order,) = self.data.upload([(np.argsort(label, kind="stable"), 0)])
        parts = features.index_select(0, order).split(sizes.tolist())
        return dict(zip(classes.tolist(), parts, strict=True))

    def choose_exemplars(self, task: Task, quota: int) -> dict[int, list[str]]:
        if self.args.classifier == "NME":
            assert self.herded is not None  # after an epoch
            return self.herded
        clips = self.data.clips("train", task.new)
        features = self.features_by_class(plain_pass(clips, self.args.infer_batch_size))
        return self._ids(task, self._herd(features, task, quota))

    def prepare_scores(self, task: Task) -> None:
        """With NME: class means of all classes seen, each over at most its quota of clips, and the new exemplars."""
        if self.args.classifier != "NME":
            return
        # The quota is that of the classes seen now: old classes count with the first so many of their exemplars.
        quota, released = self.memory.quota(task.stop), self.args.variant == "released"
        old = self.data.indices(self.memory.ids(quota))
        clips = np.concatenate((self.data.clips("train", task.new), old))
        features = self.features_by_class(plain_pass(clips, self.args.infer_batch_size))
        rows = self._herd(features, task, quota)
        exemplars = features | {label: features[label].index_select(0, rows[label]) for label in rows}
        means = [class_mean(exemplars[label], quota, released) for label in range(task.stop)]
        self.class_means = torch.stack(means)
        self.herded = self._ids(task, rows)

    def _herd(self, features, task, quota):
        """Of the new classes the rows of ``features``, {class: (N, D)}, that are chosen: {class: indices}."""
        classes = range(task.start, task.stop)
        chosen = herd([features[label] for label in classes], quota, repeat=self.args.variant == "released")
        return dict(zip(classes, chosen, strict=True))

    def _ids(self, task, rows):
        """The ids of ``rows``, {new class: indices of its training clips}."""
        videos, numbers = self.data.ids_by_class(task.new), iter(torch.cat(list(rows.values())).tolist())
        return {label: [videos[label][next(numbers)] for _ in rows[label]] for label in rows}

    def scores(self, batch: Batch) -> torch.Tensor:
        if self.args.classifier != "NME":
            return super().scores(batch)
        self.network.eval()
        feature = F.normalize(self.forward(self.network, batch)["feature"], dim=1)
        assert self.class_means is not None  # after an epoch
        return -torch.cdist(feature, self.class_means)

    def end_task(self, task: Task) -> None:
        super().end_task(task)
        self.herded = None  # in memory now

    def snapshot(self) -> dict[str, Any]:
        return super().snapshot() | {"class_means": self.class_means, "herded": self.herded}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        means = state["class_means"]
        self.class_means = None if means is None else means.to(self.device)
        self.herded = state.get("herded")  # absent in runs of earlier versions
