"""What the files in the folder of a run are called, and how those of a finished run are read. No torch is needed."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from utils.errors import InputError, printable
from utils.files import read_json, read_lines

RESULTS, ARGUMENTS, DATA, ENVIRONMENT = "results.json", "arguments.json", "data.json", "environment.json"
STEPS, EPOCHS, LOG, LOCK = "steps.jsonl", "epochs.csv", "log.txt", ".lock"
EPOCHS_HEADER = "step,epoch,name,value"
# All that a run writes, by folder, in the order in which it is removed; nothing else in its folder is the run's.
WRITTEN = {
    "": (RESULTS, STEPS, EPOCHS, LOG, "modalities.csv", "modalities.png", DATA, ENVIRONMENT, ARGUMENTS),
    "checkpoints": ("step_*.pt", "ongoing_*.pt", "unfinished.pt"),
    "figures": ("training.png", "accuracy.png", "step_*.png"),  # the last ones by earlier versions
    "scores": ("step_*.npz",),
    "features": ("step_*.npz",),
    "tensorboard": ("events.out.tfevents.*",),
}
# Options that do not change what a run computes.
NOT_DEFINING = {
    *("data_root", "splits", "save_root", "run_dir", "overwrite", "command"),
    *("checkpoint_every", "tensorboard", "no_scores", "save_features", "probe_gradients"),
    *("without_effect", "left_out"),
    *("device", "device_cache", "host_cache", "num_workers", "rank_timeout", "runs_per_gpu"),
}
NEEDED_ARGUMENTS = ("method", "dataset", "modality", "classifier", "variant", "seed")
_ARGUMENTS_OF_A_RUN = f"options with {', '.join(NEEDED_ARGUMENTS)} as a run has them"
HINT = "run the training again"


@dataclass(frozen=True)
class RunResults:
    """What ``results.json`` says of a finished run of T steps; accuracies are fractions. What older runs lack is None.

    ``accuracy_matrix[t][j]``: accuracy on task j after step t, j <= t. ``confusion[t]``: counts, true class by
    predicted class, of the classes seen after step t. ``data`` and ``code``: digests of splits and features, and of the
    files that computed. ``pooled``: values of the options that count as repetitions.
    ``label``: the method's name in print. A run that is not ``finished`` has steps so far, and no figures of a run.
    """

    folder: str
    arguments: dict[str, Any]
    accuracy_per_step: list[float]
    accuracy_matrix: list[list[float]]
    mean_accuracy: float | None
    last_accuracy: float | None
    average_forgetting: float | None
    seconds_per_step: list[float] | None = None
    kept_bytes_per_step: list[float] | None = None
    class_names: list[str] | None = None
    confusion: list[list[list[int]]] | None = None
    test_clips_sharing_videos: float | None = None
    versions: dict[str, object] = field(default_factory=dict)
    data: dict[str, object] = field(default_factory=dict)
    code: dict[str, object] = field(default_factory=dict)
    pooled: tuple[str, ...] = ()
    label: str = ""
    finished: bool = True

    @classmethod
    def from_json(cls, content: object, path: str) -> "RunResults":
        """From the content of the file ``path``; InputError that names the first value not as a run writes it."""
        needed = ("accuracy_per_step", "accuracy_matrix", "mean_accuracy", "last_accuracy", "average_forgetting")
        missing = [name for name in (*needed, "arguments") if not isinstance(content, dict) or name not in content]
        if missing:
            raise InputError(f"{path}: lacks {', '.join(missing)}; it is not the results of a run")
        values = _Values(path, content)
        arguments = values.get("arguments", _arguments, _ARGUMENTS_OF_A_RUN)
        accuracy = values.get("accuracy_per_step", _list_of(_fraction), "a list of fractions")
        steps = len(accuracy)
        names = values.get("class_names", _list_of(_text), "a list of names")
        versions = values.get("versions", _plain_dict, "a dictionary of versions") or {}
        if arguments.get("precision") == "auto":  # a table tells what it was
            arguments = arguments | {"precision": "tf32" if versions.get("tf32") else "fp32"}
        return cls(
            folder=os.path.dirname(path),
            arguments=arguments,
            accuracy_per_step=accuracy,
            accuracy_matrix=values.get(
                "accuracy_matrix", _triangle(steps), "a row of fractions for each step, longer by one each step"
            ),
            mean_accuracy=values.get("mean_accuracy", _fraction, "a fraction"),
            last_accuracy=values.get("last_accuracy", _fraction, "a fraction"),
            average_forgetting=values.get("average_forgetting", _number(-1, 1), "a number from -1 to 1, or null"),
            seconds_per_step=values.get("seconds_per_step", _list_of(_cost, steps), "a number for each step"),
            kept_bytes_per_step=values.get("kept_bytes_per_step", _list_of(_cost, steps), "a number for each step"),
            class_names=names,
            confusion=values.get(
                "confusion",
                _list_of(_square(len(names or ())), steps),
                "a square of counts for each step, no larger than class_names",
            ),
            test_clips_sharing_videos=values.get("test_clips_sharing_videos", _fraction, "a fraction, or null"),
            versions=versions,
            data=values.get("data", _plain_dict, "a dictionary of digests") or {},
            code=values.get("code", _plain_dict, "a dictionary of digests") or {},
        )


def is_there(path: str) -> bool:
    """Whether ``path`` exists; OSError where that cannot be known: a closed folder, a disk that does not answer.

    To Python's own functions those are not there, and the run would start anew, or be told to.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def read_results(path: str) -> RunResults:
    """The results in the file ``path``; InputError if it is damaged."""
    return RunResults.from_json(read_json(path, "results file", HINT), path)


