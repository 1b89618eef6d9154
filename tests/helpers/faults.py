#!/usr/bin/env python3
"""Kill training at random moments, let it go on, and compare with the undisturbed run, bit for bit.

    python -m tests.helpers.faults --kills 50                  # every method, some minutes
    python -m tests.helpers.faults --kills 50 --methods avcil

Each run is a forked child on tiny data, so that a start costs little. Exit code 1 if any result differs.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

import train_incremental
from engine.registry import find_method, method_names
from tests.helpers import tiny


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--kills", type=int, default=50, help="runs of each method, each killed once")
    parser.add_argument("--methods", nargs="+", default=method_names())
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    chance, failed = random.Random(args.seed), 0
    for method in args.methods:
        for classifier in find_method(method).classifiers:
            with tempfile.TemporaryDirectory() as folder:
                equal = killed_runs(Path(folder), method, chance, args.kills, "--classifier", classifier)
            print(
                f"{method:16}{classifier:8}{equal} of {args.kills} killed runs ended like the undisturbed one",
                flush=True,
            )
            failed += equal != args.kills
    sys.exit(1 if failed else 0)


def killed_runs(root, method, chance, kills, *flags):
    """How many of ``kills`` runs, each killed at a random moment and started again, end like the undisturbed one."""
    tiny.make(root)
    flags = [*flags, "--max_epochs", "4", "--checkpoint_every", "1"]
    started = time.perf_counter()
    assert run(root, root / "undisturbed", method, flags) == 0
    length = time.perf_counter() - started
    expected = outcome(root / "undisturbed")
    equal = 0
    for number in range(kills):
        folder = root / f"killed {number}"
        run(root, folder, method, flags, kill_after=chance.uniform(0, length))
        assert run(root, folder, method, flags) == 0
        equal += same(outcome(folder), expected)
    return equal


def run(root, folder, method, flags, kill_after=None):
    """Train in a child process; return its exit code, negative if it was killed."""
    child = os.fork()
    if child == 0:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        code = 0
        try:
            train_incremental.main(tiny.flags(root, method, "--run_dir", str(folder), *flags))
        except SystemExit as error:
            code = error.code or 0
        except BaseException:
            code = 99
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def outcome(folder):
    """All that a run leaves and that a repetition must repeat: rows, figures of the results, checkpoints."""
    results = json.loads((folder / "results.json").read_text())
    for name in ("arguments", "seconds_per_step"):
        del results[name]
    found = {"results": results, "names": sorted(path.name for path in folder.rglob("*") if path.name[0] != ".")}
    found |= {name: (folder / name).read_text() for name in ("steps.jsonl", "epochs.csv")}
    for path in sorted(folder.glob("checkpoints/*.pt")):
        saved = torch.load(path, weights_only=True)
        saved.pop("arguments", None)  # ongoing_<t>.pt has neither
        for row in saved.get("history", {}).get("rows", ()):
            del row["seconds"]
        found[path.name] = saved
    return found


def same(one, other):
    """Whether nested dicts and lists of tensors and values are equal, bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


if __name__ == "__main__":
    main()
