"""``--layout classes``: what became of each class, of classes by age, and which kinds of errors are made."""

import numpy as np

from engine.run_files import RunResults
from reporting.layouts import group_by
from reporting.runs import Group
from reporting.statistics import classes_seen, task_aware_accuracy
from reporting.tables import Cell, Column, Table, cell
from utils.errors import InputError


def class_tables(groups: list[Group]) -> list[Table]:
    """``error_tables``, and for each group a Table with a row per class; InputError if no group holds confusions."""
    known = _with_confusions(groups)
    if not known:
        raise InputError("--layout classes: no row has confusions by class (pooled ones have not); choose another")
    tables = []
    for (dataset, modality), members in group_by(known, ("dataset", "modality")):
        tables += error_tables(members)
        tables += [_class_table(f"{name}, {dataset}, {modality}", runs) for name, runs in members]
    return tables


def error_tables(groups: list[Group]) -> list[Table]:
    """Per data set and modality: kinds of errors, and accuracy by age of classes, a row per group with confusions."""
    tables = []
    for (dataset, modality), members in group_by(_with_confusions(groups), ("dataset", "modality")):
        tables += [_error_table(f"{dataset}, {modality}", members), _age_table(f"{dataset}, {modality}", members)]
    return tables


def _with_confusions(groups):
    """Those of ``groups`` whose runs all hold confusions with the classes of each step."""
    return [group for group in groups if all(run.confusion and _starts(run) is not None for run in group[1])]


def error_shares(run: RunResults) -> tuple[float, float, float]:
    """Of all test clips after the last step, as fractions: those taken for a class of their own task, of another task,
    and how much more are taken for classes of the newest task than belong to them.
    """
    counts, starts = _last_confusion(run), _starts(run)
    assert starts is not None  # see _with_confusions
    tasks = np.add.reduceat(np.add.reduceat(counts, starts, 0), starts, 1)
    total, right, own_task = counts.sum(), np.trace(counts), np.trace(tasks)
    newest = tasks[:, -1].sum() - tasks[-1].sum()
    return float((own_task - right) / total), float((total - own_task) / total), float(newest / total)


def class_figures(run: RunResults) -> dict[str, list[float | None]]:
    """By class after the last step: recall, precision, F1, and forgetting (its best earlier recall less today's).

    None for a class without test clips, and for the forgetting of one that was learned last.
    """
    recalls = [_shares(np.diag(counts), np.sum(counts, 1)) for counts in map(np.array, run.confusion or ())]
    counts = _last_confusion(run)
    hits, clips, taken = np.diag(counts), counts.sum(1), counts.sum(0)
    forgetting = []
    for label, recall in enumerate(recalls[-1]):
        earlier = [each for of_step in recalls[:-1] for each in of_step[label : label + 1] if each is not None]
        forgetting.append(max(earlier) - recall if earlier and recall is not None else None)
    return {
        "recall": recalls[-1],
        # As scikit-learn has it: a class that nothing is taken for has precision 0.
        "precision": [float(hit / count) if count else 0.0 for hit, count in zip(hits, taken, strict=True)],
        "F1": _shares(2 * hits, clips + taken),
        "forgetting": forgetting,
    }


def _last_confusion(run):
    assert run.confusion is not None  # see _with_confusions
    return np.array(run.confusion[-1], float)


def _starts(run):
    """The first class of each task; None if the options do not tell, or tell of other classes."""
    seen = classes_seen(run)
    if seen is None or [len(counts) for counts in run.confusion] != seen.tolist():
        return None
    return np.concatenate([[0], seen[:-1]])


def _shares(parts, wholes):
    return [float(part / whole) if whole else None for part, whole in zip(parts, wholes, strict=True)]


def _error_table(place, groups):
    heads = ["method", "last acc.", "task-aware", "wrong in own task", "wrong task", "towards newest"]
    rows = []
    for name, runs in groups:
        own, other, newest = zip(*map(error_shares, runs), strict=True)
        rows.append([name, cell([run.last_accuracy for run in runs]), cell(map(task_aware_accuracy, runs))])
        rows[-1] += [cell(own), cell(other), _signed(cell(newest))]
    notes = (
        "Of the test clips after the last step. Task-aware: the highest score among the classes of the clip's own task;"
        " what it is above the last accuracy is confused with other tasks, what it lacks is forgotten.",
        "Towards newest: clips taken for classes of the newest task, less those that belong to them.",
    )
    return Table(f"Errors, {place}", [Column(head) for head in heads], rows, notes)


def _age_table(place, groups):
    steps = max(len(run.confusion) for _, runs in groups for run in runs)
    heads = [f"{age} step{'' if age == 1 else 's'} ago" if age else "newest" for age in range(steps)]
    rows = []
    for name, runs in groups:
        rows.append([name, *(cell([_recall_by_age(run, age) for run in runs]) for age in range(steps))])
    note = "Accuracy after the last step on the classes learned so many steps before, among all classes seen."
    return Table(f"Classes by age, {place}", [Column("method"), *map(Column, heads)], rows, (note,))


def _recall_by_age(run, age):
    row = run.accuracy_matrix[-1]
    return row[-1 - age] if age < len(row) else None


def _class_table(title, runs):
    """A row per class, the most forgotten first."""
    figures = [class_figures(run) for run in runs]
    seen, names = classes_seen(runs[0]), runs[0].class_names
    assert seen is not None and names is not None  # see _with_confusions
    learned = np.searchsorted(seen, np.arange(len(_last_confusion(runs[0]))), side="right")
    rows = []
    for label, name in enumerate(names[: len(learned)]):
        clips = sum(runs[0].confusion[-1][label])
        cells = [cell([of_run[key][label] for of_run in figures]) for key in figures[0]]
        rows.append([name, str(learned[label]), str(clips), *cells])
    rows.sort(key=lambda row: -np.inf if row[-1].value is None else row[-1].value, reverse=True)
    heads = ["class", "learned in step", "test clips", *figures[0]]
    return Table(title, [Column(head) for head in heads], rows)


def _signed(each):
    return Cell(each.value, each.spread, signed=True)
