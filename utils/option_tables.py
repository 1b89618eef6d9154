"""Ablations and sweeps: runs of one method that differ in options, by these options."""

from utils.measures import ACCURACY, FORGETTING, LAST, best_note, in_order, measured, settings_of, split
from utils.run_names import differing, show_value
from utils.tables import Column, Table


def option_tables(groups):
    """One Table per data set, method, classifier and modality of which there are runs with different options."""
    by = ("dataset", "method", "classifier", "modality")
    return [_option_table(key, mine) for key, mine in split(groups, by) if len(mine) > 1]


def _option_table(key, groups):
    """A row per combination of the options that differ, in their order."""
    groups = in_order(groups)
    all_settings = settings_of(groups)
    options = differing(all_settings)
    cases = [runs for _, runs in groups]
    measures = (ACCURACY, LAST, FORGETTING)
    columns = [Column(name) for name in (*options, "seeds", *(head for _, head, _ in measures))]
    told = [[show_value(mine.get(name)) for name in options] for mine in all_settings]
    cells = [measured(measure, cases) for measure in measures]
    rows = [
        [*mine, str(len(runs)), *each] for mine, runs, each in zip(told, cases, zip(*cells, strict=True), strict=True)
    ]
    dataset, method, classifier, modality = key
    name = method if classifier == "linear" else f"{method} {classifier}"
    return Table(f"{name}, {modality}, {dataset}", columns, rows, tuple(best_note(cells, groups)))
