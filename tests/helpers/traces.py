#!/usr/bin/env python3
"""Run a row as the traced runs of the released implementation were, and name the first value that differs.

    python -m tests.helpers.traces traces.json --row avcil
    python -m tests.helpers.traces traces.json --row icarl-NME --modality audio --seed 1

``traces.json`` holds runs of the released code on generated features (by ``gen_features.py`` beside it): losses,
counts, batches, exemplars, and the next draw of each generator after every step. What depends on no float must be
equal, the rest within the tolerances that come with the file.
"""

import argparse
import contextlib
import io
import itertools
import json
import math
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sklearn
import torch

import train_incremental
from tests.helpers.tracer import Tracer
from utils.datasets import find_dataset


@dataclass
class Tolerance:
    """What may differ at a step: relative, of losses in the first epoch and later; clips; classes whose exemplars do.

    ``classes`` is None where exemplars are not compared.
    """

    first_loss: float
    loss: float
    clips: int
    classes: int | None = 0


def tolerance(row, step, same_sklearn=True):
    """The table of the traces' README: what ``row`` may differ in at ``step``, from round-off alone."""
    if row in ("fine_tuning", "upper_bound"):
        return Tolerance(2e-5, 1e-4, 2)
    if row.startswith("icarl"):
        return Tolerance(2e-5, 2e-4, 3, 1 if step > 1 else 0)
    if row in ("lwf", "ssil", "avcil"):
        return Tolerance(2e-5, 3e-3, 3) if step <= 1 else Tolerance(5e-4, 3e-3, 8)
    if same_sklearn:
        return Tolerance(2e-5, 2e-4, 2) if step <= 1 else Tolerance(5e-3, 1e-2, 15, None)
    return Tolerance(2e-5, 1e-4, 2) if step == 0 else Tolerance(3e-2, 6e-2, 30, None)


def row_of(run):
    """The name of a traced run's row: method, or method-classifier."""
    return run["method"] if run["classifier"] == "linear" else f"{run['method']}-{run['classifier']}"


def make_data(traces, folder, name="golden"):
    """Write the features of the traced runs under ``folder``/data; AssertionError if they are not the traced ones."""
    command = traces["data"][name]["command"].replace("OUT", str(folder)).split()
    maker = Path(traces["path"]).with_name(command[0])
    subprocess.run([sys.executable, maker, *command[1:]], check=True, stdout=subprocess.DEVNULL)
    dataset = command[command.index("--dataset") + 1] if "--dataset" in command else "AVE"
    info = json.loads(next(Path(folder, "data", find_dataset(dataset).folder).glob("synthetic_info.json")).read_text())
    for modality in ("audio", "visual"):
        assert info[f"sha256_{modality}"] == traces["data"][name][f"sha256_{modality}"], f"other {modality} features"


def read_traces(path):
    """The content of the file, with its path."""
    return json.loads(Path(path).read_text(encoding="utf-8")) | {"path": str(path)}


def retrace(traces, run, data_root, run_dir):
    """Train what ``run`` traced, on the data under ``data_root``. Returns the Tracer."""
    settings = traces["settings"] | run
    flags = ["--method", run["method"], "--classifier", run["classifier"], "--modality", run["modality"]]
    flags += ["--dataset", run.get("dataset", "AVE"), "--data_root", data_root, "--run_dir", run_dir]
    flags += ["--seed", run["seed"], "--max_epochs", run["epochs"], "--memory_size", settings["memory_size"]]
    flags += ["--classes_per_step", settings["classes_per_step"], "--num_workers", 0, "--overwrite"]
    if run["method"] == "avcil":
        flags += ["--lam_I", run.get("lam_I", traces["settings"]["avcil"]["lam_I"])]
    torch.set_num_threads(settings["threads"])
    tracer = Tracer()
    with tracer.recording(), contextlib.redirect_stdout(io.StringIO()):
        train_incremental.main([str(flag) for flag in flags])
    tracer.steps.pop()
    return tracer


