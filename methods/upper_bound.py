"""Upper bound (joint training): at each step a new network, trained on all clips of all classes seen so far."""

import numpy as np

from engine.gradient import GradientLearner
from engine.tasks import Task


class UpperBound(GradientLearner):
    def begin_task(self, task: Task) -> None:
        self.network = self.new_network(task.stop)

    def training_clips(self, task: Task) -> np.ndarray:
        return self.data.clips("train", task.seen)

    def replayable_clips(self, task: Task) -> np.ndarray:
        return self.training_clips(task)
