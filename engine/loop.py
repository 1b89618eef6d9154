"""The engine: for each task begin, fit, end, evaluate. It names no method."""

import time

import torch

from engine.checkpoints import History, load
from engine.evaluate import evaluate, summarise
from engine.run_files import RESULTS, RunResults
from engine.step_log import Curves, StepLog, draw_accuracy, draw_epochs, log
from utils import metrics
from utils.files import write_json
from utils.seeding import set_random_state


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


def finish(results, folder, args, environment) -> RunResults:
    """Write ``results.json``, last: where it stands, the run is complete. Returns what it says."""
    path, content = folder.file(RESULTS), results | {"arguments": vars(args), "versions": environment}
    if folder.leads:
        write_json(path, content)
    return RunResults.from_json(content, path)


def report_run(results: RunResults):
    """Print the summary of a run."""
    if results.average_forgetting is not None:
        log.info(f"Average Forgetting: {results.average_forgetting:.6f}")
    log.info(f"Average Accuracy: {results.mean_accuracy:.6f}")


def tensor_bytes(content):
    """Bytes of all tensors in ``content``, nested dicts and lists."""
    if isinstance(content, torch.Tensor):
        return content.nbytes
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, (list, tuple)) else ()
    return sum(map(tensor_bytes, parts))
