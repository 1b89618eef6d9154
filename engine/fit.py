"""The state of the epochs of one step: optimiser, learning rate, and the best epoch so far."""

import copy


class Fit:
    """``learner`` is trained by ``optimiser``; ``args`` hold its learning rate, milestones and decay."""

    def __init__(self, learner, optimiser, args):
        self.learner, self.optimiser, self.args = learner, optimiser, args
        self.best_accuracy, self.best = -1.0, None

    def set_lr(self, epoch):
        """The learning rate of ``epoch``: decayed once at each milestone passed."""
        self.lr = self.args.lr
        for milestone in self.args.milestones:
            self.lr *= self.args.lr_decay if epoch >= milestone else 1
        for group in self.optimiser.param_groups:
            group["lr"] = self.lr

    def keep_if_best(self, accuracy):
        """Keep what the learner is now if no earlier epoch was as good on validation."""
        if accuracy > self.best_accuracy:
            self.best_accuracy, self.best = accuracy, copy.deepcopy(self.learner.fitted())

    def state(self):
        """All of it as tensors and plain values."""
        names = ("best_accuracy", "best")
        kept = {name: getattr(self, name) for name in names}
        return kept | {"now": self.learner.fitted(), "optimiser": self.optimiser.state_dict()}

    def load(self, state):
        """Take over what ``state()`` returned; nothing if that is None."""
        if state is not None:
            self.best_accuracy, self.best = state["best_accuracy"], state["best"]
            self.learner.load_fitted(state["now"])
            self.optimiser.load_state_dict(state["optimiser"])
