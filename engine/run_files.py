"""Finished runs on disk: find them, and average those that differ in nothing but the seed."""

import csv
import json
import math
import os

from utils.errors import InputError

# Options that do not change what a run computes.
NOT_DEFINING = {
    *("save_root", "run_dir", "overwrite", "checkpoint_every", "tensorboard"),
    *("device", "device_cache", "host_cache", "num_workers"),
}


def read_results(path):
    """The content of one ``results.json``; InputError if it is damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            run = json.load(file)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({error}); run the training again") from None
    check_results(path, run)
    return run


NEEDED = ("accuracy_per_step", "accuracy_matrix", "mean_accuracy", "last_accuracy", "average_forgetting", "arguments")
NEEDED_ARGUMENTS = ("method", "dataset", "modality", "classifier", "variant", "seed")


def check_results(path, run):
    """InputError, naming the file ``path``, the first value that is not as a run writes it, and the cure."""
    missing = [name for name in NEEDED if not isinstance(run, dict) or name not in run]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; it is not the results of a run")
    for name, expected, holds in _rules(run):
        if not holds(run[name]):
            shown = repr(run[name])
            shown = shown if len(shown) <= 60 else shown[:60] + "..."
            raise InputError(f"{path}: {name} is {shown}, not {expected}; run the training again")


def _rules(run):
    """(name, what it has to be, whether a value is that), for all values that are there."""
    rules = [
        ("arguments", f"options with {', '.join(NEEDED_ARGUMENTS)} as a run has them", _are_arguments),
        ("accuracy_per_step", "a list of fractions", lambda value: _is_list(value, _is_share) and value),
        ("accuracy_matrix", "a row of fractions for each step, longer by one each step", lambda m: _is_matrix(m, run)),
        ("mean_accuracy", "a fraction", _is_share),
        ("last_accuracy", "a fraction", _is_share),
        ("average_forgetting", "a number from -1 to 1, or null", _is_forgetting),
        ("seconds_per_step", "a number for each step", lambda value: _is_cost(value, run)),
        ("kept_bytes_per_step", "a number for each step", lambda value: _is_cost(value, run)),
        ("class_names", "a list of names", lambda value: _is_list(value, lambda name: isinstance(name, str))),
        ("confusion", "a square of counts for each step, no larger than class_names", lambda c: _is_confusion(c, run)),
    ]
    return [rule for rule in rules if rule[0] in run]


def _are_arguments(value):
    if not isinstance(value, dict):
        return False
    sizes, classes = value.get("classes_per_step"), value.get("num_classes")
    return (
        all(isinstance(value.get(name), int if name == "seed" else str) for name in NEEDED_ARGUMENTS)
        and (sizes is None or (_is_list(sizes, _is_size) and bool(sizes)))
        and (classes is None or _is_size(classes))
    )


def _is_size(value):
    return _is_count(value) and 0 < value < 2**31


def _is_list(value, holds):
    return isinstance(value, list) and all(map(holds, value))


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_share(value):
    return _is_number(value) and 0 <= value <= 1


def _is_cost(value, run):
    return _is_list(value, lambda each: _is_number(each) and each >= 0) and len(value) == len(run["accuracy_per_step"])


def _is_forgetting(value):
    return value is None or (_is_number(value) and -1 <= value <= 1)


def _is_matrix(value, run):
    steps = len(run["accuracy_per_step"])
    return _is_list(value, lambda row: _is_list(row, _is_share)) and [*map(len, value)] == [*range(1, steps + 1)]


def _is_confusion(value, run):
    if not _is_list(value, _is_square) or len(value) != len(run["accuracy_per_step"]):
        return False
    return all(len(counts) <= len(run.get("class_names", ())) for counts in value)


def _is_square(value):
    return _is_list(value, lambda row: _is_list(row, _is_count) and len(row) == len(value))


def _is_count(value):
    return isinstance(value, int) and 0 <= value < 2**53


HEADER = ["step", "epoch", "name", "value"]
NOT_LOSSES = ("val_res", "lr")


def read_losses(folder):
    """``{term: {(step, epoch): value}}`` from ``epochs.csv`` in ``folder``, terms in order of appearance.

    Empty where there is no such file, or a method has no epochs. InputError if a line is not as a run writes it.
    """
    path = os.path.join(folder, "epochs.csv")
    if not os.path.exists(path):
        return {}
    losses = {}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as CSV ({error}); run the training again") from None
    if not rows or rows[0] != HEADER:
        raise InputError(f"{path}: line 1 is not {','.join(HEADER)}; run the training again")
    for number, row in enumerate(rows[1:], 2):
        step, epoch, name, value = _parse(path, number, row)
        if name not in NOT_LOSSES:
            losses.setdefault(name, {})[step, epoch] = value
    return losses


def _parse(path, number, row):
    try:
        step, epoch, name, value = row
        parsed = int(step), int(epoch), name, float(value)
    except ValueError:
        parsed = None
    if parsed is None or not math.isfinite(parsed[3]) or min(parsed[:2]) < 0:
        shown = ",".join(row)[:60]
        raise InputError(f"{path}: line {number} is {shown!r}, not step,epoch,name,value; run the training again")
    return parsed


LOCK = ".lock"
ARGUMENTS = "arguments.json"
FOLDERS = ("figures", "checkpoints")
EPOCHS_HEADER = "step,epoch,name,value"
