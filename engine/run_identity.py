"""What makes a run this one and no other: its options, its data, and the code that computes."""

from __future__ import annotations

import argparse
import glob
import hashlib
import os
import platform
import sys

import numpy as np
import torch

from engine.learner import Learner
from engine.options import build_parser, resolve
from engine.run_files import NOT_DEFINING
from utils.command_line import PROJECT
from utils.datasets import find_dataset

# Options that have a place of their own in the name of a run.
IN_NAME = ("dataset", "method", "modality", "classifier", "variant", "seed")
LONGEST_NAME = 150
COMPUTING = ("engine", "features", "model", "splits", "utils")  # rooms on which the numbers of any run may depend


def defining(args: argparse.Namespace | dict) -> dict:
    """The options that define the run, as plain values."""
    options = args if isinstance(args, dict) else vars(args)
    # The default had another word before it could be TF32; asked for, that word is part of a run's name.
    precision = {"precision": "fp32"} if options.get("precision") == "auto" else {}
    return {name: value for name, value in (options | precision).items() if name not in NOT_DEFINING}


def difference(other: dict, this_run: dict) -> str:
    """The first few options in which another run differs from this one; empty if they are the same."""
    names = [name for name in sorted(other.keys() | this_run.keys()) if other.get(name) != this_run.get(name)]
    return ", ".join(f"--{name} {other.get(name)} there, {this_run.get(name)} now" for name in names[:3])


def run_path(args: argparse.Namespace, method: type[Learner]) -> str:
    """``<save_root>/<dataset>/<method>-<classifier>_<modality>_<variant>_seed<seed>``, then every option that differs.

    Two runs with different options never share a path. Where the data lies is no option of the run: its content is
    compared instead.
    """
    name = f"{args.method}-{args.classifier}_{args.modality}_{args.variant}_seed{args.seed}"
    options = _overrides(args, method)
    if args.splits:  # its content is compared, not its place
        options["splits"] = os.path.splitext(os.path.basename(args.splits))[0]
    for option, value in options.items():
        name += f"_{option}-" + ("-".join(map(str, value)) if isinstance(value, list) else str(value))
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 13]}_{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return os.path.join(args.save_root, args.dataset, name)


def _overrides(args, method):
    """The options whose values differ from the preset, by name."""
    usual = build_parser(method).parse_args(["--dataset", args.dataset])
    usual.method, usual.modality = args.method, args.modality
    usual = vars(resolve(usual, args.num_classes)) | {"num_classes": find_dataset(args.dataset).num_classes}
    if args.memory_per_class:
        usual["memory_size"] = None
    skip = NOT_DEFINING | set(IN_NAME)
    return {key: value for key, value in sorted(vars(args).items()) if key not in skip and value != usual[key]}


def code_digests() -> dict[str, str]:
    """A digest of each file of the project that computes, by its path; of the methods those that are loaded."""
    loaded = {f"{name.replace('.', os.sep)}.py" for name in sys.modules if name.startswith("methods.")}
    paths = [path for room in COMPUTING for path in glob.glob(f"{room}/**/*.py", root_dir=PROJECT, recursive=True)]
    return {path: _digest(path) for path in sorted(["dataloader.py", *paths, *loaded])}


def changed_code(digests: dict[str, object]) -> list[str]:
    """The files whose content is no more what ``code_digests`` found."""
    return [path for path, digest in digests.items() if _digest(path) != digest]


def _digest(path):
    try:
        with open(os.path.join(PROJECT, path), "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()[:16]
    except OSError:
        return ""


def environment() -> dict:
    """Versions and hardware that a number may depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "threads": torch.get_num_threads(),
    }