def read_unfinished(folder: str) -> RunResults | None:
    """What the run in ``folder`` has reached so far; None if no step of it is finished, or it is not that of a run."""
    path, rows_path = os.path.join(folder, ARGUMENTS), os.path.join(folder, STEPS)
    if not is_there(path) or not is_there(rows_path):
        return None
    rows = []
    for number, text in enumerate(read_lines(rows_path, "file of steps", HINT), 1):
        try:
            rows.append(json.loads(text))
            _list_of(_fraction, number)(rows[-1]["accuracy_by_task"])
            _fraction(rows[-1]["accuracy"])
        except (ValueError, TypeError, KeyError, RecursionError):
            # The line that is being written as we read.
            rows = rows[: number - 1]
            break
    if not rows:
        return None
    values = _Values(path, {"arguments": read_json(path, "file of arguments", HINT)})
    return RunResults(
        folder=folder,
        arguments=values.get("arguments", _arguments, _ARGUMENTS_OF_A_RUN),
        accuracy_per_step=[row["accuracy"] for row in rows],
        accuracy_matrix=[row["accuracy_by_task"] for row in rows],
        mean_accuracy=None,
        last_accuracy=None,
        average_forgetting=None,
        finished=False,
    )


class _Values:
    """Looks values up in ``content``, and says which is not what it has to be."""

    def __init__(self, path, content):
        self.path, self.content = path, content

    def get(self, name: str, convert: Callable, expected: str) -> Any:
        """``convert`` of the value of ``name``, None if that is absent; it raises ValueError on other values."""
        value = self.content.get(name)
        if value is None and (name not in self.content or "null" in expected):
            return None
        try:
            return convert(value)
        except ValueError:
            shown = json.dumps(value)
            shown = shown if len(shown) <= 60 else shown[:60] + "..."
            raise InputError(f"{self.path}: {name} is {shown}, not {expected}; {HINT}") from None


def _holds(condition):
    if not condition:
        raise ValueError


def _number(low, high):
    def convert(value):
        _holds(isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high)
        return value

    return convert


_fraction, _cost = _number(0, 1), _number(0, sys.float_info.max)


def _count(value, low=0, high=2**53):
    _holds(isinstance(value, int) and low <= value < high)
    return value


def _text(value):
    _holds(isinstance(value, str))
    return printable(value)  # it goes into tables and pictures


def _plain_dict(value):
    _holds(isinstance(value, dict))
    return value


def _list_of(convert: Callable, length: int | None = None) -> Callable:
    """A conversion of lists, of this length or of at least one, by that of their items."""

    def convert_list(value):
        _holds(isinstance(value, list) and (len(value) == length if length is not None else bool(value)))
        return [convert(item) for item in value]

    return convert_list


def _triangle(steps):
    def convert(value):
        _holds(isinstance(value, list) and len(value) == steps)
        return [_list_of(_fraction, step + 1)(row) for step, row in enumerate(value)]

    return convert


def _square(most):
    def convert(value):
        _holds(isinstance(value, list) and 0 < len(value) <= most)
        return _list_of(_list_of(_count, len(value)))(value)

    return convert


def _arguments(value):
    _plain_dict(value)
    for name in NEEDED_ARGUMENTS:
        (_count if name == "seed" else _text)(value.get(name))
    for name, convert in (("classes_per_step", _list_of(_size)), ("num_classes", _size)):
        if value.get(name) is not None:
            convert(value[name])
    return {name: printable(each) if isinstance(each, str) else each for name, each in value.items()}


def _size(value):
    return _count(value, 1, 2**31)
