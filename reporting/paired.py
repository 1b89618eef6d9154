"""``--layout paired``: each row against another, run by run of the same seed and class order."""

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from engine.run_files import RunResults
from engine.scores import read_scores
from reporting.layouts import group_by
from reporting.runs import Group
from reporting.tables import Cell, Column, Table
from utils.errors import InputError

CONFIDENCE = 0.95
# (key of RunResults, head of its columns)
MEASURES = (("mean_accuracy", "mean acc."), ("last_accuracy", "last acc."), ("average_forgetting", "avg. forg."))


def paired_tables(groups: list[Group], against: str) -> list[Table]:
    """One Table per data set, modality and measure; ``against``: a method, or the name of a row.

    InputError if there is no such row, or several.
    """
    tables = []
    for (dataset, modality), members in group_by(groups, ("dataset", "modality")):
        name, reference = _find_row(members, against, f"{dataset}, {modality}")
        others = [group for group in members if group[1] is not reference]
        if others:
            tables += _tables(others, reference, f"less that of {name}, {dataset}, {modality}")
    if not tables:
        raise InputError(f"--against {against}: there is no other row to compare with it")
    return tables


def _find_row(groups, against, place):
    """The one group of this name, or else of this method."""
    rows = [group for group in groups if group[0] == against]
    rows = rows or [group for group in groups if group[1][0].arguments["method"] == against]
    if len(rows) != 1:
        count, names = "several rows" if rows else "no row", ", ".join(name for name, _ in rows or groups)
        raise InputError(f"--against {against}: {count} of {place}; name one of {names}")
    return rows[0]


def differences(runs: list[RunResults], others: list[RunResults], key: str | Callable) -> np.ndarray:
    """``key`` of runs (or what it returns of one) less that of others, (pairs,), fractions.

    Pairs have one seed and one value of pooled options.
    """
    by_draw = {(run.arguments["seed"], run.pooled): run for run in others}
    pairs = [(run, by_draw.get((run.arguments["seed"], run.pooled))) for run in runs]
    value = key if callable(key) else operator.attrgetter(key)
    values = [(value(run), value(other)) for run, other in pairs if other is not None]
    return np.array([value - other for value, other in values if value is not None and other is not None])


def compare(values: np.ndarray) -> tuple[float, float, float] | None:
    """Student's t over ``values``: p for a mean of 0, and the ends of the interval of CONFIDENCE for the mean.

    None for fewer than two values, or values all the same.
    """
    if len(values) < 2 or not values.std() > 1e-12:
        return None
    from scipy.stats import ttest_1samp

    test: Any = ttest_1samp(values, 0)
    ends = test.confidence_interval(CONFIDENCE)
    return float(test.pvalue), float(ends.low), float(ends.high)


def holm(pvalues: list[float | None]) -> list[bool]:
    """Which of ``pvalues`` are significant, by Holm's method: all together err with at most 1 - CONFIDENCE."""
    known = sorted(value for value in pvalues if value is not None)
    passed = 0
    while passed < len(known) and known[passed] <= (1 - CONFIDENCE) / (len(known) - passed):
        passed += 1
    return [value is not None and value in known[:passed] for value in pvalues]


def mark_tested(
    cells: list[Cell], cases: list[list[RunResults]], value: Callable[[RunResults], float | None], highest: bool
) -> list[Cell]:
    """``cells``, those of ``value`` of each of ``cases``; the best is marked if it differs from each other one."""
    known = {index: each.value for index, each in enumerate(cells) if each.value is not None}
    if len(known) < 2:
        return cells
    best = (max if highest else min)(known, key=lambda index: known[index])
    tests = [compare(differences(cases[best], cases[other], value)) for other in known if other != best]
    marked = all(holm([test and test[0] for test in tests]))
    return [replace(each, best=marked and index == best) for index, each in enumerate(cells)]


def mcnemar(run: RunResults, other: RunResults) -> float | None:
    """The exact two-sided p of McNemar's test on the test clips after the last step; None without scores of both."""
    step = len(run.accuracy_per_step) - 1
    kept, others = read_scores(run.folder, step), read_scores(other.folder, len(other.accuracy_per_step) - 1)
    if kept is None or others is None or set(kept.clip) != set(others.clip):
        return None
    from scipy.stats import binomtest

    place = {clip: index for index, clip in enumerate(others.clip)}
    order = [place[clip] for clip in kept.clip]
    right, other_right = kept.prediction == kept.label, (others.prediction == others.label)[order]
    only, other_only = int((right & ~other_right).sum()), int((~right & other_right).sum())
    return float(binomtest(only, only + other_only).pvalue) if only + other_only else 1.0


def _tables(groups, reference, title):
    """A Table per measure; what is marked is decided over all of them."""
    values = {key: [differences(runs, reference, key) for _, runs in groups] for key, _ in MEASURES}
    tests = [compare(each) for of_measure in values.values() for each in of_measure]
    marks = iter(holm([test and test[0] for test in tests]))
    tests = iter(tests)
    tables = []
    for key, head in MEASURES:
        rows = []
        for (name, runs), each in zip(groups, values[key], strict=True):
            more = [_mcnemar_text(runs, reference)] if key == "last_accuracy" else []
            rows.append([name, *_cells(each, next(tests), next(marks), key), *more])
        heads = ["method", "pairs", "difference", "95 % from", "95 % to", "wins / ties / losses"]
        heads += ["McNemar p"] if key == "last_accuracy" else []
        notes = (*(() if tables else NOTES), *MORE.get(key, ()))
        tables.append(Table(f"{head} {title}", [Column(name) for name in heads], rows, notes))
    return tables


NOTES = (
    "Pairs: runs of one seed and class order. Mean difference ± sample standard deviation, in points; its interval by"
    " Student's t over the pairs, here and in the tables of other measures.",
    "Marked: differs from 0 at 5 %, corrected by Holm for all rows and measures of these runs.",
)
MORE = {
    "last_accuracy": (
        "McNemar: exact test on the test clips of a pair after the last step; of several, how many have p < 0.05.",
    ),
    "average_forgetting": ("A win is less forgetting.",),
}


def _cells(values, test, marked, key):
    better = -values if key == "average_forgetting" else values
    counts = [int((np.sign(np.round(better, 9)) == sign).sum()) for sign in (1, 0, -1)]
    mean = 100 * float(values.mean()) if len(values) else None
    spread = 100 * float(values.std(ddof=1)) if len(values) > 1 else None
    ends = [Cell(100 * end, signed=True) for end in test[1:]] if test else [Cell(None)] * 2
    return [str(len(values)), Cell(mean, spread, best=marked, signed=True), *ends, " / ".join(map(str, counts))]


def _mcnemar_text(runs, reference):
    by_draw = {(run.arguments["seed"], run.pooled): run for run in reference}
    pairs = [(run, by_draw.get((run.arguments["seed"], run.pooled))) for run in runs]
    values = [mcnemar(run, other) for run, other in pairs if other is not None]
    values = [value for value in values if value is not None]
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.3g}"
    return f"{sum(value < 1 - CONFIDENCE for value in values)} of {len(values)}"
