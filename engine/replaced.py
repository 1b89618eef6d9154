"""Test clips with one modality replaced: which clips take whose place, and the file of counts. No torch is needed."""

import os

import numpy as np

from engine.run_files import is_there
from utils.errors import InputError, printable
from utils.files import csv_text, of_cell, read_table, write_text

COUNTS_FILE = "modalities.csv"
COLUMNS = ("step", "modality", "by", "class", "clips", "right")
MODALITIES = ("audio", "visual")
# What a modality is replaced by; of the last two, another test clip's.
REPLACEMENTS = ("zeros", "mean", "same class", "other class")
UNCHANGED = ("none", "none")
HINT = "make it again (python analyse_modalities.py)"

# {(modality, by): {step: {class: (test clips, right among them)}}}; UNCHANGED: with nothing replaced.
Counts = dict[tuple[str, str], dict[int, dict[str, tuple[int, int]]]]


def within_classes(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each of the clips of classes ``label`` (N,) another of its class, each taken once: indices (N,).

    The only clip of a class keeps its own.
    """
    order = np.empty(len(label), np.int64)
    for each in np.unique(label):
        clips = rng.permutation(np.flatnonzero(label == each))
        order[clips] = np.roll(clips, 1)
    return order


def across_classes(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each of the clips one of another class, each taken once: indices (N,).

    As far as there are such clips: where one class has more than half of them, some of its keep to it.
    """
    order = rng.permutation(len(label))
    for clip in range(len(label)):
        if label[order[clip]] == label[clip]:
            fits = np.flatnonzero((label[order] != label[clip]) & (label[order[clip]] != label))
            if len(fits):
                other = rng.choice(fits)
                order[[clip, other]] = order[[other, clip]]
    return order


def write_counts(folder: str, counts: Counts) -> str:
    """Write ``counts`` to COUNTS_FILE in ``folder``; return its path."""
    rows = [
        (step, modality, by, name, *pair)
        for (modality, by), of_steps in counts.items()
        for step, of_classes in of_steps.items()
        for name, pair in of_classes.items()
    ]
    path = os.path.join(folder, COUNTS_FILE)
    write_text(path, csv_text([COLUMNS, *rows]))
    return path


def read_counts(folder: str) -> Counts | None:
    """What ``write_counts`` wrote to ``folder``; None if there is none. InputError if it is damaged."""
    path = os.path.join(folder, COUNTS_FILE)
    if not is_there(path):
        return None
    known = {UNCHANGED, *((modality, by) for modality in MODALITIES for by in REPLACEMENTS)}
    counts: Counts = {}
    for line, row in read_table(path, COLUMNS, "csv file of replaced modalities", HINT):
        case = row["modality"], row["by"]
        numbers = [row["step"], row["clips"], row["right"]]
        fits = case in known and all(number.isdecimal() and len(number) < 9 for number in numbers)
        if not fits or int(row["right"]) > int(row["clips"]):
            raise InputError(f"{path}, line {line}: not a row of replaced modalities; {HINT}")
        of_step = counts.setdefault(case, {}).setdefault(int(row["step"]), {})
        of_step[printable(of_cell(row["class"]))] = int(row["clips"]), int(row["right"])
    steps = {case: {step: list(of_step) for step, of_step in counts.get(case, {}).items()} for case in known}
    if not steps[UNCHANGED] or any(of_case not in ({}, steps[UNCHANGED]) for of_case in steps.values()):
        raise InputError(f"{path}: rows are missing; {HINT}")
    return counts
