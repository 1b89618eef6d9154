"""Finished runs on disk: find them, and average those that differ in nothing but the seed."""

import json
import os
import statistics

from utils.errors import InputError

# Options that do not change what a run computes.
NOT_DEFINING = {
    "save_root",
    "run_dir",
    "overwrite",
    "device",
    "num_workers",
    "device_cache",
    "host_cache",
    "checkpoint_every",
}
FIGURES = ("accuracy_per_step", "mean_accuracy", "average_forgetting")


def find_runs(paths):
    """The results of every finished run in or under ``paths``, as dicts. InputError where there is none."""
    found = []
    for path in paths:
        if not os.path.isdir(path):
            raise InputError(f"{path}: no such folder; give run folders, or folders of them")
        files = [os.path.join(top, "results.json") for top, _, names in os.walk(path) if "results.json" in names]
        if not files:
            raise InputError(f"{path}: no finished run (results.json) in or under it")
        found += [read_results(file) for file in sorted(files)]
    return found


def group_seeds(runs):
    """Group runs that differ in the seed alone: a list of (name, runs), the names saying what tells groups apart."""
    groups = {}
    for run in runs:
        key = {name: value for name, value in run["arguments"].items() if name not in NOT_DEFINING | {"seed"}}
        groups.setdefault(json.dumps(key, sort_keys=True), []).append(run)
    keys = [json.loads(key) for key in groups]
    return [(_name(key, keys), runs) for key, runs in zip(keys, groups.values(), strict=True)]


def mean_and_spread(values):
    """Mean and sample standard deviation (None for a single value); (None, None) if there are no values."""
    values = [value for value in values if value is not None]
    if not values:
        return None, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def _name(key, keys):
    """Method and classifier, and of the rest what is not the same for all."""
    name = key["method"] + ("" if key["classifier"] == "linear" else f" {key['classifier']}")
    for option in ("dataset", "modality", "variant", *sorted(key)):
        same_method = [other for other in keys if other["method"] == key["method"]]
        shared_by = keys if option in ("dataset", "modality", "variant") else same_method
        told = option in ("method", "classifier") or f" {key[option]}" in name
        if not told and any(other.get(option) != key[option] for other in shared_by):
            name += f" {key[option]}" if option in ("dataset", "modality", "variant") else f" {option}={key[option]}"
    return name


def read_results(path):
    """The content of one ``results.json``; InputError if it is damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            run = json.load(file)
    except ValueError as error:
        raise InputError(f"{path}: not readable as JSON ({error}); run the training again") from None
    missing = [name for name in (*FIGURES, "arguments") if not isinstance(run, dict) or name not in run]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; it is not the results of a run")
    return run
