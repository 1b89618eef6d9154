"""What the figures show, as arrays computed from runs: accuracies, forgetting, confusion, loss terms.

A group is a list of runs that differ in the seed alone. Shares are in per cent.
"""

import numpy as np

from engine.epoch_rows import read_epochs, read_losses
from engine.run_files import RunResults
from engine.scores import read_scores

# Mean and sample standard deviation over seeds (0 for one), arrays of one shape.
MeanAndSpread = tuple[np.ndarray, np.ndarray]


def classes_seen(run: RunResults) -> np.ndarray | None:
    """Number of classes seen after each step (steps,), from the options, as results.json does not hold it.

    None where the options do not tell it: there are none, or not as many as steps, or more than there are classes.
    """
    steps, sizes = len(run.accuracy_per_step), run.arguments.get("classes_per_step")
    if not sizes or (len(sizes) > 1 and len(sizes) < steps):
        return None
    seen = np.cumsum(sizes if len(sizes) > 1 else sizes * steps, dtype=float)[:steps]
    seen = np.minimum(seen, run.arguments.get("num_classes") or seen[-1])
    return seen.astype(int) if (np.diff(seen) > 0).all() else None


def accuracy_over_steps(runs: list[RunResults]) -> MeanAndSpread:
    """Mean and sample standard deviation over seeds (0 for one) of the accuracy after each step, each (steps,)."""
    return _mean_and_spread([run.accuracy_per_step for run in runs])


def forgetting_by_task(runs: list[RunResults]) -> MeanAndSpread:
    """Mean and spread over seeds of the forgetting of tasks 0 to T-2 after the last step, each (T-1,).

    Of task j: its best accuracy after steps j to T-2, minus that after step T-1.
    """
    return _mean_and_spread([_forgetting(run.accuracy_matrix) for run in runs])


def accuracy_matrix(runs: list[RunResults]) -> np.ndarray:
    """Mean over seeds of the accuracy on task j (column) after step t (row), (steps, steps); NaN where j > t."""
    steps = len(runs[0].accuracy_matrix)
    return 100 * np.mean([[row + [np.nan] * (steps - len(row)) for row in run.accuracy_matrix] for run in runs], 0)


def class_confusion(runs: list[RunResults]) -> np.ndarray:
    """Share of the test clips of each class (row) taken for each class (column) after the last step.

    Counts are summed over seeds. (classes, classes); the rows of classes without clips are NaN.
    """
    return _shares(_counts(runs))


def task_confusion(runs: list[RunResults]) -> np.ndarray:
    """The same between tasks, (steps, steps): a clip taken for another class of its own task is on the diagonal."""
    counts, seen = _counts(runs), classes_seen(runs[0])
    assert seen is not None  # asked only where the options tell it
    starts = np.concatenate([[0], seen[:-1]])
    return _shares(np.add.reduceat(np.add.reduceat(counts, starts, 0), starts, 1))


def class_names(runs: list[RunResults]) -> list[str]:
    """Names of the classes seen after the last step, in class order."""
    names, counts = runs[0].class_names, runs[0].confusion
    assert names is not None and counts is not None  # asked only of runs that have them
    return names[: len(counts[-1])]


def task_aware_accuracy(run: RunResults) -> float | None:
    """Accuracy after the last step if each clip's task were known: the highest score among its classes, a fraction.

    None if the run kept no scores, or its options do not tell the tasks.
    """
    kept, seen = read_scores(run.folder, len(run.accuracy_per_step) - 1), classes_seen(run)
    if kept is None or seen is None or seen[-1] != kept.scores.shape[1]:
        return None
    task_of_class = np.searchsorted(seen, np.arange(seen[-1]), side="right")
    own = task_of_class[kept.label][:, None] == task_of_class
    return float((np.where(own, kept.scores, -np.inf).argmax(1) == kept.label).mean())


def _mean_and_spread(values):
    values = 100 * np.array(values, float)
    return values.mean(0), values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])


def _forgetting(matrix):
    last = len(matrix) - 1
    return [max(matrix[step][task] for step in range(task, last)) - matrix[last][task] for task in range(last)]


def _counts(runs):
    return np.sum([run.confusion[-1] for run in runs], 0)


def _shares(counts):
    with np.errstate(invalid="ignore"):
        return 100 * counts / counts.sum(1, keepdims=True)


def losses_over_epochs(runs: list[RunResults]) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """``{term: (epoch, mean, spread, step starts)}``; empty where no run of the group has epochs.

    ``epoch`` counts on through the steps, ``step starts`` are the epochs with which steps begin. Mean and sample
    standard deviation (0 for one) are over the seeds that have the epoch.
    """
    return _over_epochs([read_losses(run.folder) for run in runs], "")


def gradients_over_epochs(
    runs: list[RunResults], kind: str
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """The same of what ``--probe_gradients`` wrote; ``kind``: GRADIENT_NORM or GRADIENT_COSINE of engine.epoch_rows."""
    return _over_epochs([read_epochs(run.folder) for run in runs], kind)


def _over_epochs(seeds, prefix):
    """Those of the values of ``seeds`` whose names begin with ``prefix``, which is left out of them."""
    starts = _step_starts(seeds)
    names = list(dict.fromkeys(name for values in seeds for name in values if name.startswith(prefix)))
    averages = {name: _average([values.get(name, {}) for values in seeds], starts) for name in names}
    return {name.removeprefix(prefix): (*average, starts) for name, average in averages.items()}


def _step_starts(seeds):
    counts = {}
    for step, epoch in (key for losses in seeds for values in losses.values() for key in values):
        counts[step] = max(counts.get(step, 0), epoch + 1)
    counts = [counts.get(step, 0) for step in range(max(counts, default=-1) + 1)]
    return np.cumsum([0, *counts[:-1]]) if counts else np.zeros(0, int)


def _average(seeds, starts):
    keys = sorted({key for values in seeds for key in values})
    by_key = [[values[key] for values in seeds if key in values] for key in keys]
    mean = np.array([np.mean(values) for values in by_key])
    spread = np.array([np.std(values, ddof=1) if len(values) > 1 else 0.0 for values in by_key])
    return np.array([starts[step] + epoch for step, epoch in keys]), mean, spread