def differences(run, tracer, same_sklearn=True):
    """Yield a line for each value in which ``tracer`` differs from the traced ``run`` by more than round-off may."""
    row, memory_differs = row_of(run), False
    for number, (theirs, ours) in enumerate(zip(run["steps"], tracer.steps, strict=True)):
        allowed = tolerance(row, number, same_sklearn)
        for name, expected in theirs.items():
            if row.startswith(("icarl", "afc")) and name in ("first_batch", "imprint_batch") and memory_differs:
                continue  # it may hold exemplars
            if name == "next_numpy_draw" and not same_sklearn:
                continue
            if name == "class_mean_norms" and ours["exemplars"] != theirs["exemplars"]:
                continue  # means of other clips
            if name == "best_epoch" and ours["val"] != theirs["val"]:
                continue  # it follows from counts that may differ
            problem = compare(name, ours.get(name), expected, allowed)
            if problem:
                yield f"step {number}, {name}: {problem}"
        memory_differs |= ours["exemplars"] != theirs.get("exemplars", ours["exemplars"])
    if tracer.int_draws != run["int_draws"]:
        yield f"int_draws: {tracer.int_draws}, expected {run['int_draws']}"


def compare(name, ours, theirs, allowed):
    """What is wrong with ``ours``, or None."""
    if np.shape(ours) != np.shape(theirs) and name != "exemplars":
        return f"{ours}, expected {theirs}"
    if name == "train_loss":
        limits = [allowed.first_loss] + [allowed.loss] * (len(theirs) - 1)
        for epoch, (value, expected, limit) in enumerate(zip(ours, theirs, limits, strict=True)):
            if not math.isclose(value, expected, rel_tol=limit):
                return f"epoch {epoch}: {value!r}, expected {expected!r} (relative {limit})"
        return None
    if name == "exemplars":
        pairs = enumerate(itertools.zip_longest(ours, theirs))
        wrong = [f"class {label}: {a}, expected {b}" for label, (a, b) in pairs if a != b]
        return None if allowed.classes is None or len(wrong) <= allowed.classes else "; ".join(wrong)
    if name in ("val", "test", "test_by_task"):
        equal = np.abs(np.subtract(ours, theirs)).max() <= allowed.clips
    elif name == "class_mean_norms":
        equal = np.allclose(ours, theirs, rtol=allowed.loss, atol=0)
    else:
        equal = ours == theirs
    return None if equal else f"{ours}, expected {theirs}"


def largest_differences(run, tracer):
    """The largest of a run: relative, of losses; of counts, in clips."""
    losses, clips = [], []
    for theirs, ours in zip(run["steps"], tracer.steps, strict=True):
        losses += np.abs(np.divide(ours["train_loss"], theirs["train_loss"]) - 1).tolist()
        clips += np.abs(np.subtract(ours["val"] + [ours["test"]], theirs["val"] + [theirs["test"]])).tolist()
    return max(losses), max(clips)


def same_sklearn(traces):
    """Whether KMeans draws as it did when the traces were made: it does within a minor version of scikit-learn."""
    return sklearn.__version__.split(".")[:2] == traces["versions"]["sklearn"].split(".")[:2]


def name_of(run):
    """A traced run in a word or two."""
    return " ".join([row_of(run), run["modality"], f"seed {run['seed']}", *([run["data"]] if "data" in run else [])])


def data_for(traces, run, folder):
    """The data root with the features of ``run`` under ``folder``, made if they are not there yet."""
    root = folder / run.get("data", "golden")
    if not (root / "data").exists():
        make_data(traces, root, run.get("data", "golden"))
    return root / "data"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("file", type=Path, help="traces.json, with gen_features.py beside it")
    parser.add_argument("--row", help="a method, or method-classifier, as icarl-NME; default: all rows")
    parser.add_argument("--modality", help="default: all that there are")
    parser.add_argument("--seed", type=int, help="default: all that there are")
    parser.add_argument("--data", type=Path, help="keep the generated features in this folder; default: none kept")
    args = parser.parse_args(arguments)
    traces = read_traces(args.file)
    wanted = {"row": args.row, "modality": args.modality, "seed": args.seed}
    runs = [
        run
        for run in traces["runs"]
        if all(value in (None, {"row": row_of(run), **run}[name]) for name, value in wanted.items())
    ]
    if not runs:
        parser.error(f"{args.file} has no such run; rows: {', '.join(sorted({row_of(run) for run in traces['runs']}))}")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for run in runs:
            root = data_for(traces, run, args.data or Path(folder))
            tracer = retrace(traces, run, root, Path(folder, "run"))
            problem = next(differences(run, tracer, same_sklearn(traces)), None)
            failed += problem is not None
            loss, clips = largest_differences(run, tracer)
            agree = f"all values agree (losses within {loss:.0e}, counts within {clips})"
            print(f"{name_of(run)}: {problem or agree}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
