"""What a run says while it works: printed lines, also in ``log.txt``; a row per epoch; a progress bar on a terminal."""

from __future__ import annotations

import logging
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from engine.checkpoints import content_errors
from engine.tasks import Task
from utils.errors import printable
from utils.seeding import set_random_state

if TYPE_CHECKING:
    from engine.recorder import Recorder

logger = logging.getLogger("avcil")
NOTICE_SECONDS = 60  # between two lines on the time that is left, where there is no progress bar


class LineFormatter(logging.Formatter):
    """Lines as they are; those of warnings begin with ``warning:``."""

    def format(self, record: logging.LogRecord) -> str:
        text = "\n".join(map(printable, super().format(record).split("\n")))  # names come from elsewhere
        return f"warning: {text}" if record.levelno == logging.WARNING else text


def setup_logging(is_main: bool = True) -> None:
    """Print every line of the log from now on; of several processes only the main one does."""
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:] = []
    _add_handler(_LineHandler(sys.stdout) if is_main else logging.NullHandler())


def log_to_file(path: str) -> None:
    """Add every line of the log to the file ``path`` as well."""
    _add_handler(_FileHandler(path, encoding="utf-8"))


class _LineHandler(logging.StreamHandler):
    """Where a line cannot be written, such as on a full disk, the run ends and says so; logging would go on without."""

    place = "standard output"

    def handleError(self, record):  # noqa: N802 (the name is logging's)
        error = sys.exc_info()[1]
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            error.filename = self.place
        raise  # it is being handled


class _FileHandler(_LineHandler, logging.FileHandler):
    @property
    def place(self):
        return self.baseFilename


def _add_handler(handler):
    handler.setFormatter(LineFormatter())
    logger.addHandler(handler)


def check_epoch_lines(lines: list[str]) -> None:
    """ValueError if these are not lines of ``epochs.csv``."""
    for line in lines:
        step, epoch, _, value = line.split(",")
        if int(step) < 0 or int(epoch) < 0 or not math.isfinite(float(value)):
            raise ValueError(f"{line!r} is no line of epochs.csv")


class StepLog:
    """Reports the epochs of one step to the ``recorder``, and keeps what is needed to go on after any of them.

    ``row``: what the step reached on the test clips (engine.evaluate), set when it has been evaluated.
    """

    def __init__(self, task: Task, num_tasks: int, recorder: Recorder):
        self.task, self.num_tasks, self.recorder = task, num_tasks, recorder
        self.row, self.epoch_rows, self.lines = {}, [], []
        self.seconds_before, self.started = 0.0, time.perf_counter()

    def epochs(self, count: int) -> Iterator[int]:
        """Iterate over the epochs that are left of ``count`` under a progress bar."""
        first = self.first = len(self.epoch_rows)
        self.count, self.fit_started = count, time.perf_counter()
        self.said = self.fit_started
        title = f"Step {self.task.index + 1}/{self.num_tasks}"
        disable = None if self.recorder.is_main else True  # None: unless it is a terminal
        bar = tqdm(
            range(first, count),
            title,
            initial=first,
            total=count,
            unit="epoch",
            disable=disable,
            leave=False,
            ncols=min(100, shutil.get_terminal_size().columns),
        )
        # On a terminal lines go above the bar; elsewhere there is no bar, and the log stays as it was set up.
        with nullcontext() if bar.disable else logging_redirect_tqdm([logger]), bar as self.bar:
            yield from self.bar

    def epoch(
        self, epoch: int, terms: dict[str, float], val_accuracy: float, lr: float, probed: dict[str, float]
    ) -> None:
        """Report one epoch: the mean of each loss term over its batches, validation accuracy and learning rate.

        ``probed``: what was asked for besides, by name (engine.updates.compare_gradients).
        """
        loss = sum(terms.values())
        self.epoch_rows.append({"epoch": epoch, "train_loss": loss, "val_res": val_accuracy, "terms": terms})
        named = " ".join(f"{name}:{value:.6f}" for name, value in terms.items()) if len(terms) > 1 else ""
        logger.info(f"Epoch:{epoch} train_loss:{loss:.6f} val_res:{val_accuracy:.6f} {named}".rstrip())
        self.bar.set_postfix(loss=f"{loss:.4f}", val=f"{val_accuracy:.4f}", run_left=self._time_left(epoch))
        if self.bar.disable and time.perf_counter() - self.said >= NOTICE_SECONDS:
            self.said = time.perf_counter()
            logger.info(f"{tqdm.format_interval(self.seconds)} in this step, run_left={self._time_left(epoch)}")
        values = {"train_loss": loss, "val_res": val_accuracy, "lr": lr, **terms, **probed}
        lines = [f"{self.task.index},{epoch},{name},{value!r}" for name, value in values.items()]
        self.lines += lines
        self.recorder.add_epoch(lines)

    def _time_left(self, epoch):
        """Of the whole run, as if later epochs took as long as those of this step so far."""
        steps_left = self.num_tasks - self.task.index - 1
        left = self.count - epoch - 1 + steps_left * self.count
        return tqdm.format_interval((time.perf_counter() - self.fit_started) / (epoch + 1 - self.first) * left)

    def save(self, epoch: int, snapshot: Callable[[], dict]) -> None:
        """Keep ``snapshot()``, tensors and plain values to go on from after ``epoch``, if it is time to."""

        def content():
            return {"rows": self.epoch_rows, "lines": self.lines, "seconds": self.seconds, "fit": snapshot()}

        self.recorder.checkpoints.save_epoch(self.task.index, epoch, content)

    def resume(self, restore: Callable[[dict], None]) -> None:
        """Go on from what ``save`` kept of this step before an interruption, if anything: ``restore(snapshot)``."""
        checkpoints = self.recorder.checkpoints
        saved = checkpoints.last_epoch(self.task.index)
        if saved is None:
            return
        with content_errors(checkpoints.within_step):
            self.epoch_rows, self.lines, self.seconds_before = saved["rows"], saved["lines"], float(saved["seconds"])
            if [row["epoch"] for row in self.epoch_rows] != list(range(saved["epoch"] + 1)) or self.best_epoch is None:
                raise ValueError(f"rows of other epochs than 0 to {saved['epoch']}")
            check_epoch_lines(self.lines)
            restore(saved["fit"])
            set_random_state(saved["random"])
        self.recorder.add_epoch(self.lines)
        logger.info(f"Going on in step {self.task.index} after epoch {saved['epoch']}")

    @property
    def seconds(self) -> float:
        """What the step took so far, earlier attempts included."""
        return self.seconds_before + time.perf_counter() - self.started

    @property
    def best_epoch(self) -> int | None:
        """The first epoch with the highest validation accuracy; None for a method without epochs."""
        return max(self.epoch_rows, key=lambda row: row["val_res"])["epoch"] if self.epoch_rows else None
