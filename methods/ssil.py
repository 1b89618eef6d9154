"""SS-IL: Separated Softmax for Incremental Learning (Ahn et al., ICCV 2021). Old and new classes never compete."""

import torch

from dataloader import Batch
from engine.gradient import GradientLearner
from engine.tasks import Task
from utils.losses import separated_cross_entropy, task_wise_distillation


class SSIL(GradientLearner):
    replay = "paired"
    has_teacher = True

    def losses(self, batch: Batch, task: Task) -> dict[str, torch.Tensor]:
        if task.index == 0:
            return super().losses(batch, task)
        logits = self.forward(self.network, batch)["logits"]
        return {
            "cross_entropy": separated_cross_entropy(logits, batch, task.start),
            "distillation": task_wise_distillation(logits, self.cached_outputs(batch)["logits"], task.past),
        }
