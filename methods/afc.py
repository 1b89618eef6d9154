"""AFC: Adaptive Feature Consolidation (Kang, Park, Han; CVPR 2022).

Features that mattered to the old network's loss must change least. The classifier LSC compares a feature with several
proxies per class and learns by NCA; NME is the nearest mean of exemplars.
"""

import math

import torch
from torch.nn import functional as F

from engine.herding import HerdingLearner
from model.heads import ProxyHead
from utils.losses import nca
from utils.proxies import imprint_proxies

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
        old = self.teach(batch)
        # A single sense is all there is, so its share is 1.
        weights = self.importance(old, batch.label) if "pooled" in old else {"feature": 1.0}
        change = {name: F.normalize(out[name], dim=1) - F.normalize(old[name], dim=1) for name in weights}
        return sum((weight * change[name].norm(dim=1)).mean() for name, weight in weights.items())

    @torch.enable_grad()
    def importance(self, old, label):
        """Share (B,) of each of SENSES in the gradient of the old network's loss: norms that sum to 1 per clip."""
        pooled, audio = (old[name].detach().requires_grad_() for name in ("pooled", "audio"))
        out = self.teacher.fuse(audio, pooled) | {"pooled": pooled}
        gradients = torch.autograd.grad(self.nca(self.teacher, out, label), [out[name] for name in SENSES])
        norms = torch.stack([gradient.norm(dim=1) for gradient in gradients])
        return dict(zip(SENSES, norms / norms.sum(0).clamp_min(torch.finfo(norms.dtype).tiny), strict=True))
