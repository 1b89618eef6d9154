#!/usr/bin/env python3
"""Processor seconds, memory and accuracy of a run of the closed form, beside those of another version of the project.

    git worktree add ../before 4b03525
    python benchmarks/analytic.py --before ../before

makes 100 classes of 50 clips (8 frames x 4 positions x 768) and learns them in 10 steps with each version, in turn.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.feature_sets import Kind, make, write
from utils.command_line import PROJECT, heading


def main():
    parser = argparse.ArgumentParser(description=heading(__doc__), allow_abbrev=False)
    parser.add_argument("--before", help="folder of another version; default: this one alone")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--clips", type=int, default=50, help="training clips of a class")
    parser.add_argument("--width", type=int, default=768, help="dimensions of a feature")
    parser.add_argument("--expansion", type=int, help="random features; default: each version's own")
    parser.add_argument("--repetitions", type=int, default=1)
    args = parser.parse_args()
    kind = Kind(classes=args.classes, train=args.clips, val=10, test=10, width=args.width, audio=8.0, visual=8.0)
    versions = {"now": PROJECT} | ({"before": args.before} if args.before else {})
    with tempfile.TemporaryDirectory() as folder:
        write(os.path.join(folder, "made"), *make(kind, seed=0))
        print(f"{'version':10}{'CPU s':>8}{'peak MB':>10}{'kept MB':>10}{'last':>8}{'mean':>8}")
        for _ in range(args.repetitions):
            for name, project in versions.items():
                print(f"{name:10}{line(project, folder, args)}", flush=True)


def line(project, folder, args):
    """The figures of one run of the version in the folder ``project``."""
    command = [sys.executable, "train_incremental.py", "--method", "analytic", "--dataset", "made", "--overwrite"]
    command += ["--data_root", folder, "--run_dir", os.path.join(folder, "run")]
    command += ["--classes_per_step", str(args.classes // args.steps)]
    command += ["--expansion", str(args.expansion)] if args.expansion else []
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{project}: the run ended with code {process.returncode}")
    with open(os.path.join(folder, "run", "results.json"), encoding="utf-8") as file:
        results = json.load(file)
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    accuracy = [100 * results[name] for name in ("last_accuracy", "mean_accuracy")]
    sizes = [peak / 1e6, results["kept_bytes_per_step"][-1] / 1e6]
    seconds = used.ru_utime + used.ru_stime
    return f"{seconds:8.1f}{sizes[0]:10.0f}{sizes[1]:10.1f}{accuracy[0]:8.1f}{accuracy[1]:8.1f}"


if __name__ == "__main__":
    main()
