"""Finished runs on disk: find them, and average those that differ in nothing but the seed."""

import json
import os
import statistics

from engine.run_files import NOT_DEFINING, read_results
from utils.errors import InputError

BY_CLASS = ("class_names", "confusion")


def find_runs(paths):
    """The results of every finished run in or under ``paths``, as dicts, each with its ``folder``.

    A run found twice counts once. InputError where there is none.
    """
    found = {}
    for path in paths:
        if not os.path.isdir(path):
            raise InputError(f"{path}: no such folder; give run folders, or folders of them")
        folders = sorted(top for top, _, names in os.walk(path) if "results.json" in names)
        if not folders:
            raise InputError(f"{path}: no finished run (results.json) in or under it")
        for folder in folders:
            found.setdefault(os.path.realpath(folder), folder)
    return [read_results(os.path.join(folder, "results.json")) | {"folder": folder} for folder in found.values()]


def pool(runs, options):
    """The same runs as repetitions of one another whatever their ``options`` (names), as they are whatever their seed.

    InputError if no run has such an option.
    """
    options = [option for option in options if option != "seed"]  # pooled as it is
    for option in options:
        if not any(option in run["arguments"] for run in runs):
            raise InputError(f"--pool {option}: no run has such an option; see arguments.json in the run folders")
    return [_without(run, options) for run in runs] if options else runs


def group_seeds(runs):
    """Group runs that differ in the seed alone: a list of (name, runs), the names saying what tells groups apart.

    InputError if a group has a seed twice, as the spread over seeds would be wrong, or runs of other steps or classes.
    """
    groups = {}
    for run in runs:
        groups.setdefault(json.dumps(settings(run), sort_keys=True), []).append(run)
    for group in groups.values():
        _refuse_unlike(group)
    names = name_settings([settings(group[0]) for group in groups.values()])
    return list(zip(names, groups.values(), strict=True))


def settings(run):
    """The options that define ``run``, apart from its seed. One that is not set is left out, as in older runs."""
    skip = NOT_DEFINING | {"seed"}
    return {name: value for name, value in run["arguments"].items() if name not in skip and value is not None}


def mean_and_spread(values):
    """Mean and sample standard deviation (None for a single value); (None, None) if there are no values."""
    values = [value for value in values if value is not None]
    if not values:
        return None, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def _without(run, options):
    """``run`` without ``options`` and without what is told by class, whose numbers then mean other classes."""
    known = run["arguments"]
    kept = {name: value for name, value in known.items() if name not in options}
    pooled = tuple(json.dumps(known.get(option)) for option in options)
    return {name: value for name, value in run.items() if name not in BY_CLASS} | {"arguments": kept, "pooled": pooled}


def _refuse_unlike(group):
    """InputError if runs that should differ in the seed alone have one seed, or differ in steps or classes."""
    first, seeds = group[0], {}
    for run in group:
        seed, folder = run["arguments"]["seed"], run.get("folder")
        draw = seed, run.get("pooled")
        if draw in seeds:
            raise InputError(f"{folder}: seed {seed} and all options as in {seeds[draw]}; leave one of them out")
        seeds[draw] = folder
        if _shape(run) != _shape(first):
            raise InputError(f"{folder}: other steps or classes than {first.get('folder')}; leave one of them out")


def _shape(run):
    return len(run["accuracy_per_step"]), run.get("class_names"), [len(counts) for counts in run.get("confusion", [])]


# Named by their value alone, and only where they are not the same for all.
PLACES = ("dataset", "modality", "variant")
PEERS = ("method", "classifier", "dataset", "modality")


def name_settings(settings):
    """A name for each of ``settings``, dicts of options. Names differ where the settings do.

    An option is named where its value is not that of most runs of the same method, classifier, data set and modality:
    in a table of ablations the whole method has its plain name, and each other row the term it lacks.
    """
    return [_name(mine, settings) for mine in settings]


def differing(settings):
    """The options, sorted, that do not have the same value in all of ``settings``."""
    options = sorted(set().union(*settings))
    return [option for option in options if len({json.dumps(each.get(option)) for each in settings}) > 1]


def show_value(value):
    """The value of an option as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "unset" if value is None else str(value)


def _name(mine, settings):
    words = [mine["method"]] + ([] if mine["classifier"] == "linear" else [mine["classifier"]])
    words += [mine[place] for place in PLACES if place in mine and place in differing(settings)]
    peers = [other for other in settings if all(other.get(key) == mine.get(key) for key in PEERS)]
    told = [option for option in differing(peers) if option not in PLACES]
    return " ".join(words + [_show(option, mine.get(option)) for option in told if not _is_usual(option, mine, peers)])


def _is_usual(option, mine, peers):
    return sum(other.get(option) == mine.get(option) for other in peers) > len(peers) / 2


def _show(option, value):
    if isinstance(value, bool):
        return option if value else f"no {option}"
    return f"{option}={show_value(value)}"
