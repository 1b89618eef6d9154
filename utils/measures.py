"""What the summaries measure, and how they order and divide the groups of runs that ``group_seeds`` gives."""

from utils.results import settings
from utils.run_names import differing
from utils.tables import cell, mark_best

# (key of results.json, head of its column, whether higher is better)
ACCURACY = ("mean_accuracy", "mean acc.", True)
LAST = ("last_accuracy", "last acc.", True)
FORGETTING = ("average_forgetting", "avg. forg.", False)
FLOOR, CEILING = "fine_tuning", "upper_bound"


def in_order(groups):
    """``groups`` with the floor first and the ceiling last; those of one method by the options that differ."""
    ordered = []
    for _, mine in split(groups, ("method", "classifier")):
        options = differing(settings_of(mine))
        ordered += sorted(mine, key=lambda group: [_sortable(settings(group[1][0]).get(name)) for name in options])
    return sorted(ordered, key=lambda group: _is(CEILING, group[1]) - _is(FLOOR, group[1]))


def split(groups, options):
    """``groups`` by their values of ``options``: a list of (values, groups), in order of first appearance."""
    parts = {}
    for group in groups:
        parts.setdefault(tuple(settings(group[1][0])[option] for option in options), []).append(group)
    return list(parts.items())


def measured(measure, cases):
    """The Cell of each of ``cases``, lists of runs; the best are marked if there is a choice."""
    key, _, highest = measure
    cells = [cell([run[key] for run in runs]) for runs in cases]
    competing = [index for index, runs in enumerate(cases) if runs and not _is(CEILING, runs)]
    if len(competing) > 1:
        marked = mark_best([cells[index] for index in competing], highest)
        for index, each in zip(competing, marked, strict=True):
            cells[index] = each
    return cells


def best_note(columns, groups):
    """The line below a table that says what is marked in these columns of Cells; no line if nothing is."""
    if not any(each.best for column in columns for each in column):
        return []
    ceiling = any(_is(CEILING, runs) for _, runs in groups)
    return ["Best of each column marked" + (f"; {CEILING}, which keeps all data, takes no part." if ceiling else ".")]


def settings_of(groups):
    """The settings of each group."""
    return [settings(runs[0]) for _, runs in groups]


def _is(method, runs):
    return runs[0]["arguments"]["method"] == method


def _sortable(value):
    """What is on or unset before what is off, numbers by size, the rest as text."""
    if isinstance(value, bool) or value is None:
        return (0, value is False, "")
    if isinstance(value, (int, float)):
        return (1, value, "")
    if isinstance(value, list) and all(isinstance(each, (int, float)) for each in value):
        return (2, sum(value) / max(len(value), 1), str(value))
    return (3, 0, str(value))
