"""Tables of results: what is in a table, apart from how it is written (see table_formats.py)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from engine.run_files import RunResults
from reporting.runs import Group, mean_and_spread


@dataclass(frozen=True)
class Cell:
    """A number of a table, in per cent (None: there is none), with its sample standard deviation over seeds."""

    value: float | None
    spread: float | None = None
    best: bool = False
    signed: bool = False

    def __str__(self):
        if self.value is None:
            return "-"
        mean = f"{self.value:{'+' if self.signed else ''}.2f}"
        return mean if self.spread is None else f"{mean} ± {self.spread:.2f}"


@dataclass(frozen=True)
class Column:
    """The head of a column; neighbours of the same ``group`` stand under one common head."""

    name: str
    group: str = ""


@dataclass(frozen=True)
class Table:
    """``rows`` hold one string or Cell per column; ``notes`` are lines to print below."""

    title: str
    columns: list[Column]
    rows: list[list[str | Cell]]
    notes: tuple[str, ...] = ()


def cell(values: Iterable[float | None]) -> Cell:
    """The Cell of ``values``, fractions, one per seed."""
    mean, spread = mean_and_spread(values)
    return Cell(None if mean is None else 100 * mean, None if spread is None else 100 * spread)


def mark_best(cells: list[Cell], highest: bool) -> list[Cell]:
    """The same Cells, those with the best value, to the digits shown, marked.

    None is marked if another lies within the standard deviation of the best: the runs do not tell which is better.
    """
    values = [each.value for each in cells if each.value is not None]
    if not values:
        return cells
    top = (max if highest else min)(values)
    best = [each for each in cells if each.value is not None and round(each.value, 2) == round(top, 2)]
    spread = max((each.spread for each in best if each.spread is not None), default=None)
    if spread is not None and sum(abs(value - top) <= spread for value in values) > 1:
        best = []
    return [replace(each, best=any(each is other for other in best)) for each in cells]


def steps_table(groups: list[Group], title: str = "") -> Table:
    """One row per (name, runs): accuracy after each step, mean accuracy, average forgetting.

    Where some runs are unfinished, a column says how many of which there are.
    """
    steps = max(len(run.accuracy_per_step) for _, runs in groups for run in runs)
    counted = not all(run.finished for _, runs in groups for run in runs)
    columns = ["method", *(["runs"] if counted else []), *(f"step {step}" for step in range(steps))]
    columns += ["mean acc.", "avg. forg."]
    rows = []
    for name, runs in groups:
        cells = [cell([_nth(run.accuracy_per_step, step) for run in runs]) for step in range(steps)]
        cells += [cell([getattr(run, figure) for run in runs]) for figure in ("mean_accuracy", "average_forgetting")]
        rows.append([name, *([count_runs(runs)] if counted else []), *cells])
    return Table(title, [Column(name) for name in columns], rows)


def results_rows(groups: list[Group]) -> list[list[str]]:
    """``steps_table`` as rows of strings, the first of which is the header."""
    table = steps_table(groups)
    return [[column.name for column in table.columns], *([str(each) for each in row] for row in table.rows)]


def text_table(rows: list[list[str]]) -> str:
    """Align ``rows`` of strings: the first row is the header, the first column is flush left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def count_runs(runs: list[RunResults]) -> str:
    """``3``, or ``2 finished, 1 after 4 steps`` where some are not."""
    done = sum(run.finished for run in runs)
    if done == len(runs):
        return str(done)
    parts = [f"{done} finished"] if done else []
    steps = sorted(len(run.accuracy_per_step) for run in runs if not run.finished)
    return ", ".join(parts + [f"{steps.count(count)} after {count} steps" for count in dict.fromkeys(steps)])


def _nth(values, index):
    return values[index] if index < len(values) else None
