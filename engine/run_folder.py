"""The folder of a run: named by what defines the run, holding everything that came out of it."""

import hashlib
import json
import os
import platform
import shutil

import numpy as np
import torch

from engine.options import build_parser, resolve
from utils.datasets import find_dataset
from utils.errors import InputError
from utils.files import write_json, written_aside
from utils.results import NOT_DEFINING

# Options that have a place of their own in the name of a run.
IN_NAME = ("dataset", "method", "modality", "classifier", "variant", "seed")
LONGEST_NAME = 150


def run_path(args, method):
    """``<save_root>/<dataset>/<method>-<classifier>_<modality>_<variant>_seed<seed>``, then every option that differs.

    Two runs that compute different things never share a path.
    """
    name = f"{args.method}-{args.classifier}_{args.modality}_{args.variant}_seed{args.seed}"
    for option, value in overrides(args, method).items():
        name += f"_{option}-{_short(option, value)}"
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 13]}_{_hash(name)}"
    return os.path.join(args.save_root, args.dataset, name)


def overrides(args, method):
    """The options whose values differ from the preset, by name."""
    usual = build_parser(method).parse_args(["--dataset", args.dataset])
    usual.method, usual.modality = args.method, args.modality
    usual = vars(resolve(usual, args.num_classes)) | {"num_classes": find_dataset(args.dataset).num_classes}
    skip = NOT_DEFINING | set(IN_NAME)
    return {key: value for key, value in sorted(vars(args).items()) if key not in skip and value != usual[key]}


def defining(args):
    """All that defines the run, as plain values."""
    return {key: value for key, value in vars(args).items() if key not in NOT_DEFINING}


def _short(option, value):
    if option == "data_root":
        return _hash(os.path.abspath(value))
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


def _hash(text):
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class RunFolder:
    """Where a run writes. ``results.json`` appears when the run is complete, and never before."""

    def __init__(self, args, method):
        self.args = args
        self.path = args.run_dir or run_path(args, method)
        self._refuse_other_run()

    def start(self):
        """Make the folder, cleared of an earlier attempt, and write down the arguments and the environment."""
        os.makedirs(self.path, exist_ok=True)
        _remove(self.file("results.json"))
        write_json(self.file("arguments.json"), vars(self.args))
        for name in ("steps.jsonl", "epochs.csv", "figures", "checkpoints"):
            _remove(self.file(name))
        for name in ("figures", "checkpoints"):
            os.makedirs(self.file(name))
        self.add_lines("epochs.csv", ["step,epoch,name,value"])
        write_json(self.file("environment.json"), environment())

    def file(self, *names):
        return os.path.join(self.path, *names)

    def add_lines(self, name, lines):
        """Append to one of the run's row files."""
        with open(self.file(name), "a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def save_checkpoint(self, task, learner, classes):
        """Write the learner after ``task``: tensors and plain values, loadable with ``weights_only=True``."""
        content = {
            "arguments": vars(self.args),
            "step": task.index,
            "classes": list(classes[: task.stop]),
            "learner": learner.state(),
        }
        with written_aside(self.file("checkpoints", f"step_{task.index}.pt")) as aside:
            torch.save(content, aside)

    def _refuse_other_run(self):
        path = self.file("arguments.json")
        if not os.path.exists(path):
            if os.path.isdir(self.path) and os.listdir(self.path):
                raise InputError(f"{self.path}: not empty and not the folder of a run; choose another --run_dir")
            return
        other, mine = _read_arguments(path), json.loads(json.dumps(defining(self.args)))
        if other is not None:
            other = {key: value for key, value in other.items() if key not in NOT_DEFINING}
        if other != mine and not self.args.overwrite:
            raise InputError(
                f"{self.path}: holds another run ({_difference(other, mine)}); choose another --run_dir, or --overwrite"
            )


def _read_arguments(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except ValueError:
        return None


def _difference(other, mine):
    if not isinstance(other, dict):
        return "its arguments.json is damaged"
    keys = [key for key in sorted(other.keys() | mine.keys()) if other.get(key) != mine.get(key)]
    return ", ".join(f"--{key} {other.get(key)} there, {mine.get(key)} now" for key in keys[:3])


def _remove(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.exists(path):
        os.unlink(path)


def environment():
    """Versions and hardware that a number may depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
    }
