"""The engine: for each task begin, fit, end, evaluate. It names no method."""

from __future__ import annotations

from engine.evaluate import evaluate
from engine.learner import Learner
from engine.recorder import Recorder
from engine.tasks import Task


def run(learner: Learner, tasks: list[Task], recorder: Recorder) -> dict:
    """Learn ``tasks`` one after another, from where the run was left; return its results."""
    for task in recorder.remaining(tasks, learner):  # restores the learner after the last finished step
        with recorder.step(task) as log:  # times it; rows, TensorBoard and checkpoint on leaving
            learner.begin_task(task)
            learner.fit_task(task, log)
            learner.end_task(task)
            log.row = evaluate(learner, task, tasks)
    return recorder.summary()
