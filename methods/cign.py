"""CIGN: Class-Incremental Grouping Network (Mo, Pian, Tian; ICCV 2023). A learnable token per class gathers evidence.

Separated cross-entropy and task-wise distillation as in SS-IL; each token must say its class, and to the old tokens the
classifier of tokens must go on answering as it did (class-token distillation).
"""

from typing import Any

import torch
from torch.nn import functional as F

from dataloader import Batch
from engine.gradient import GradientLearner
from engine.tasks import Task
from model.class_tokens import ClassTokenNet
from utils.command_line import not_negative_number
from utils.losses import class_token_distillation, separated_cross_entropy, task_wise_distillation


class CIGN(GradientLearner):
    replay = "paired"
    has_teacher = True
    has_features = False  # each class has its own
    precisions = ("auto", "fp32", "tf32")

    @classmethod
    def needs_tokens(cls, modality: str) -> bool:
        return modality != "audio"

    @classmethod
    def add_options(cls, group: Any) -> None:
        def weight(name, default, what):
            group.add_argument(f"--{name}", type=not_negative_number, default=default, help=f"weight of {what}")

        weight("lam_KD", 1.0, "the task-wise distillation of the logits")
        weight("lam_token", 1.0, "the identity of class tokens")
        weight("lam_token_KD", 1.0, "the class-token distillation")

    @classmethod
    def needs_of_network(cls, args: Any) -> None:
        return None  # class tokens are in a network of their own

    def new_network(self, num_classes: int) -> ClassTokenNet:
        self.sizes = [num_classes]
        data = self.data
        return ClassTokenNet(self.args.modality, num_classes, data.audio_dim, data.visual_dim).to(self.device)

    def losses(self, batch: Batch, task: Task) -> dict[str, torch.Tensor]:
        logits = self.forward(self.network, batch)["logits"]
        terms = {"token_identity": self.args.lam_token * self._token_identity()}
        if task.index == 0:
            return {"cross_entropy": F.cross_entropy(logits, batch.label)} | terms
        teacher_logits = self.cached_outputs(batch)["logits"]
        return terms | {
            "cross_entropy": separated_cross_entropy(logits, batch, task.start),
            "distillation": self.args.lam_KD * task_wise_distillation(logits, teacher_logits, task.past),
            "token_distillation": self.args.lam_token_KD * self._token_distillation(task.start),
        }

    def _token_identity(self):
        """Each token is classified as its own class."""
        head = self.network.classifier
        classes = torch.arange(head.num_classes, device=self.device)
        return F.cross_entropy(head.identity(head.tokens), classes)

    def _token_distillation(self, num_old):
        new, old = self.network.classifier, self.teacher.classifier
        return class_token_distillation(new.identity(new.tokens[:num_old])[:, :num_old], old.identity(old.tokens))
