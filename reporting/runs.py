"""Finished runs: find them, group those that differ in the seed alone, and name the groups by what tells them apart."""

import hashlib
import json
import os
import statistics
from collections.abc import Iterable
from dataclasses import replace

from engine.run_files import ARGUMENTS, NOT_DEFINING, RESULTS, RunResults, read_results, read_unfinished
from utils.errors import InputError

# A row of a report: its name, and its runs, which are repetitions of one another.
Group = tuple[str, list[RunResults]]
# What the methods are called in print, in the order of rows.
DISPLAY_NAMES = {
    "fine_tuning": "Fine-tuning",
    "lwf": "LwF",
    "icarl": "iCaRL",
    "ssil": "SS-IL",
    "afc": "AFC",
    "cign": "CIGN",
    "avcil": "AV-CIL",
    "analytic": "Closed form",
    "upper_bound": "Upper bound",
}


def find_runs(
    paths: Iterable[str | os.PathLike], unfinished: bool = False, names: dict[str, str] = DISPLAY_NAMES
) -> list[RunResults]:
    """The results of every finished run in or under ``paths``. A run that is met twice counts once.

    ``unfinished``: those so far of runs that have finished a step, as well. ``names``: method -> its name in print.
    InputError where there is no run.
    """
    runs = {}
    for path in paths:
        if not os.path.isdir(path):
            raise InputError(f"{path}: no such folder; give run folders, or folders of them")
        folders = os.walk(path, onerror=_raise)
        inside = [run for top, _, names_in_it in folders if (run := _read_run(top, names_in_it, unfinished))]
        if not inside:
            cure = "" if unfinished else "; --unfinished shows what runs have reached so far"
            raise InputError(f"{path}: no finished {'step' if unfinished else f'run ({RESULTS})'} in or under it{cure}")
        for run in sorted(inside, key=lambda run: run.folder):
            runs.setdefault(os.path.realpath(run.folder), run)
    return [replace(run, label=names.get(run.arguments["method"], run.arguments["method"])) for run in runs.values()]


def _raise(error):
    raise error


def _read_run(folder, names, unfinished):
    """The results of the run in ``folder``, which holds files of these ``names``; None if it is not one."""
    if RESULTS in names:
        return read_results(os.path.join(folder, RESULTS))
    return read_unfinished(folder) if unfinished and ARGUMENTS in names else None


def pool(runs: list[RunResults], options: list[str]) -> list[RunResults]:
    """The same runs as repetitions of one another whatever their ``options`` (names), as they are whatever their seed.

    InputError if no run has such an option.
    """
    options = [option for option in options if option != "seed"]  # pooled as it is
    for option in options:
        if not any(option in run.arguments for run in runs):
            raise InputError(f"--pool {option}: no run has such an option; see arguments.json in the run folders")
    return [_without(run, options) for run in runs] if options else runs


def group_seeds(runs: list[RunResults]) -> list[Group]:
    """Group runs that differ in the seed alone; the names say what tells groups apart.

    InputError if a group has a seed twice, as the spread over seeds would be wrong, or runs of other steps or classes.
    """
    groups = {}
    for run in runs:
        groups.setdefault(json.dumps(settings(run), sort_keys=True), []).append(run)
    for group in groups.values():
        _refuse_unlike(group)
    firsts = [group[0] for group in groups.values()]
    names = name_settings([settings(run) for run in firsts], [run.label for run in firsts])
    return list(zip(names, groups.values(), strict=True))


def settings(run: RunResults) -> dict[str, object]:
    """What defines ``run``, apart from its seed: its options, and ``data``, a digest of splits and features.

    An option that is not set is left out, as in older runs, which have no digest either.
    """
    skip = NOT_DEFINING | {"seed"}
    options = {name: value for name, value in run.arguments.items() if name not in skip and value is not None}
    if run.data:
        options["data"] = hashlib.sha256(json.dumps(run.data, sort_keys=True).encode()).hexdigest()[:8]
    return options


def mean_and_spread(values: Iterable[float | None]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation (None for a single value); (None, None) if there are no values."""
    values = [value for value in values if value is not None]
    if not values:
        return None, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def _without(run, options):
    """``run`` without ``options`` and without what is told by class, whose numbers then mean other classes."""
    kept = {name: value for name, value in run.arguments.items() if name not in options}
    pooled = tuple(json.dumps(run.arguments.get(option)) for option in options)
    return replace(run, arguments=kept, pooled=pooled, class_names=None, confusion=None)


def _refuse_unlike(group):
    """InputError if runs that should differ in the seed alone have one seed, or differ in steps or classes."""
    first, folders = next((run for run in group if run.finished), None), {}
    for run in group:
        seed = run.arguments["seed"]
        if (seed, run.pooled) in folders:
            other = folders[seed, run.pooled]
            raise InputError(f"{run.folder}: seed {seed} and all options as in {other}; leave one of them out")
        folders[seed, run.pooled] = run.folder
        if first and run.finished and _shape(run) != _shape(first):
            raise InputError(f"{run.folder}: other steps or classes than {first.folder}; leave one of them out")


def _shape(run):
    return len(run.accuracy_per_step), run.class_names, [len(counts) for counts in run.confusion or ()]


LONGEST_VALUE = 120  # signs; a figure takes minutes to lay out a line of many thousands
# Named by their value alone, and only where they are not the same for all.
PLACES = ("dataset", "modality", "variant")
PEERS = ("method", "classifier", "dataset", "modality")


def name_settings(settings: list[dict], labels: list[str] | None = None) -> list[str]:
    """A name for each of ``settings``, dicts of options. Names differ where the settings do.

    ``labels``: what their methods are called, where not by their names.

    An option is named where its value is not that of most runs of the same method, classifier, data set and modality:
    in a table of ablations the whole method has its plain name, and each other row the term it lacks.
    """
    labels = labels or [own["method"] for own in settings]
    return [_name(own, label, settings) for own, label in zip(settings, labels, strict=True)]


def differing(settings: list[dict]) -> list[str]:
    """The options, sorted, that do not have the same value in all of ``settings``."""
    options = sorted(set().union(*settings))
    return [option for option in options if len({json.dumps(each.get(option)) for each in settings}) > 1]


def show_value(value: object) -> str:
    """The value of an option as people write it; of a long one its beginning and a digest."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = "unset" if value is None else str(value)
    if isinstance(value, list):
        text = " ".join(map(str, value)) or "none"
    if len(text) > LONGEST_VALUE:
        text = f"{text[: LONGEST_VALUE // 2]}... ({hashlib.sha256(text.encode()).hexdigest()[:8]})"
    return text


def _name(own, label, settings):
    words = [label] + ([] if own["classifier"] == "linear" else [own["classifier"]])
    words += [own[place] for place in PLACES if place in own and place in differing(settings)]
    peers = [other for other in settings if all(other.get(key) == own.get(key) for key in PEERS)]
    options = [option for option in differing(peers) if option not in PLACES]
    return " ".join(words + [_show(option, own.get(option)) for option in options if not _is_usual(option, own, peers)])


def _is_usual(option, own, peers):
    return sum(other.get(option) == own.get(option) for other in peers) > len(peers) / 2


def _show(option, value):
    if isinstance(value, bool):
        return option if value else f"no {option}"
    return f"{option}={show_value(value)}"
