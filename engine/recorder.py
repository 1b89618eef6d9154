"""Where the numbers of a run go: console and ``log.txt``, rows of steps and epochs, TensorBoard, checkpoints."""

from __future__ import annotations

import contextlib
import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field

from engine.checkpoints import content_errors
from engine.evaluate import summarise
from engine.learner import Learner
from engine.run_folder import RunFolder
from engine.scores import features_path, scores_path, write_features, write_scores
from engine.step_log import StepLog, check_epoch_lines, logger
from engine.tasks import Task
from utils import metrics
from utils.errors import InputError
from utils.seeding import set_random_state

# The columns of ``steps.jsonl``: what a repetition of the run repeats, in brief.
STEP_COLUMNS = ("step", "classes_seen", "accuracy", "accuracy_by_task", "best_epoch", "kept_bytes", "forgetting")


@dataclass
class History:
    """The numbers of a run so far: a row of results per finished step, and the lines of ``epochs.csv``."""

    rows: list[dict] = field(default_factory=list)
    epoch_lines: list[str] = field(default_factory=list)

    def check(self, step: int) -> None:
        """ValueError or the like if these are not the numbers of a run after ``step``."""
        for index, row in enumerate(self.rows):
            squares = len(row["confusion"]) == row["classes_seen"] == len(row["confusion"][-1])
            if row["step"] != index or len(row["accuracy_by_task"]) != index + 1 or not squares:
                raise ValueError(f"row {index} is not that of step {index}")
        if len(self.rows) != step + 1 or not self.step_lines:
            raise ValueError(f"rows of {len(self.rows)} steps")
        check_epoch_lines(self.epoch_lines)

    @property
    def step_lines(self) -> list[str]:
        """The lines of ``steps.jsonl``."""
        return [json.dumps({name: row[name] for name in STEP_COLUMNS}) for row in self.rows]


class Recorder:
    """The one object that knows where the numbers of the run in ``folder`` go. ``tensorboard``: a TensorBoardLog."""

    def __init__(self, folder: RunFolder, tensorboard: TensorBoardLog | None = None):
        self.folder, self.checkpoints, self.is_main = folder, folder.checkpoints, folder.is_main
        self.tensorboard, self.history = tensorboard, History()

    def remaining(self, tasks: list[Task], learner: Learner) -> Iterator[Task]:
        """The tasks that are still to be learned; ``learner`` is restored to where the last finished one left it."""
        self.learner, self.num_tasks = learner, len(tasks)
        self._restore()
        done = len(self.history.rows)
        self.last_task = tasks[done - 1] if done else None
        yield from tasks[done:]

    def _restore(self):
        """Bring learner, random generators and rows to where the last finished step left them."""
        saved = self.checkpoints.last_step()
        if saved is not None:
            step = saved["step"]
            with content_errors(self.checkpoints.of_step(step)):
                self.history = History(**saved["history"])
                self.history.check(step)
                self.learner.load_state(saved["learner"])
            if self.learner.resume_state():
                with content_errors(self.checkpoints.for_next_step(step)):
                    self.learner.load_resume_state(self.checkpoints.resume_state(step))
            with content_errors(self.checkpoints.of_step(step)):
                set_random_state(saved["random"])  # last: a learner that is built draws random numbers
            logger.info(f"Going on after step {saved['step']}")
        # An interruption may have left more, or half a line.
        self.folder.write_lines("steps.jsonl", self.history.step_lines)
        self.folder.write_lines("epochs.csv", self.history.epoch_lines)
        if self.tensorboard:
            self.tensorboard.start(len(self.history.rows))

    @contextlib.contextmanager
    def step(self, task: Task) -> Iterator[StepLog]:
        """Time a step; when it has ended well, report and keep the ``row`` that its log was given."""
        log = StepLog(task, self.num_tasks, self)
        logger.info(self._header(task))
        yield log
        rows = self.history.rows
        row = log.row | {"best_epoch": log.best_epoch, "seconds": log.seconds}
        self._keep_of_clips(task, row.pop("scores"), row.pop("features"))
        rows.append(row)
        row["forgetting"] = metrics.forgetting([row["accuracy_by_task"] for row in rows], task.index)
        logger.info(f"Incremental step {task.index} Testing res: {row['accuracy']:.6f}")
        if task.index > 0:
            logger.info(f"forgetting: {row['forgetting']:.6f}")
        by_task = " ".join(f"{accuracy:.6f}" for accuracy in row["accuracy_by_task"])
        logger.info(
            f"accuracy by task: {by_task}" + ("" if log.best_epoch is None else f"; best epoch {log.best_epoch}")
        )
        self.folder.add_lines("steps.jsonl", self.history.step_lines[-1:])
        if self.tensorboard:
            self.tensorboard.add_step(row)
        self.checkpoints.save_step(task.index, self._checkpoint(task), self.learner.resume_state())

    def _keep_of_clips(self, task, scores, features):
        """Write the files of test clips; ``scores`` and ``features``: see engine.evaluate."""
        args, folder = self.folder.args, self.folder.path
        if self.is_main and not args.no_scores:
            write_scores(scores_path(folder, task.index), *scores)
        if self.is_main and args.save_features:
            write_features(features_path(folder, task.index), *features)

    def _header(self, task):
        """One line on what a step learns, such as ``step 2 of 5: classes dog, cat; 86 clips, 40 exemplars``."""
        data, last = self.learner.data, self.last_task
        self.last_task = task
        names = textwrap.shorten(", ".join(data.classes[task.new]), 120, placeholder=" ...")
        old = len(self.learner.replayable_clips(last)) if last else 0
        counts = f"{len(data.clips('train', task.new))} clips" + (f", {old} exemplars" if old else "")
        return f"step {task.index + 1} of {self.num_tasks}: classes {names}; {counts}"

    def add_epoch(self, lines: list[str]) -> None:
        """Keep the numbers of an epoch, or of several: ``lines`` of ``epochs.csv``."""
        self.history.epoch_lines += lines
        self.folder.add_lines("epochs.csv", lines)
        if self.tensorboard:
            self.tensorboard.add_epochs(lines)

    def summary(self) -> dict:
        """All figures of the run; called once, when all steps are finished."""
        if self.tensorboard:
            self.tensorboard.close()
        return summarise(self.history.rows, self.learner.data)

    def _checkpoint(self, task):
        """What is kept of a finished step: tensors and plain values."""
        return {
            "classes": list(self.learner.data.classes[: task.stop]),
            "learner": self.learner.state(),
            "history": vars(self.history),
        }


class TensorBoardLog:
    """Scalars for TensorBoard in ``folder``: per epoch, counted over the whole run, and per step."""

    def __init__(self, folder: str, epochs_per_step: int):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError("--tensorboard: the package is not installed; pip install tensorboard") from None
        self.new_writer, self.folder, self.epochs_per_step = SummaryWriter, folder, epochs_per_step

    def start(self, steps_done: int) -> None:
        """Begin after so many finished steps; what an interrupted attempt wrote of later epochs is hidden."""
        self.writer = self.new_writer(self.folder, purge_step=steps_done * self.epochs_per_step)

    def add_epochs(self, lines: list[str]) -> None:
        """The values of ``lines`` of ``epochs.csv``."""
        for line in lines:
            step, epoch, name, value = line.split(",")
            self.writer.add_scalar(f"epoch/{name}", float(value), int(step) * self.epochs_per_step + int(epoch))

    def add_step(self, row: dict) -> None:
        """The test results of a step."""
        for name in ("accuracy", "forgetting"):
            if row[name] is not None:
                self.writer.add_scalar(f"step/{name}", row[name], row["step"])
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()
