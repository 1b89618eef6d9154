"""What the engine asks of a method."""

import numpy as np

from model.network import MODALITIES


class Learner:
    """A method of class-incremental learning. One subclass per file under ``methods/``, found by the file's name.

    The engine calls, for each task: ``begin_task``, ``fit_task``, ``end_task``, and then ``scores`` on the test clips.
    A method that learns by gradient descent derives from ``engine.gradient.GradientLearner`` instead.
    """

    modalities = MODALITIES
    classifiers = ("linear",)  # allowed values of --classifier, the default first
    has_epochs = False  # whether --max_epochs means something to it
    precisions = ("fp32", "tf32")  # allowed values of --precision
    needs_tokens = False  # whether it looks at single visual tokens also when it has no sound
    replay = "none"  # how exemplars come back: none, merged or paired (engine.gradient)

    def __init__(self, args, data, device):
        """``args``: all options; ``data``: dataloader.IncrementalData; ``device``: where tensors live."""
        self.args, self.data, self.device = args, data, device

    @classmethod
    def add_options(cls, group):
        """Add the method's own command-line options to the argparse ``group``."""

    def begin_task(self, task):
        """Make room for the classes of ``task``."""

    def fit_task(self, task, log):
        """Learn the classes of ``task``; a method with epochs reports each by ``log`` (engine.step_log.StepLog)."""

    def end_task(self, task):
        """Keep what later tasks need, such as exemplars."""

    def scores(self, batch):
        """Return (B, classes seen so far), higher is better: logits, similarities or negative distances."""
        raise TypeError(f"{type(self).__name__} defines no scores")

    def kept_clips(self, task):
        """Indices of the training clips that steps after ``task`` may see again."""
        return np.array([], dtype=np.int64)

    def state(self):
        """Everything learned so far as tensors and plain values, so that it loads with ``weights_only=True``."""
        return {}

    def load_state(self, state):
        """Take over what ``state()`` returned."""

    def ongoing(self):
        """What only later steps need, beyond ``state()``: kept on disk for the last step alone."""
        return {}

    def load_ongoing(self, state):
        """Take over what ``ongoing()`` returned."""
