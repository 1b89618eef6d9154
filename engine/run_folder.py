"""The folder of a run: named by what defines the run, holding everything that came out of it."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator

import numpy as np
import torch

from engine.checkpoints import Checkpoints
from engine.learner import Learner
from engine.options import build_parser, resolve
from engine.run_files import ARGUMENTS, EPOCHS_HEADER, FOLDERS, LOCK, NOT_DEFINING, RESULTS, RunResults, read_results
from utils.datasets import find_dataset
from utils.errors import InputError
from utils.files import file_lock, write_json, write_text


def defining(args: argparse.Namespace) -> dict:
    """All that defines the run, as plain values."""
    return {key: value for key, value in vars(args).items() if key not in NOT_DEFINING}


class RunFolder:
    """Where a run writes. ``results.json`` appears when the run is complete, and never before.

    Of several processes only the one that ``is_main`` writes; all of them read.
    """

    def __init__(self, args: argparse.Namespace, method: type[Learner], is_main: bool = True):
        self.args, self.is_main = args, is_main
        self.path = args.run_dir or run_path(args, method)
        self.checkpoints = Checkpoints(self.file("checkpoints"), args.checkpoint_every, is_main)

    def finished(self) -> dict | None:
        """The results of this very run if it is complete, else None. InputError if the folder is of something else."""
        if os.path.isdir(self.path):
            self._refuse_others()
        path = self.file("results.json")
        return read_results(path) if os.path.exists(path) and not self.args.overwrite else None

    @contextlib.contextmanager
    def opened(self, data: dict) -> Iterator[RunFolder]:
        """Make the folder, or go on in it, while other processes keep out.

        ``data`` describes the data (IncrementalData.description): InputError if they are not what the run began with.
        """
        if not self.is_main:
            yield self
            return
        os.makedirs(self.path, exist_ok=True)
        with file_lock(self.file(LOCK), "this run"):
            self._refuse_others()
            self._clear(everything=self.args.overwrite)
            self._describe(data)
            yield self

    def _describe(self, data):
        """Write down what is run, where, and on which data."""
        path = self.file("data.json")
        if os.path.exists(path) and not _same_data(_read(path), data):
            raise InputError(
                f"{self.path}: the data is not what the run began with; put it back, or start anew with --overwrite"
            )
        # First of all, so that the folder is known as that of a run.
        write_json(self.file(ARGUMENTS), vars(self.args))
        write_json(path, data)
        write_json(self.file("environment.json"), environment())
        for name in FOLDERS:
            os.makedirs(self.file(name), exist_ok=True)

    def file(self, *names: str) -> str:
        """The path of a file of the run."""
        return os.path.join(self.path, *names)

    def finish(self, results: dict) -> RunResults:
        """Write ``results.json``: where it stands, the run is complete. Returns its content."""
        content = results | {"arguments": vars(self.args), "versions": environment()}
        if self.is_main:
            write_json(self.file(RESULTS), content)
        return RunResults.from_json(content, self.file(RESULTS))

    def write_lines(self, name: str, lines: list[str]) -> None:
        """Let one of the run's row files hold ``lines`` and nothing else."""
        if self.is_main:
            header = [EPOCHS_HEADER] if name == "epochs.csv" else []
            write_text(self.file(name), "".join(f"{line}\n" for line in [*header, *lines]))

    def add_lines(self, name: str, lines: list[str]) -> None:
        """Append to one of the run's row files."""
        if self.is_main:
            with open(self.file(name), "a", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines))

    def _clear(self, everything):
        """Remove what a killed writer left aside, or all there is of a run; its arguments last, which make it one."""
        for folder in (self.path, *map(self.file, FOLDERS)):
            for name in os.listdir(folder) if os.path.isdir(folder) else ():
                if name.startswith(".") and name != LOCK:
                    _remove(os.path.join(folder, name))
        if everything:
            for name in (
                "results.json",
                "steps.jsonl",
                "epochs.csv",
                "log.txt",
                *FOLDERS,
                "data.json",
                ARGUMENTS,
            ):
                _remove(self.file(name))

    def _refuse_others(self):
        """InputError if the folder holds something else than this run, begun or complete."""
        path = self.file(ARGUMENTS)
        if not os.path.exists(path):
            if any(not name.startswith(".") for name in os.listdir(self.path)):
                raise InputError(f"{self.path}: not empty and not the folder of a run; choose another --run_dir")
            return
        other, this_run = _read(path), json.loads(json.dumps(defining(self.args)))
        if isinstance(other, dict):
            other = {key: value for key, value in other.items() if key not in NOT_DEFINING}
        if other != this_run and not self.args.overwrite:
            raise InputError(
                f"{self.path}: holds another run ({_difference(other, this_run)});"
                " choose another --run_dir, or --overwrite"
            )


def _same_data(known, data):
    return isinstance(known, dict) and known.get("sha256") == data["sha256"]


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except ValueError:
        return None


def _difference(other, this_run):
    if not isinstance(other, dict):
        return "its arguments.json is damaged"
    keys = [key for key in sorted(other.keys() | this_run.keys()) if other.get(key) != this_run.get(key)]
    return ", ".join(f"--{key} {other.get(key)} there, {this_run.get(key)} now" for key in keys[:3])


def _remove(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.exists(path):
        os.unlink(path)


def environment() -> dict:
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


# Options that have a place of their own in the name of a run.
IN_NAME = ("dataset", "method", "modality", "classifier", "variant", "seed")
LONGEST_NAME = 150


def run_path(args: argparse.Namespace, method: type[Learner]) -> str:
    """``<save_root>/<dataset>/<method>-<classifier>_<modality>_<variant>_seed<seed>``, then every option that differs.

    Two runs that compute different things never share a path.
    """
    name = f"{args.method}-{args.classifier}_{args.modality}_{args.variant}_seed{args.seed}"
    for option, value in overrides(args, method).items():
        name += f"_{option}-{_short(option, value)}"
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 13]}_{_hash(name)}"
    return os.path.join(args.save_root, args.dataset, name)


def overrides(args: argparse.Namespace, method: type[Learner]) -> dict:
    """The options whose values differ from the preset, by name."""
    usual = build_parser(method).parse_args(["--dataset", args.dataset])
    usual.method, usual.modality = args.method, args.modality
    usual = vars(resolve(usual, args.num_classes)) | {"num_classes": find_dataset(args.dataset).num_classes}
    skip = NOT_DEFINING | set(IN_NAME)
    return {key: value for key, value in sorted(vars(args).items()) if key not in skip and value != usual[key]}


def _short(option, value):
    if option == "data_root":
        return _hash(os.path.abspath(value))
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


def _hash(text):
    return hashlib.sha256(text.encode()).hexdigest()[:12]
