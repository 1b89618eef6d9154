"""iCaRL: Incremental Classifier and Representation Learning (Rebuffi et al., CVPR 2017).

Exemplars are herded and mixed with the new clips. Classifier FC: the network's logits; NME: the nearest mean of
exemplars.
"""

import torch
from torch.nn import functional as F

from dataloader import Batch
from engine.herding import HerdingLearner
from engine.tasks import Task
from utils.losses import sigmoid_distillation


class ICaRL(HerdingLearner):
    classifiers = ("NME", "FC")

    def losses(self, batch: Batch, task: Task) -> dict[str, torch.Tensor]:
        logits = self.forward(self.network, batch)["logits"]
        terms = {"cross_entropy": F.cross_entropy(logits, batch.label)}
        if task.index > 0:
            old = logits[:, task.old]
            twice = self.args.variant == "released"
            terms["distillation"] = sigmoid_distillation(old, self.cached_outputs(batch)["logits"], twice)
        return terms
