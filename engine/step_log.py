"""What a run says while it works: printed lines, also in ``log.txt``; rows per epoch; a progress bar on a terminal."""

import logging
import sys
import time
from contextlib import nullcontext

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from utils.errors import InputError
from utils.files import atomic_path
from utils.seeding import set_random_state

log = logging.getLogger("avcil")


def speak(aloud=True):
    """Print every line of the log from here on, or not."""
    log.setLevel(logging.INFO)
    log.propagate = False
    for handler in log.handlers:
        handler.close()
    log.handlers[:] = [logging.StreamHandler(sys.stdout) if aloud else logging.NullHandler()]


def write_to(path):
    """Add every line of the log to the file ``path`` as well."""
    log.addHandler(logging.FileHandler(path, encoding="utf-8"))


def warn(message):
    """Say something that the user should know, and that does not stop the run."""
    log.info(f"warning: {message}")


class StepLog:
    """Reports the epochs of one step, and keeps what is needed to go on after any of them."""

    def __init__(self, task, num_tasks, folder, history, curves=None):
        self.task, self.num_tasks, self.folder, self.history = task, num_tasks, folder, history
        self.curves = curves  # engine.step_log.Curves: a second place for every number
        self.rows, self.lines = [], []
        self.seconds_before, self.started = 0.0, time.perf_counter()

    def epochs(self, count):
        """Iterate over the epochs that are left of ``count`` under a progress bar."""
        first = self.first = len(self.rows)
        self.count, self.fit_started = count, time.perf_counter()
        title = f"Step {self.task.index + 1}/{self.num_tasks}"
        quiet = True if not self.folder.leads else None
        bar = tqdm(range(first, count), title, initial=first, total=count, unit="epoch", disable=quiet, leave=False)
        # On a terminal lines go above the bar; elsewhere there is no bar, and who is silent must stay so.
        with nullcontext() if bar.disable else logging_redirect_tqdm([log]), bar as self.bar:
            yield from self.bar

    def epoch(self, epoch, terms, val_accuracy, lr):
        """Report one epoch: the mean of each loss term (a dict), the validation accuracy and the learning rate."""
        loss = sum(terms.values())
        self.rows.append({"epoch": epoch, "train_loss": loss, "val_res": val_accuracy, "terms": terms})
        named = " ".join(f"{name}:{value:.6f}" for name, value in terms.items()) if len(terms) > 1 else ""
        log.info(f"Epoch:{epoch} train_loss:{loss:.6f} val_res:{val_accuracy:.6f} {named}".rstrip())
        self.bar.set_postfix(loss=f"{loss:.4f}", val=f"{val_accuracy:.4f}", run_left=self._time_left(epoch))
        values = {"train_loss": loss, "val_res": val_accuracy, "lr": lr, **terms}
        lines = [f"{self.task.index},{epoch},{name},{value!r}" for name, value in values.items()]
        self.lines += lines
        self.history.epoch_lines += lines
        self.folder.add_lines("epochs.csv", lines)
        if self.curves:
            self.curves.add_epoch(self.task.index, epoch, values)

    def _time_left(self, epoch):
        """Of the whole run, as if later epochs took as long as those of this step so far."""
        steps_left = self.num_tasks - self.task.index - 1
        left = self.count - epoch - 1 + steps_left * self.count
        return tqdm.format_interval((time.perf_counter() - self.fit_started) / (epoch + 1 - self.first) * left)

    def save(self, epoch, fit):
        """Keep ``fit()``, tensors and plain values from which the method goes on after ``epoch``, if it is time to."""

        def content():
            seconds = self.seconds_before + time.perf_counter() - self.started
            return {"rows": self.rows, "lines": self.lines, "seconds": seconds, "fit": fit()}

        self.folder.checkpoints.save_epoch(self.task.index, epoch, content)

    def resume(self):
        """What ``save`` kept of this step before an interruption, or None; random generators are set back to it."""
        saved = self.folder.checkpoints.last_epoch(self.task.index)
        if saved is None:
            return None
        self.rows, self.lines, self.seconds_before = saved["rows"], saved["lines"], saved["seconds"]
        self.history.epoch_lines += self.lines
        self.folder.add_lines("epochs.csv", self.lines)
        set_random_state(saved["random"])
        log.info(f"Going on in step {self.task.index} after epoch {saved['epoch']}")
        return saved["fit"]

    @property
    def best_epoch(self):
        """The first epoch with the highest validation accuracy; None for a method without epochs."""
        return max(self.rows, key=lambda row: row["val_res"])["epoch"] if self.rows else None


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


BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe and Ito: distinct for the colour-blind, and in grey


def draw_epochs(path, task, step_log):
    """One picture of a step: training loss and validation accuracy over its epochs. Nothing if it had no epochs."""
    if not step_log.rows:
        return
    epochs = [row["epoch"] for row in step_log.rows]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    loss.plot(epochs, [row["train_loss"] for row in step_log.rows], color=BLUE)
    loss.set(xlabel="Epoch", ylabel="Training loss")
    accuracy.plot(epochs, [100 * row["val_res"] for row in step_log.rows], color=ORANGE)
    best = step_log.rows[step_log.best_epoch]
    accuracy.plot(best["epoch"], 100 * best["val_res"], "o", color=ORANGE, label=f"best: epoch {best['epoch']}")
    accuracy.set(xlabel="Epoch", ylabel="Validation accuracy (%)")
    accuracy.legend()
    figure.suptitle(f"Step {task.index}: classes {task.start} to {task.stop - 1}")
    _save(figure, path)


def draw_accuracy(path, results, tasks):
    """Test accuracy on all classes seen, after each step."""
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    accuracy = [100 * value for value in results["accuracy_per_step"]]
    axes.plot([task.stop for task in tasks], accuracy, "o-", color=BLUE)
    for task, value in zip(tasks, accuracy, strict=True):
        axes.annotate(f"{value:.1f}", (task.stop, value), xytext=(0, 6), textcoords="offset points", ha="center")
    axes.set(xlabel="Classes seen", ylabel="Test accuracy (%)", ylim=(0, 108), xticks=[task.stop for task in tasks])
    axes.set_title(f"Mean accuracy {100 * results['mean_accuracy']:.2f} %")
    _save(figure, path)


def _save(figure, path):
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    FigureCanvasAgg(figure)
    with atomic_path(path) as aside:
        figure.savefig(aside, dpi=150)
