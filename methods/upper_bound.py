"""Upper bound (joint training): at each step a new network, trained on all clips of all classes seen so far."""

from engine.gradient import GradientLearner


class UpperBound(GradientLearner):
    def begin_task(self, task):
        self.network = self.new_network(task.stop)

    def training_clips(self, task):
        return self.data.clips("train", task.seen)

    def kept_clips(self, task):
        return self.training_clips(task)
