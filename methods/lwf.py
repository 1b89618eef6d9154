"""LwF: Learning without Forgetting (Li and Hoiem, ECCV 2016). No exemplars: the old network's answers on new clips."""

from torch.nn import functional as F

from engine.gradient import GradientLearner
from utils.losses import task_wise_distillation


class LwF(GradientLearner):
    has_teacher = True

    def losses(self, batch, task):
        if task.index == 0:
            return super().losses(batch, task)
        logits = self.forward(self.network, batch)["logits"]
        return {
            "cross_entropy": F.cross_entropy(logits[:, task.new], batch.label - task.start),
            "distillation": task_wise_distillation(logits, self.taught(batch)["logits"], task.past),
        }
