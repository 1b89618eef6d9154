"""The name of a run's folder: all that defines the run, and nothing else."""

import hashlib
import os

from engine.options import build_parser, resolve
from utils.datasets import find_dataset
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


def _short(option, value):
    if option == "data_root":
        return _hash(os.path.abspath(value))
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


def _hash(text):
    return hashlib.sha256(text.encode()).hexdigest()[:12]
