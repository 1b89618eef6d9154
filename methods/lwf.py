"""LwF: Learning without Forgetting (Li and Hoiem, ECCV 2016). No exemplars: the old network's answers on new clips."""

import torch
from torch.nn import functional as F

from dataloader import Batch
from engine.gradient import GradientLearner
from engine.tasks import Task
from utils.losses import task_wise_distillation


class LwF(GradientLearner):
    has_teacher = True
    tf32_holds = True

    def losses(self, batch: Batch, task: Task) -> dict[str, torch.Tensor]:
        if task.index == 0:
            return super().losses(batch, task)
        logits = self.forward(self.network, batch)["logits"]
        return {
            "cross_entropy": F.cross_entropy(logits[:, task.new], batch.label - task.start),
            "distillation": task_wise_distillation(logits, self.cached_outputs(batch)["logits"], task.past),
        }
