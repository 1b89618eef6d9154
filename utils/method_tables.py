"""The table of a paper: methods by modalities, with published numbers beside one's own."""

import json

from utils.measures import ACCURACY, FORGETTING, best_note, in_order, measured, settings_of, split
from utils.published import SOURCE, find_published, other_settings
from utils.results import settings
from utils.run_names import differing, name_settings, show_value
from utils.tables import Cell, Column, Table

MODALITIES = ("audio", "visual", "audio-visual")


def method_tables(groups):
    """One Table per data set: a row per method, classifier and differing option, columns modality x measure.

    Beside a column stand the published numbers where there are some, and the difference to them.
    """
    return [_method_table(dataset, mine) for (dataset,), mine in split(groups, ("dataset",))]


def _method_table(dataset, groups):
    rows = _rows_by_modality(in_order(groups))
    columns, cells, notes = [Column("method")], [], []
    for modality in MODALITIES:
        cases = [by_modality.get(modality, []) for _, by_modality in rows]
        if any(cases):
            for measure in (ACCURACY, FORGETTING):
                heads, block = _block(modality, measure, cases)
                columns += heads
                cells += block
            notes += _published_notes(rows, modality)
    body = [[name, *row] for (name, _), row in zip(rows, zip(*cells, strict=True), strict=True)]
    return Table(dataset, columns, body, tuple(dict.fromkeys(best_note(cells, groups) + notes)))


def _rows_by_modality(groups):
    """A list of (name, {modality: runs}). Options that differ only between modalities, as presets do, make no rows."""
    rows = {}
    for (method, classifier), mine in split(groups, ("method", "classifier")):
        told = {option for _, peers in split(mine, ("modality",)) for option in differing(settings_of(peers))}
        for _, runs in mine:
            own = settings(runs[0])
            key = {"method": method, "classifier": classifier, **{option: own.get(option) for option in sorted(told)}}
            rows.setdefault(json.dumps(key), {})[own["modality"]] = runs
    names = name_settings([json.loads(key) for key in rows])
    return list(zip(names, rows.values(), strict=True))


def _block(modality, measure, cases):
    """Columns and their Cells for one measure; ``cases`` are the runs of each row, of this modality."""
    key, head, _ = measure
    columns, block = [Column(head, modality)], [measured(measure, cases)]
    published = [find_published(settings(runs[0])) if runs else None for runs in cases]
    if any(published):
        theirs = [Cell(entry[key]) if entry else Cell(None) for entry in published]
        pairs = zip(block[0], theirs, strict=True)
        short = head.split()[-1]
        columns += [Column(f"published {short}", modality), Column(f"diff. {short}", modality)]
        block += [theirs, [_difference(ours, other) for ours, other in pairs]]
    return columns, block


def _difference(ours, theirs):
    known = ours.value is not None and theirs.value is not None
    return Cell(ours.value - theirs.value if known else None, signed=True)


def _published_notes(rows, modality):
    notes = []
    for name, by_modality in rows:
        mine = settings(by_modality[modality][0]) if modality in by_modality else {}
        entry = find_published(mine)
        if entry:
            notes.append(f"Published: {SOURCE}.")
            others = [
                f"{option} {show_value(here)} ({show_value(there)})"
                for option, here, there in other_settings(entry, mine)
            ]
            if others:
                notes.append(f"{name}, {modality}: other settings than the published: {', '.join(others)}.")
    return notes
