#!/usr/bin/env python3
"""Kill training at random moments, let it go on, and compare with the undisturbed run, bit for bit.

    python -m tests.helpers.faults --kills 50                  # every method, a sweep, two processes: half an hour
    python -m tests.helpers.faults --kills 50 --rows avcil sweep processes

Each run is a forked child on tiny data, so that a start costs little, and is killed several times before it may end.
Of a sweep (run_all.py) the process that starts the runs is killed; of two processes, which meet as under torchrun, one
of them or the one that started them. Exit code 1 if any result differs.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import torch

import run_all
import train_incremental
from engine.registry import find_method, method_names
from tests.helpers import tiny

KILLS_A_RUN = 5
FLAGS = ["--max_epochs", "4", "--checkpoint_every", "1"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--kills", type=int, default=50, help="of each row; more than one of each run")
    parser.add_argument("--rows", nargs="+", default=[*method_names(), "sweep", "processes"], help="methods, and these")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    chance, failed = random.Random(args.seed), 0
    for row in args.rows:
        for classifier, starter in starters(row):
            with tempfile.TemporaryDirectory() as folder:
                equal = killed_runs(Path(folder), starter, chance, args.kills)
            print(f"{row:16}{classifier:8}after {equal} of {args.kills} kills like the undisturbed run", flush=True)
            failed += equal != args.kills
    sys.exit(1 if failed else 0)


def starters(row):
    """Of each line of ``row``, its classifier and a function (root, folder of the run) that runs it in this process."""
    if row == "sweep":
        return [("", sweep)]
    if row == "processes":
        return [("", two_processes)]
    return [(each, training(row, "--classifier", each)) for each in find_method(row).classifiers]


def training(method, *more):
    find_method(method)  # its packages are loaded here, not in every child

    def train(root, folder):
        train_incremental.main(tiny.flags(root, method, "--run_dir", str(folder), *FLAGS, *more))

    return train


def sweep(root, folder):
    """Two seeds side by side."""
    flags = tiny.flags(root, "fine_tuning", "--save_root", str(folder), *FLAGS)[2:]  # less --method
    run_all.main(["--methods", "fine_tuning", "--modalities", "audio", "--seeds", "0", "1", "--jobs", "2", *flags])


def two_processes(root, folder):
    """Two ranks as torchrun starts them; where one ends badly, the other is ended. Any of the three may be killed."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    ranks = []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            os.environ |= meeting | {"RANK": str(rank)}
            end(lambda: training("avcil")(root, folder))
        ranks.append(child)
    (folder.parent / "ranks").write_text(" ".join(map(str, ranks)))
    codes = []
    while ranks:
        ended, status = os.wait()
        ranks.remove(ended)
        codes.append(os.waitstatus_to_exitcode(status))
        for rank in ranks if codes[-1] else ():
            os.kill(rank, signal.SIGTERM)
    sys.exit(max(map(abs, codes)))


def killed_runs(root, starter, chance, kills):
    """After how many of ``kills`` the run, started again, ended like the undisturbed one."""
    tiny.make(root)
    began = time.perf_counter()
    assert run(root, root / "undisturbed", starter) == 0
    length = time.perf_counter() - began
    expected = outcomes(root / "undisturbed")
    equal = done = 0
    while done < kills:
        folder, hit = root / f"killed {done}", 0
        for _ in range(min(KILLS_A_RUN, kills - done)):
            hit += run(root, folder, starter, kill_after=chance.uniform(0, length), chance=chance) != 0
        assert run(root, folder, starter) == 0
        done += hit
        equal += hit * same(outcomes(folder), expected)
    return equal


def run(root, folder, starter, kill_after=None, chance=None):
    """Run ``starter`` in a child process; return its exit code, negative if it was killed."""
    (root / "ranks").unlink(missing_ok=True)
    gone, held = os.pipe()  # closed once the last process of the run has ended
    child = os.fork()
    if child == 0:
        os.close(gone)
        end(lambda: starter(root, folder))
    os.close(held)
    if kill_after is not None:
        time.sleep(kill_after)
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(victims(root, child, starter)), signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.read(gone, 1)
    os.close(gone)
    return code


def victims(root, child, starter):
    """The processes of a run one of which is killed."""
    path = root / "ranks"
    ranks = path.read_text().split() if starter is two_processes and path.exists() else []
    return [child, *map(int, ranks)]


def end(work):
    """Do ``work`` without a word, and end this process with its exit code."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    code = 0
    try:
        work()
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        code = 99
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def outcomes(folder):
    """The outcome of each run in ``folder``, which is one itself or holds those of a sweep."""
    return {
        path.parent.name if path.parent != folder else "": outcome(path.parent) for path in folder.rglob("results.json")
    }


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
