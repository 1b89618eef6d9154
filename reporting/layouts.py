"""The tables of a report: what they measure, how they sort and divide groups of runs, and the notes below them."""

import importlib
import json
import operator
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from engine.run_files import RunResults
from reporting import measures
from reporting.published import SHARED_IN_RELEASE, SOURCE, find_published, other_settings
from reporting.runs import DISPLAY_NAMES, Group, differing, mean_and_spread, name_settings, settings, show_value
from reporting.tables import Cell, Column, Table, cell, count_runs, mark_best, steps_table
from utils.errors import InputError, did_you_mean

# (key of results.json or a function of a run, head of its column, whether higher is better)
Measure = tuple[str | Callable[[RunResults], float | None], str, bool]
ACCURACY = ("mean_accuracy", "mean acc.", True)
LAST = ("last_accuracy", "last acc.", True)
FORGETTING = ("average_forgetting", "avg. forg.", False)
CEILING = "upper_bound"


def sort_rows(groups: list[Group]) -> list[Group]:
    """``groups`` by method, in the order of DISPLAY_NAMES (others before the ceiling), then by options that differ."""
    ordered = []
    for _, members in sorted(group_by(groups, ("method", "classifier")), key=lambda part: _rank(part[0])):
        options = differing(settings_of(members))
        ordered += sorted(members, key=lambda group: [_sortable(settings(group[1][0]).get(name)) for name in options])
    return ordered


def _rank(method_and_classifier):
    method, classifier = method_and_classifier
    known = list(DISPLAY_NAMES)
    place = known.index(method) if method in known else known.index(CEILING) - 0.5
    return place, method, classifier


def group_by(groups: list[Group], options: tuple[str, ...]) -> list[tuple[tuple, list[Group]]]:
    """``groups`` by their values of ``options``: (values, groups), in order of first appearance."""
    parts = {}
    for group in groups:
        parts.setdefault(tuple(settings(group[1][0])[option] for option in options), []).append(group)
    return list(parts.items())


def find_measures(names: list[str]) -> list[Measure]:
    """The Measure that each file ``reporting/measures/<name>.py`` is; InputError for one that is not there."""
    known = sorted(module.name for module in pkgutil.iter_modules(measures.__path__))
    for name in names:
        if name not in known:
            raise InputError(
                f"--measures {name}: no such measure{did_you_mean(name, known)}; there are {', '.join(known)}"
            )
    modules = [importlib.import_module(f"{measures.__name__}.{name}") for name in names]
    return [(module.measure, module.HEAD, module.HIGHER_IS_BETTER) for module in modules]


def step_tables(groups: list[Group], further: Sequence[Measure] = ()) -> list[Table]:
    """One Table of all groups: accuracy after each step, and a column for each of ``further``."""
    table, columns = steps_table(groups), [cells_of(measure, [runs for _, runs in groups]) for measure in further]
    rows = [[*row, *(column[number] for column in columns)] for number, row in enumerate(table.rows)]
    return [replace(table, columns=[*table.columns, *(Column(head) for _, head, _ in further)], rows=rows)]


def cells_of(measure: Measure, cases: list[list[RunResults]]) -> list[Cell]:
    """The Cell of each of ``cases``, lists of runs; the best are marked if there is a choice."""
    key, _, highest = measure
    value = key if callable(key) else operator.attrgetter(key)
    cells = [cell(map(value, runs)) for runs in cases]
    competing = [index for index, runs in enumerate(cases) if runs and not _is(CEILING, runs)]
    if len(competing) > 1:
        marked = _mark([cells[index] for index in competing], [cases[index] for index in competing], value, highest)
        for index, each in zip(competing, marked, strict=True):
            cells[index] = each
    return cells


def _mark(cells, cases, value, highest):
    if all(len(runs) < 2 for runs in cases):
        return mark_best(cells, highest)
    from reporting.paired import mark_tested  # not above: tables of single runs do without NumPy

    return mark_tested(cells, cases, value, highest)


