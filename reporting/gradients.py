"""``--layout gradients``: how strongly each loss term pulls in each step, and whether it pulls against the others."""

import numpy as np

from engine.epoch_rows import GRADIENT_COSINE, GRADIENT_NORM, read_epochs
from engine.run_files import RunResults
from reporting.layouts import group_by
from reporting.runs import Group, mean_and_spread
from reporting.tables import Cell, Column, Table, cell
from utils.errors import InputError

HINT = "train again with --probe_gradients 10 and --overwrite"
READING = (
    "A term whose cosine is below 0 works against the others; one whose gradient is much the longest decides alone."
)
NOTES = (
    "Cosine of the gradient of a term to that of all others together, mean over the epochs that were probed: below 0"
    " they work against one another.",
    "Share: the length of the gradient in per cent of the sum of the lengths of all terms.",
)


def gradient_tables(groups: list[Group]) -> list[Table]:
    """``gradients``; InputError if no run has probed any."""
    tables = gradients(groups)
    if not tables:
        raise InputError(f"--layout gradients: no row has probed gradients; {HINT}")
    return tables


def gradients(groups: list[Group]) -> list[Table]:
    """A Table per group whose runs have probed gradients: a row per loss term, cosine and share in each step.

    None of a single term, which has nothing to be compared with.
    """
    tables = []
    for (dataset, modality), members in group_by(groups, ("dataset", "modality")):
        for name, runs in members:
            of_runs = [gradient_means(run) for run in runs]
            if all(len(means) > 1 for means in of_runs):
                notes = () if tables else NOTES
                tables.append(_table(f"Gradients, {name}, {dataset}, {modality}", of_runs, notes))
    return tables


def gradient_means(run: RunResults) -> dict[str, dict[int, tuple[float | None, float]]]:
    """{loss term: {step: (cosine to the rest, or None; length over the sum of all lengths)}}, means over epochs."""
    epochs = read_epochs(run.folder)
    norms = _by_term(epochs, GRADIENT_NORM)
    cosines, shares = _by_term(epochs, GRADIENT_COSINE), {}
    for term, values in norms.items():
        for key, norm in values.items():
            total = sum(others[key] for others in norms.values() if key in others)
            shares.setdefault(term, {})[key] = norm / total if total > 0 else 0.0
    means = {}
    for term, values in shares.items():
        of_term = _step_means(cosines.get(term, {}))
        means[term] = {step: (of_term.get(step), share) for step, share in _step_means(values).items()}
    return means


def _by_term(epochs, prefix):
    return {name.removeprefix(prefix): values for name, values in epochs.items() if name.startswith(prefix)}


def _step_means(values):
    """The mean over epochs of ``values``, {(step, epoch): value}, as {step: mean}."""
    by_step = {}
    for (step, _), value in values.items():
        by_step.setdefault(step, []).append(value)
    return {step: float(np.mean(each)) for step, each in by_step.items()}


def _table(title, of_runs, notes):
    terms = list(dict.fromkeys(term for means in of_runs for term in means))
    steps = range(1 + max(step for means in of_runs for of_term in means.values() for step in of_term))
    columns = [Column("loss term")]
    columns += [Column(f"step {step}", group) for group in ("cosine to the rest", "share of lengths") for step in steps]
    rows = []
    for term in terms:
        values = [[means.get(term, {}).get(step, (None, None)) for means in of_runs] for step in steps]
        cosines = [mean_and_spread(cosine for cosine, _ in of_step) for of_step in values]
        cells = [Cell(*each, signed=True) for each in cosines]
        rows.append([term, *cells, *(cell(share for _, share in of_step) for of_step in values)])
    return Table(title, columns, rows, notes)
