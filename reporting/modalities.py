"""``--layout modalities``: accuracy with one modality replaced, and what each modality adds to each class."""

import os

import numpy as np

from engine.replaced import MODALITIES, REPLACEMENTS, UNCHANGED, Counts, read_counts
from reporting.layouts import group_by
from reporting.runs import Group
from reporting.tables import Cell, Column, Table, cell
from utils.errors import InputError

READING = (
    "The further accuracy falls when a modality is replaced, the more the network rests on it; another clip of the same"
    " class should cost little, one of another class misleads."
)
WORDS = {"zeros": "zeros", "mean": "the training mean", "same class": "another clip, same class"}
WORDS["other class"] = "another clip, other class"
NOTES = (
    "Adds: accuracy after the last step less that with the other modality alone, this one replaced by its mean over"
    " training clips; in points.",
)


def modality_tables(groups: list[Group]) -> list[Table]:
    """``analysed_tables``; InputError if no run has been analysed."""
    tables = analysed_tables(groups)
    if not tables:
        raise InputError("--layout modalities: no row has been analysed; python analyse_modalities.py --run FOLDER ...")
    return tables


def analysed_tables(groups: list[Group]) -> list[Table]:
    """Two Tables per group whose runs have all been analysed: ``tables_of_counts``."""
    tables = []
    for (dataset, _), members in group_by(groups, ("dataset", "modality")):
        for name, runs in members:
            counts = counts_of(runs)
            if counts:
                tables += tables_of_counts(f"{name}, {dataset}", counts)
    return tables


def counts_of(runs: list) -> list[Counts]:
    """The Counts of each of ``runs`` (RunResults); empty if one has none, or they are of other steps or classes."""
    counts = [read_counts(run.folder) for run in runs]
    known = [each for each in counts if each is not None]
    alike = all(_shape(each) == _shape(known[0]) for each in known)
    return known if len(known) == len(counts) and alike else []


def _shape(counts):
    return {step: list(of_classes) for step, of_classes in counts[UNCHANGED].items()}


def last_step(counts: Counts, case: tuple[str, str]) -> dict[str, tuple[int, int]]:
    """{class: (clips, right)} of a case after the last step that was analysed."""
    return counts[case][max(counts[case])]


def accuracy(of_classes: dict[str, tuple[int, int]]) -> float | None:
    """The share of all clips that was right, a fraction."""
    clips = sum(number for number, _ in of_classes.values())
    return sum(right for _, right in of_classes.values()) / clips if clips else None


def additions(counts: Counts) -> dict[str, dict[str, float | None]]:
    """{class: {"accuracy", "audio", "visual"}} after the last step: with both, and what each adds to the other."""
    whole, table = last_step(counts, UNCHANGED), {}
    for name, (clips, right) in whole.items():
        lost = {modality: right - last_step(counts, (modality, "mean"))[name][1] for modality in MODALITIES}
        values = {"accuracy": right, **lost}
        table[name] = {key: value / clips if clips else None for key, value in values.items()}
    return table


def tables_of_counts(name: str, counts: list[Counts]) -> list[Table]:
    """Accuracy by what is replaced after each step, and what each modality adds by class, of the runs of one row."""
    steps = sorted(counts[0][UNCHANGED])
    columns = [Column("replaced"), *(Column(f"step {step}") for step in steps)]
    rows = [[label, *cells] for label, cells in _by_case(counts)]
    return [Table(f"Modalities replaced, {name}", columns, rows), _class_table(name, counts, _classes(counts))]


def _by_class(counts, classes):
    """(class, test clips, [Cells of accuracy, of what audio adds, of what visual adds]), audio's classes first."""
    added = [additions(each) for each in counts]
    rows = []
    for name in classes:
        clips = last_step(counts[0], UNCHANGED)[name][0]
        rows.append((name, clips, [cell([of_run[name][key] for of_run in added]) for key in ("accuracy", *MODALITIES)]))
    return sorted(rows, key=lambda row: (row[2][2].value or 0) - (row[2][1].value or 0))


def _class_table(name, counts, classes):
    rows = []
    for each, clips, (both, *cells) in _by_class(counts, classes):
        rows.append([each, str(clips), both, *(Cell(one.value, one.spread, signed=True) for one in cells)])
    heads = [Column(head) for head in ("class", "test clips", "accuracy", "audio adds", "visual adds")]
    return Table(f"What each modality adds, {name}", heads, rows, NOTES)


def _by_case(counts):
    """(what is replaced, Cells of the accuracy after each step that was analysed)."""
    for case in [UNCHANGED, *((modality, by) for modality in MODALITIES for by in REPLACEMENTS)]:
        label = "nothing" if case == UNCHANGED else f"{case[0]} by {WORDS[case[1]]}"
        of_steps = [[each.get(case, {}).get(step, {}) for each in counts] for step in sorted(counts[0][UNCHANGED])]
        yield label, [cell(map(accuracy, of_step)) for of_step in of_steps]


def curves(counts: list[Counts]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{what is replaced: (steps, mean accuracy in per cent)} of the runs of one row."""
    lines = {}
    for label, cells in _by_case(counts):
        known = [(step, each.value) for step, each in zip(sorted(counts[0][UNCHANGED]), cells, strict=True)]
        known = [pair for pair in known if pair[1] is not None]
        lines[label] = np.array([step for step, _ in known]), np.array([value for _, value in known])
    return lines


def bars(counts: list[Counts]) -> list[tuple[str, float, float]]:
    """(class, points that audio adds, points that visual adds), in the order of the table."""
    rows = [(name, *(each.value for each in cells[1:])) for name, _, cells in _by_class(counts, _classes(counts))]
    return [(name, audio, visual) for name, audio, visual in rows if audio is not None and visual is not None]


def _classes(counts):
    return list(last_step(counts[0], UNCHANGED))


def draw_counts(path: str, name: str, counts: Counts) -> str:
    """Draw the Counts of one run to ``path``, a .png file, and return it."""
    from reporting.plots import draw_modalities
    from reporting.style import figure_style, save

    with figure_style():
        stem, suffix = os.path.splitext(path)
        figure = draw_modalities(f"Modalities replaced, {name}", "One run", curves([counts]), bars([counts]))
        save(figure, stem, [suffix[1:]])
    return path