def best_note(columns: list[list[Cell]], groups: list[Group]) -> list[str]:
    """The line below a table that says what is marked in these columns of Cells; no line if nothing is."""
    if not any(each.best for column in columns for each in column):
        return []
    ceiling = next((runs[0].label for _, runs in groups if _is(CEILING, runs)), None)
    line = "Best of each column marked"
    if any(len(runs) > 1 for _, runs in groups):
        line += ", where it differs from each other row in the paired t-test over seeds (5 %, corrected by Holm)"
    return [line + (f"; {ceiling}, which keeps all data, takes no part." if ceiling else ".")]


def settings_of(groups: list[Group]) -> list[dict[str, object]]:
    """The settings of each group."""
    return [settings(runs[0]) for _, runs in groups]


def _is(method, runs):
    return runs[0].arguments["method"] == method


def _sortable(value):
    """What is on or unset before what is off, numbers by size, the rest as text."""
    if isinstance(value, bool) or value is None:
        return (0, value is False, "")
    if isinstance(value, (int, float)):
        return (1, value, "")
    if isinstance(value, list) and all(isinstance(each, (int, float)) for each in value):
        return (2, sum(value) / max(len(value), 1), str(value))
    return (3, 0, str(value))


MODALITIES = ("audio", "visual", "audio-visual")


def method_tables(groups: list[Group], further: Sequence[Measure] = ()) -> list[Table]:
    """One Table per data set: a row per method, classifier and differing option, columns modality x measure.

    Beside a column stand the published numbers where there are some, and the difference to them.
    """
    return [_method_table(dataset, members, further) for (dataset,), members in group_by(groups, ("dataset",))]


def _method_table(dataset, groups, further):
    rows = _rows_by_modality(sort_rows(groups))
    columns, cells, notes = [Column("method")], [], []
    for modality in MODALITIES:
        cases = [by_modality.get(modality, []) for _, by_modality in rows]
        if any(cases):
            for measure in (ACCURACY, FORGETTING, *further):
                heads, block = _block(modality, measure, cases)
                columns += heads
                cells += block
            notes += _published_notes(rows, modality)
    body = [[name, *row] for (name, _), row in zip(rows, zip(*cells, strict=True), strict=True)]
    return Table(dataset, columns, body, tuple(dict.fromkeys(best_note(cells, groups) + notes)))


def _rows_by_modality(groups):
    """A list of (name, {modality: runs}). Options that differ only between modalities, as presets do, make no rows."""
    rows = {}
    for (method, classifier), members in group_by(groups, ("method", "classifier")):
        options = {option for _, peers in group_by(members, ("modality",)) for option in differing(settings_of(peers))}
        for _, runs in members:
            own = settings(runs[0])
            key = {"method": method, "classifier": classifier} | {option: own.get(option) for option in sorted(options)}
            rows.setdefault(json.dumps(key), {})[own["modality"]] = runs
    labels = [next(iter(by_modality.values()))[0].label for by_modality in rows.values()]
    names = name_settings([json.loads(key) for key in rows], labels)
    return list(zip(names, rows.values(), strict=True))


def _block(modality, measure, cases):
    """Columns and their Cells for one measure; ``cases`` are the runs of each row, of this modality."""
    key, head, _ = measure
    columns, block = [Column(head, modality)], [cells_of(measure, cases)]
    published = [find_published(settings(runs[0])) if runs else None for runs in cases]
    if isinstance(key, str) and any(published):
        released = [Cell(entry[key]) if entry else Cell(None) for entry in published]
        pairs = zip(block[0], released, strict=True)
        short = head.split()[-1]
        columns += [Column(f"published {short}", modality), Column(f"diff. {short}", modality)]
        block += [released, [_difference(cell, other) for cell, other in pairs]]
    return columns, block


def _difference(cell, published):
    value = None if cell.value is None or published.value is None else cell.value - published.value
    return Cell(value, signed=True)


