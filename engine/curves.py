"""The numbers of a run as TensorBoard scalars (``--tensorboard``)."""

from utils.errors import InputError


class Curves:
    """Writes scalars to ``folder``: per epoch, counted over the whole run, and per step."""

    def __init__(self, folder, epochs_per_step, steps_done):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError("--tensorboard: the package is not installed; pip install tensorboard") from None
        self.epochs_per_step = epochs_per_step
        # What an interrupted attempt wrote of later epochs is hidden.
        self.writer = SummaryWriter(folder, purge_step=steps_done * epochs_per_step)

    def add_epoch(self, step, epoch, values):
        """``values``: name -> number, of one epoch of ``step``."""
        for name, value in values.items():
            self.writer.add_scalar(f"epoch/{name}", value, step * self.epochs_per_step + epoch)

    def add_step(self, row):
        """The test results of a step."""
        for name in ("accuracy", "forgetting"):
            if row[name] is not None:
                self.writer.add_scalar(f"step/{name}", row[name], row["step"])
        self.writer.flush()

    def close(self):
        self.writer.close()
