"""What iCaRL and AFC share: herded exemplars mixed with the new clips, and the nearest mean of exemplars."""

import numpy as np
import torch
from torch.nn import functional as F

from engine.gradient import GradientLearner
from utils.exemplars import class_mean, herd
from utils.seeding import start_pass


class HerdingLearner(GradientLearner):
    """Exemplars by herding, replayed within the pool of new clips. With the classifier NME, scores are distances."""

    replay = "merged"
    has_teacher = True
    class_means = None  # (classes, D), of the network as it is, when the classifier is NME

    def training_clips(self, task):
        return np.concatenate((super().training_clips(task), self.exemplars()))

    @torch.no_grad()
    def features(self, clips):
        """L2-normalised features (N, D) of ``clips``."""
        start_pass()
        self.network.eval()
        found = [self.forward(self.network, batch)["feature"] for batch in self.batches(clips)]
        return F.normalize(torch.cat(found), dim=1)

    def features_by_class(self, clips):
        """``features``, cut into one tensor per class, in the order in which ``clips`` bring the classes."""
        starts = np.flatnonzero(np.diff(self.data.label[clips], prepend=-1))
        return self.features(clips).tensor_split(starts[1:].tolist())

    def herd(self, features, quota):
        return herd(features, quota, repeat=self.args.variant == "released")

    def choose_exemplars(self, task, quota):
        videos = self.data.ids_by_class(task.new)
        features = self.features_by_class(self.data.clips("train", task.new))
        return {
            label: [videos[label][row] for row in self.herd(rows, quota)]
            for label, rows in zip(videos, features, strict=True)
        }

    def prepare_scores(self, task):
        """Take the class means anew: old classes by their exemplars, new ones by those they would get as things are."""
        if self.args.classifier != "NME":
            return
        quota, released = self.memory.quota(task.start or task.stop), self.args.variant == "released"
        features = self.features_by_class(self.training_clips(task))
        new, old = features[: task.num_new], features[task.num_new :]
        chosen = [rows[self.herd(rows, quota)] for rows in new]
        self.class_means = torch.stack([class_mean(rows, quota, released) for rows in (*old, *chosen)])

    def scores(self, batch):
        if self.args.classifier != "NME":
            return super().scores(batch)
        self.network.eval()
        feature = F.normalize(self.forward(self.network, batch)["feature"], dim=1)
        return -torch.cdist(feature, self.class_means)

    def fitted(self):
        return super().fitted() | {"class_means": self.class_means}

    def load_fitted(self, state):
        super().load_fitted(state)
        means = state["class_means"]
        self.class_means = None if means is None else means.to(self.device)