def _published_notes(rows, modality):
    notes = []
    for name, by_modality in rows:
        own = settings(by_modality[modality][0]) if modality in by_modality else {}
        entry = find_published(own)
        if entry:
            notes.append(f"Published: {SOURCE}.")
            others = [
                f"{option} {show_value(value)} ({show_value(published)})"
                for option, value, published in other_settings(entry, own)
            ]
            if others:
                notes.append(f"{name}, {modality}: other settings than the published: {', '.join(others)}.")
    return notes


def option_tables(groups: list[Group], further: Sequence[Measure] = ()) -> list[Table]:
    """One Table per data set, method, classifier and modality of which there are runs with different options."""
    by = ("dataset", "method", "classifier", "modality")
    return [_option_table(key, members, further) for key, members in group_by(groups, by) if len(members) > 1]


def _option_table(key, groups, further):
    """A row per combination of the options that differ, in their order."""
    groups = sort_rows(groups)
    all_settings = settings_of(groups)
    options = differing(all_settings)
    cases = [runs for _, runs in groups]
    shown = (ACCURACY, LAST, FORGETTING, *further)
    columns = [Column(name) for name in (*options, "seeds", *(head for _, head, _ in shown))]
    values = [[show_value(own.get(name)) for name in options] for own in all_settings]
    cells = [cells_of(measure, cases) for measure in shown]
    rows = [
        [*own, count_runs(runs), *each] for own, runs, each in zip(values, cases, zip(*cells, strict=True), strict=True)
    ]
    dataset, _, classifier, modality = key
    label = cases[0][0].label
    name = label if classifier == "linear" else f"{label} {classifier}"
    return Table(f"{name}, {modality}, {dataset}", columns, rows, tuple(best_note(cells, groups)))


MEASURES = (LAST, ACCURACY, FORGETTING)
MEGABYTE = 1e6


def summary_tables(groups: list[Group], further: Sequence[Measure] = ()) -> list[Table]:
    """One Table per data set and modality, a row per group; seconds of training and evaluation, MB after all steps."""
    by = ("dataset", "modality")
    return [_summary_table(key, sort_rows(members), further) for key, members in group_by(groups, by)]


def _summary_table(key, groups, further):
    from reporting.statistics import task_aware_accuracy  # not above: other tables do without NumPy

    cases, shown = [runs for _, runs in groups], (*MEASURES, *further)
    cells = [cells_of(measure, cases) for measure in shown]
    aware = [cell(map(task_aware_accuracy, runs)) for runs in cases]
    knows = any(each.value is not None for each in aware)
    heads = ["method", "runs", *(head for _, head, _ in shown), *(["task-aware"] if knows else [])]
    heads += ["seconds", "MB kept"]
    rows = [
        [name, count_runs(runs), *each, *([known] if knows else []), *_costs(runs)]
        for (name, runs), each, known in zip(groups, zip(*cells, strict=True), aware, strict=True)
    ]
    return Table(", ".join(key), [Column(head) for head in heads], rows, tuple(best_note(cells, groups)))


def _costs(runs):
    return [Cell(*mean_and_spread(map(cost, runs))) for cost in (_seconds, _megabytes)]


def _seconds(run):
    return sum(run.seconds_per_step) if run.seconds_per_step is not None else None


def _megabytes(run):
    return run.kept_bytes_per_step[-1] / MEGABYTE if run.kept_bytes_per_step is not None else None


def notes_on_splits(groups: list[Group]) -> Iterator[str]:
    """A line for each row with shared videos, and for each without where the released splits have them."""
    for name, runs in groups:
        share = max(run.test_clips_sharing_videos or 0 for run in runs)
        known = all(run.test_clips_sharing_videos is not None for run in runs)
        released = SHARED_IN_RELEASE.get(str(runs[0].arguments["dataset"]), 0)
        if share:
            yield f"{name}: {100 * share:.1f} % of the test clips share their source video with training clips"
        elif known and released:
            yield (
                f"{name}: splits without shared source videos; in the released splits {100 * released:.1f} % of the"
                " test clips share theirs with training clips"
            )
