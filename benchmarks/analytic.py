#!/usr/bin/env python3
"""Seconds, memory and accuracy of a run of the closed form, beside those of another version of the project.

    git worktree add ../before 4b03525
    python benchmarks/analytic.py --before ../before

makes 100 classes of 50 clips (8 frames x 4 positions x 768) and learns them in 10 steps with each version, in turn.

    python benchmarks/analytic.py --classes 28 --steps 4 --clips 118 --positions 196

is a set of the size of AVE, in 16 bits (11 GB on disk while it runs).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.feature_sets import Kind, clips, make, names, write, write_splits
from features.store_writer import StoreWriter
from utils.command_line import PROJECT, heading


def main():
    parser = argparse.ArgumentParser(description=heading(__doc__), allow_abbrev=False)
    parser.add_argument("--before", help="folder of another version; default: this one alone")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--clips", type=int, default=50, help="training clips of a class")
    parser.add_argument("--positions", type=int, default=4, help="tokens of each of the 8 frames; a square where many")
    parser.add_argument("--width", type=int, default=768, help="dimensions of a feature")
    parser.add_argument("--expansion", type=int, help="random features; default: each version's own")
    parser.add_argument("--repetitions", type=int, default=1)
    args = parser.parse_args()
    sizes = {"classes": args.classes, "train": args.clips, "positions": args.positions, "width": args.width}
    kind = Kind(**sizes, val=10, test=10, audio=8.0, visual=8.0)
    versions = {"now": PROJECT} | ({"before": args.before} if args.before else {})
    with tempfile.TemporaryDirectory() as folder:
        made = os.path.join(folder, "made")
        if args.before:  # which may not know stores
            write(made, *make(kind, seed=0))
        else:
            write_store(made, kind)
        print(f"{'version':10}{'wall s':>8}{'CPU s':>8}{'peak MB':>10}{'kept MB':>10}{'last':>8}{'mean':>8}")
        for _ in range(args.repetitions):
            for name, project in versions.items():
                print(f"{name:10}{line(project, folder, args)}", flush=True)


def write_store(folder, kind):
    """A store in 16 bits, written clip by clip: all clips together may be more than memory holds."""
    shapes = {"audio": (kind.width,), "visual": (kind.frames * kind.positions, kind.width)}
    writers = [StoreWriter(folder, modality, shape, "float16", {}) for modality, shape in shapes.items()]
    rows = [row for _, _, of_class in names(kind) for row in of_class]
    for writer in writers:
        writer.plan(video for video, *_ in rows)
        writer.begin()
    for (video, *_), *features in clips(kind, seed=0):
        for writer, feature in zip(writers, features, strict=True):
            writer.write({video: feature.reshape(writer.shape)})
    for writer in writers:
        writer.finish()
    write_splits(folder, rows)


def line(project, folder, args):
    """The figures of one run of the version in the folder ``project``."""
    command = [sys.executable, "train_incremental.py", "--method", "analytic", "--dataset", "made", "--overwrite"]
    command += ["--data_root", folder, "--run_dir", os.path.join(folder, "run")]
    command += ["--classes_per_step", str(args.classes // args.steps)]
    command += ["--expansion", str(args.expansion)] if args.expansion else []
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{project}: the run ended with code {process.returncode}")
    with open(os.path.join(folder, "run", "results.json"), encoding="utf-8") as file:
        results = json.load(file)
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    accuracy = [100 * results[name] for name in ("last_accuracy", "mean_accuracy")]
    sizes = [peak / 1e6, results["kept_bytes_per_step"][-1] / 1e6]
    seconds = used.ru_utime + used.ru_stime
    return f"{wall:8.1f}{seconds:8.1f}{sizes[0]:10.0f}{sizes[1]:10.1f}{accuracy[0]:8.1f}{accuracy[1]:8.1f}"


if __name__ == "__main__":
    main()
