"""The engine: for each task begin, fit, end, evaluate. It names no method."""

import json
import time

from engine.evaluate import accuracy_by_task, predict
from engine.figures import draw_accuracy, draw_epochs
from engine.progress import StepLog, log
from utils import metrics
from utils.files import write_json


def run(learner, tasks, folder):
    """Learn ``tasks`` one after another; return the results, which are also written to ``folder``."""
    matrix, rows = [], []
    for task in tasks:
        started = time.perf_counter()
        step_log = StepLog(task, len(tasks), folder)
        learner.begin_task(task)
        learner.fit_task(task, step_log)
        learner.end_task(task)
        row, by_task = evaluate(learner, task, tasks, step_log)
        matrix.append(by_task)
        rows.append(row)
        report_step(row, matrix)
        folder.add_lines("steps.jsonl", [json.dumps(row)])
        folder.save_checkpoint(task, learner, learner.data.classes)
        draw_epochs(folder.file("figures", f"step_{task.index}.png"), task, step_log)
        row["seconds"] = time.perf_counter() - started
    results = summarise(rows, matrix)
    draw_accuracy(folder.file("figures", "accuracy.png"), results, tasks)
    return results


def evaluate(learner, task, tasks, step_log):
    """Test on all classes seen. Returns the step's row of results and its row of the accuracy matrix."""
    _, label, prediction = predict(learner, "test", task.seen)
    by_task = accuracy_by_task(label, prediction, tasks[: task.index + 1])
    row = {
        "step": task.index,
        "classes_seen": task.stop,
        "accuracy": float((label == prediction).mean()),
        "accuracy_by_task": by_task,
        "best_epoch": step_log.best_epoch,
    }
    return row, by_task


def report_step(row, matrix):
    """Print the step's lines and add its forgetting to ``row``."""
    row["forgetting"] = metrics.forgetting(matrix, row["step"])
    log.info(f"Incremental step {row['step']} Testing res: {row['accuracy']:.6f}")
    if row["step"] > 0:
        log.info(f"forgetting: {row['forgetting']:.6f}")


def summarise(rows, matrix):
    """All figures of a run, as fractions or seconds."""
    accuracy = [row["accuracy"] for row in rows]
    return {
        "accuracy_per_step": accuracy,
        "accuracy_matrix": matrix,
        "mean_accuracy": metrics.mean_accuracy(accuracy),
        "last_accuracy": accuracy[-1],
        "forgetting_per_step": metrics.forgetting_per_step(matrix),
        "average_forgetting": metrics.average_forgetting(matrix),
        "backward_transfer": metrics.backward_transfer(matrix),
        "best_epoch_per_step": [row["best_epoch"] for row in rows],
        "seconds_per_step": [row["seconds"] for row in rows],
    }


def finish(results, folder, args, environment):
    """Print the summary and write ``results.json``, last: where it stands, the run is complete."""
    write_json(folder.file("results.json"), results | {"arguments": vars(args), "versions": environment})
    if results["average_forgetting"] is not None:
        log.info(f"Average Forgetting: {results['average_forgetting']:.6f}")
    log.info(f"Average Accuracy: {results['mean_accuracy']:.6f}")
