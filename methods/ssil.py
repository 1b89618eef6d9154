"""SS-IL: Separated Softmax for Incremental Learning (Ahn et al., ICCV 2021). Old and new classes never compete."""

import torch
from torch.nn import functional as F

from dataloader import Batch
from engine.gradient import GradientLearner
from engine.tasks import Task
from utils.losses import released_joint_cross_entropy, separated_cross_entropy, task_wise_distillation


class SSIL(GradientLearner):
    replay = "paired"
    has_teacher = True
    tf32_holds = True

    def losses(self, batch: Batch, task: Task) -> dict[str, torch.Tensor]:
        if task.index == 0:
            return super().losses(batch, task)
        logits = self.forward(self.network, batch)["logits"]
        return {
            "cross_entropy": self._cross_entropy(logits, batch, task),
            "distillation": task_wise_distillation(logits, self.cached_outputs(batch)["logits"], task.past),
        }

    def _cross_entropy(self, logits, batch, task):
        if not released_joint_cross_entropy(self.args, task):
            return separated_cross_entropy(logits, batch, task.start)
        label = batch.label.clone()
        label[batch.new] -= task.start  # a slip of the released code: new clips bear the labels of old classes
        return F.cross_entropy(logits, label)
