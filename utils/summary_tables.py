"""What a method reaches and what it costs, in a row: accuracy, forgetting, time, and what it keeps between steps."""

from utils.measures import ACCURACY, FORGETTING, LAST, best_note, in_order, measured, split
from utils.results import mean_and_spread
from utils.tables import Cell, Column, Table

MEASURES = (LAST, ACCURACY, FORGETTING)
MEGABYTE = 1e6


def summary_tables(groups):
    """One Table per data set and modality, a row per group; seconds of training and evaluation, MB after all steps."""
    return [_summary_table(key, in_order(mine)) for key, mine in split(groups, ("dataset", "modality"))]


def _summary_table(key, groups):
    cases = [runs for _, runs in groups]
    cells = [measured(measure, cases) for measure in MEASURES]
    heads = ["method", "runs", *(head for _, head, _ in MEASURES), "seconds", "MB kept"]
    rows = [
        [name, str(len(runs)), *each, _mean(map(_seconds, runs)), _mean(map(_megabytes, runs))]
        for (name, runs), each in zip(groups, zip(*cells, strict=True), strict=True)
    ]
    return Table(", ".join(key), [Column(head) for head in heads], rows, tuple(best_note(cells, groups)))


def _mean(values):
    return Cell(*mean_and_spread(values))


def _seconds(run):
    return sum(run["seconds_per_step"]) if "seconds_per_step" in run else None


def _megabytes(run):
    return run["kept_bytes_per_step"][-1] / MEGABYTE if "kept_bytes_per_step" in run else None
