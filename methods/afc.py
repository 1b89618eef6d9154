"""AFC: Adaptive Feature Consolidation (Kang, Park, Han; CVPR 2022).

Features that mattered to the old network's loss must change least. The classifier LSC compares a feature with several
proxies per class and learns by NCA; NME is the nearest mean of exemplars.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch.nn import functional as F

from dataloader import Batch
from engine.herding import HerdingLearner
from engine.tasks import Task
from model.heads import ProxyHead
from utils.command_line import not_negative_number
from utils.errors import InputError
from utils.losses import nca
from utils.seeding import shuffled_pass

DISTILLED = ("pooled", "visual", "audio")  # features of an audio-visual network
ROUND_OFF = 1e-6  # of distances between unit vectors in float32


class AFC(HerdingLearner):
    classifiers = ("LSC", "NME")
    head = ProxyHead
    tf32_holds = True

    @classmethod
    def add_options(cls, group: Any) -> None:
        def number(name, default, help_text):
            group.add_argument(f"--{name}", type=not_negative_number, default=default, help=help_text)

        number("lam_disc", 0.5, "weight of the feature distillation")
        number("nca_margin", 0.6, "margin of the NCA loss, with --variant corrected")

    @classmethod
    def without_effect(cls, args: Any) -> dict[str, str]:
        cancels = {"nca_margin": "the margin cancels in the released loss; --variant corrected has it act"}
        return super().without_effect(args) | (cancels if args.variant == "released" else {})

    @classmethod
    def needs_of_network(cls, args: Any) -> set[str]:
        return {"logits", "feature", *((*DISTILLED, "fuse") if args.modality == "audio-visual" else ())}

    @classmethod
    def check_tasks(cls, args: Any, tasks: list[Task]) -> None:
        if args.variant == "corrected" and tasks[0].num_new < 2:
            raise InputError(
                "--classes_per_step: AFC's loss compares a class with others, and the first step has one; give it two"
                " or more, or take --variant released"
            )

    def grow_head(self, task: Task) -> None:
        # The teacher judges new classes with proxies that know nothing yet; the network's are imprinted.
        self.teacher.classifier.grow(task.num_new)
        self.teacher.requires_grad_(False)
        head = self.network.classifier
        proxies = imprint_proxies(self.features_to_imprint(task), head.per_class)
        head.grow(task.num_new, head.mean_norm() * proxies)

    def features_to_imprint(self, task: Task) -> list[torch.Tensor]:
        """Of each new class the features (N, D) of its clips in a shuffled pass, whose incomplete batch is dropped.

        A class that has too few of them there for its proxies, with which the published code cannot go on, brings all
        its clips.
        """
        batches = shuffled_pass(self.training_clips(task), self.args.train_batch_size)
        by_class = self.features_by_class(batches)
        for label in range(task.start, task.stop):
            if len(by_class.get(label, ())) < self.network.classifier.per_class:
                clips = self.data.clips("train", slice(label, label + 1))
                by_class |= self.features_by_class([(clips, 0)])
        return [by_class[label] for label in range(task.start, task.stop)]

    def losses(self, batch: Batch, task: Task) -> dict[str, torch.Tensor]:
        out = self.forward(self.network, batch)
        terms = {"nca": self.nca(self.network, out, batch.label)}
        if task.index > 0:
            weight = self.args.lam_disc * math.sqrt(task.index + 1)
            terms["feature_distillation"] = weight * self.feature_distillation(out, batch)
        return terms

    def nca(self, network: Any, out: dict[str, torch.Tensor], label: torch.Tensor) -> torch.Tensor:
        """NCA loss of ``network``, whose outputs are ``out``; ``label`` (B,)."""
        released = self.args.variant == "released"
        return nca(out["logits"], label, network.classifier.scale, self.args.nca_margin, released)

    def feature_distillation(self, out: dict[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Change of each normalised feature, weighted by its importance to the old network; mean over clips.

        At first nothing has changed. What round-off makes of that counts as nothing: a norm's gradient has length 1
        however small the norm is.
        """
        teacher = self.cached_outputs(batch)
        total: Any = 0
        for name in self.distilled:
            change = F.normalize(out[name], dim=1) - F.normalize(teacher[name], dim=1)
            distance = change.norm(dim=1)
            distance = torch.where(distance < ROUND_OFF, 0, distance)
            total = total + (teacher[f"importance_{name}"] * distance).mean()
        return total

    @property
    def distilled(self) -> tuple[str, ...]:
        """The names of the features that must not change."""
        return DISTILLED if self.args.modality == "audio-visual" else ("feature",)

    def teacher_outputs(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The teacher's features (B, D), and the share (B,) of each in the gradient of its loss."""
        out = self.forward(self.teacher, batch)
        if self.args.modality == "audio-visual":
            importance = self.importance(out, batch.label)
        else:
            # A single feature is all there is.
            importance = {"feature": torch.ones(len(batch), device=self.device)}
        features = {name: out[name] for name in self.distilled}
        return features | {f"importance_{name}": share for name, share in importance.items()}

    @torch.enable_grad()
    def importance(self, teacher: dict[str, torch.Tensor], label: torch.Tensor) -> dict[str, torch.Tensor]:
        """Share (B,) of each of DISTILLED in the gradient of the teacher's loss: norms that sum to 1 per clip."""
        pooled, audio = (teacher[name].detach().requires_grad_() for name in ("pooled", "audio"))
        out = self.teacher.fuse(audio, pooled) | {"pooled": pooled}
        gradients = torch.autograd.grad(self.nca(self.teacher, out, label), [out[name] for name in DISTILLED])
        norms = torch.stack([gradient.norm(dim=1) for gradient in gradients])
        return dict(zip(DISTILLED, norms / norms.sum(0).clamp_min(torch.finfo(norms.dtype).tiny), strict=True))


def imprint_proxies(features_by_class: Sequence[torch.Tensor], per_class: int) -> torch.Tensor:
    """KMeans centres of each class's l2-normalised features: (classes * per_class, D).

    ``features_by_class``: one (N, D) tensor per class, of unit length. A class with fewer clips than ``per_class`` has
    these as centres, taken in turn. Source: AFC, CVPR 2022 (imprinted weights of Qi et al., CVPR 2018).
    """
    # The published code normalises once more: that changes the last bit, and with it a cluster now and then.
    return torch.cat([_centres(F.normalize(features, dim=1), per_class) for features in features_by_class])


def _centres(features, count):
    if len(features) < count:
        return features[torch.arange(count) % len(features)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of equal clips: some centres are then equal as well
        # Its random numbers are numpy's, which the run has seeded.
        kmeans = KMeans(count, n_init=10)  # pyright: ignore[reportArgumentType] (its hint is "auto" alone)
        kmeans.fit(features.cpu().numpy())
    return torch.from_numpy(kmeans.cluster_centers_).to(features)
