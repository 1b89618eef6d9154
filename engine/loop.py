"""The engine: for each task begin, fit, end, evaluate. It names no method."""

import time

from engine.checkpoints import History, load
from engine.curves import Curves
from engine.evaluate import accuracy_by_task, predict
from engine.figures import draw_accuracy, draw_epochs
from engine.progress import StepLog, log
from utils import metrics
from utils.files import write_json
from utils.memory import tensor_bytes
from utils.random_state import set_random_state


def run(learner, tasks, folder):
    """Learn ``tasks`` one after another, from where ``folder`` says it was left; return the results."""
    history = resume(learner, folder)
    curves = None
    if learner.args.tensorboard and folder.leads:
        curves = Curves(folder.file("tensorboard"), learner.args.max_epochs, len(history.rows))
    for task in tasks[len(history.rows) :]:
        started = time.perf_counter()
        step = StepLog(task, len(tasks), folder, history, curves)
        learner.begin_task(task)
        learner.fit_task(task, step)
        learner.end_task(task)
        row = evaluate(learner, task, tasks, step)
        row["kept_bytes"] = kept_bytes(learner, task)
        row["seconds"] = step.seconds_before + time.perf_counter() - started
        history.rows.append(row)
        report_step(row, history)
        if curves:
            curves.add_step(row)
        folder.add_lines("steps.jsonl", [history.line(row)])
        if folder.leads:
            draw_epochs(folder.file("figures", f"step_{task.index}.png"), task, step)
        folder.checkpoints.save_step(task.index, checkpoint(learner, task, history), learner.ongoing())
    if curves:
        curves.close()
    results = summarise(history, learner.data)
    if folder.leads:
        draw_accuracy(folder.file("figures", "accuracy.png"), results, tasks)
    return results


def resume(learner, folder):
    """Bring the learner to where the last finished step left it. Returns the History, empty for a new run."""
    saved, history = folder.checkpoints.last_step(), History()
    if saved is not None:
        learner.load_state(saved["learner"])
        if learner.ongoing():
            learner.load_ongoing(load(folder.checkpoints.ongoing(saved["step"])))
        set_random_state(saved["random"])
        history = History(**saved["history"])
        log.info(f"Going on after step {saved['step']}")
    folder.rewind(history)
    return history


def checkpoint(learner, task, history):
    """What is kept of a finished step: tensors and plain values."""
    return {
        "arguments": vars(learner.args),
        "step": task.index,
        "classes": list(learner.data.classes[: task.stop]),
        "learner": learner.state(),
        "history": vars(history),
    }


def evaluate(learner, task, tasks, step):
    """Test on all classes seen. Returns the step's row of results."""
    _, label, prediction = predict(learner, "test", task.seen)
    return {
        "step": task.index,
        "classes_seen": task.stop,
        "accuracy": float((label == prediction).mean()),
        "accuracy_by_task": accuracy_by_task(label, prediction, tasks[: task.index + 1]),
        "best_epoch": step.best_epoch,
        "confusion": metrics.confusion(label, prediction, task.stop),
    }


def kept_bytes(learner, task):
    """What a learner takes along into later steps: its tensors, and the features of the clips it may see again."""
    state = [learner.state(), learner.ongoing()]
    return tensor_bytes(state) + len(learner.kept_clips(task)) * learner.data.clip_bytes


def report_step(row, history):
    """Print the step's lines and add its forgetting to ``row``."""
    row["forgetting"] = metrics.forgetting(history.matrix, row["step"])
    log.info(f"Incremental step {row['step']} Testing res: {row['accuracy']:.6f}")
    if row["step"] > 0:
        log.info(f"forgetting: {row['forgetting']:.6f}")


def summarise(history, data):
    """All figures of a run, as fractions or seconds."""
    rows, matrix = history.rows, history.matrix
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
        "kept_bytes_per_step": [row["kept_bytes"] for row in rows],
        "class_names": list(data.classes),
        "test_clips_sharing_videos": data.shared_with_training(),
        "confusion": [row["confusion"] for row in rows],
    }


def finish(results, folder, args, environment):
    """Write ``results.json``, last: where it stands, the run is complete."""
    if folder.leads:
        write_json(folder.file("results.json"), results | {"arguments": vars(args), "versions": environment})


def report_run(results):
    """Print the summary of a run."""
    if results["average_forgetting"] is not None:
        log.info(f"Average Forgetting: {results['average_forgetting']:.6f}")
    log.info(f"Average Accuracy: {results['mean_accuracy']:.6f}")
