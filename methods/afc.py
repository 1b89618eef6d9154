"""AFC: Adaptive Feature Consolidation (Kang, Park, Han; CVPR 2022).

Features that mattered to the old network's loss must change least. The classifier LSC compares a feature with several
proxies per class and learns by NCA; NME is the nearest mean of exemplars.
"""

import math

import torch
from sklearn.cluster import KMeans
from torch.nn import functional as F

from engine.herding import HerdingLearner
from model.heads import ProxyHead
from utils.losses import nca

SENSES = ("pooled", "visual", "audio")


class AFC(HerdingLearner):
    classifiers = ("LSC", "NME")
    head = ProxyHead

    @classmethod
    def add_options(cls, group):
        group.add_argument("--lam_disc", type=float, default=0.5, help="weight of the feature distillation")
        group.add_argument("--nca_margin", type=float, default=0.6, help="margin of the NCA loss")

    def grow_head(self, task):
        # The old network must say how it would judge new classes: with proxies that know nothing yet.
        self.teacher.classifier.grow(task.num_new)
        self.teacher.requires_grad_(False)
        clips = self.data.clips("train", task.new)
        head = self.network.classifier
        proxies = imprint_proxies(self.features_by_class(clips), head.per_class)
        head.grow(task.num_new, head.mean_norm() * proxies)

    def losses(self, batch, task):
        out = self.forward(self.network, batch)
        terms = {"nca": self.nca(self.network, out, batch.label)}
        if task.index > 0:
            weight = self.args.lam_disc * math.sqrt(task.index + 1)
            terms["feature_distillation"] = weight * self.feature_distillation(out, batch)
        return terms

    def nca(self, network, out, label):
        released = self.args.variant == "released"
        return nca(out["logits"], label, network.classifier.scale, self.args.nca_margin, released)

    def feature_distillation(self, out, batch):
        """Change of each normalised feature, weighted by its importance to the old network; mean over clips."""
        old = self.taught(batch)
        total = 0
        for name in self.names:
            change = F.normalize(out[name], dim=1) - F.normalize(old[name], dim=1)
            total = total + (old[f"importance_{name}"] * change.norm(dim=1)).mean()
        return total

    @property
    def names(self):
        """The features that must not change."""
        return SENSES if self.args.modality == "audio-visual" else ("feature",)

    def lesson(self, batch):
        """The old features, and the share of each in the gradient of the old network's loss."""
        out = self.forward(self.teacher, batch)
        if self.args.modality == "audio-visual":
            shares = self.importance(out, batch.label)
        else:
            # A single feature is all there is.
            shares = {"feature": torch.ones(len(batch), device=self.device)}
        return {name: out[name] for name in self.names} | {f"importance_{name}": x for name, x in shares.items()}

    @torch.enable_grad()
    def importance(self, old, label):
        """Share (B,) of each of SENSES in the gradient of the old network's loss: norms that sum to 1 per clip."""
        pooled, audio = (old[name].detach().requires_grad_() for name in ("pooled", "audio"))
        out = self.teacher.fuse(audio, pooled) | {"pooled": pooled}
        gradients = torch.autograd.grad(self.nca(self.teacher, out, label), [out[name] for name in SENSES])
        norms = torch.stack([gradient.norm(dim=1) for gradient in gradients])
        return dict(zip(SENSES, norms / norms.sum(0).clamp_min(torch.finfo(norms.dtype).tiny), strict=True))


def imprint_proxies(features_by_class, per_class):
    """KMeans centres of each class's l2-normalised features: (classes * per_class, D).

    ``features_by_class``: one (N, D) tensor per class. A class with fewer distinct clips than ``per_class`` has as many
    centres as clips, taken in turn. Source: AFC, CVPR 2022 (imprinted weights of Qi et al., CVPR 2018).
    """
    return torch.cat([_centres(F.normalize(features, dim=1), per_class) for features in features_by_class])


def _centres(features, count):
    distinct = torch.unique(features, dim=0)
    if len(distinct) <= count:
        centres = distinct[torch.arange(count) % len(distinct)]
    else:
        # Its random numbers are numpy's, which the run has seeded.
        kmeans = KMeans(count, n_init=10).fit(features.cpu().numpy())
        centres = torch.from_numpy(kmeans.cluster_centers_)
    return centres.to(features)
