#!/usr/bin/env python3
"""What an update of a method asks of a GPU: launches, products, copies, synchronisations, CPU time, memory.

    python benchmarks/gpu_counts.py --method avcil --precision bf16
    python benchmarks/gpu_counts.py --size tiny --method icarl-NME afc-LSC --json rows.json -- --variant corrected

runs the first steps of train_incremental.py on made-up features (at the size of AVE a store that is a hole in a file:
20 GB that take no disk). Of each step it counts the fourth epoch and times the later ones. A row ``update`` is what an
epoch does per update, ``epoch's rest`` all between two epochs: herding, validation, checkpoint. Anything after ``--``
goes to the command, for example ``-- --device_cache 0``. It needs a GPU, or a stand-in (benchmarks/cuda_events.py).
"""

import argparse
import contextlib
import importlib
import io
import json
import os
import pathlib
import sys
import tempfile
import time
import warnings
from unittest.mock import patch

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as the command does, before CUDA starts

import torch

import train_incremental
from benchmarks.cuda_events import COLUMNS, counting, is_hollow
from benchmarks.made_up import SIZES, make_data
from engine.epoch_state import Adam
from utils.command_line import heading

COUNTED = 3  # the epoch that is counted; those before warm up and capture, those after are timed


class Done(Exception):
    """Enough steps have run."""


def main():
    args = options()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device here: nothing to count")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make_data(pathlib.Path(folder), SIZES[args.size])
        for method in args.method:
            meter = measure(args, method, folder)
            print_table(args, method, meter)
            rows += [{"method": method} | row for row in meter.rows]
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(rows, indent=1))


def measure(args, method, folder):
    """Run the command for ``method``; return the Meter that watched it."""
    meter = Meter(args, train_incremental.run)
    train_incremental.run = meter.run
    try:
        with contextlib.suppress(Done), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            train_incremental.main(command(args, method, folder))
    finally:
        train_incremental.run = meter.run_tasks
    return meter


def options():
    parser = argparse.ArgumentParser(description=heading(__doc__), allow_abbrev=False)
    parser.add_argument("--method", nargs="+", default=["avcil"], metavar="METHOD[-CLASSIFIER]")
    parser.add_argument("--modality", default="audio-visual", choices=("audio", "visual", "audio-visual"))
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--size", default="ave", choices=SIZES)
    parser.add_argument("--steps", type=int, default=2, help="incremental steps (default 2: without, with memory)")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--places", type=int, default=0, metavar="N", help="list N syncs, copies and products")
    parser.add_argument("--kernels", type=int, default=0, metavar="N", help="list the N most frequent kernels")
    parser.add_argument("--json", metavar="FILE", help="write the rows there as well")
    parser.add_argument("more", nargs="*", help="options of the command itself, after --")
    return parser.parse_args()


def command(args, method, folder):
    """The command line of the run that is watched."""
    method, _, classifier = method.partition("-")
    flags = ["--method", method, "--modality", args.modality, "--precision", args.precision, "--device", "cuda"]
    flags += ["--dataset", "counted", "--data_root", folder, "--save_root", folder, *SIZES[args.size].flags]
    flags += ["--run_dir", os.path.join(folder, "run"), "--overwrite"]
    flags += ["--classifier", classifier] if classifier else []
    flags += ["--expansion", "64"] if method == "analytic" else ["--max_epochs", str(args.epochs)]
    return flags + args.more


class Meter:
    """Runs the first steps, counts one epoch of each and what comes between it and the next; times later epochs."""

    def __init__(self, args, run_tasks):
        self.args, self.run_tasks = args, run_tasks
        self.rows, self.details, self.updates = [], [], 0

    def run(self, learner, tasks, *rest):
        step = Adam.step

        def counted_step(optimiser):
            step(optimiser)
            self.updates += 1

        for name in ("begin_task", "fit_task", "train_epoch", "end_task"):
            if hasattr(learner, name):
                setattr(learner, name, self._around(getattr(learner, name), getattr(self, name)))
        self.has_epochs = hasattr(learner, "train_epoch")
        if is_hollow():
            hollow = importlib.import_module("hollow")

            hollow.patch_sizes()  # values are lost there: sizes that depend on them, and cuSOLVER, need a filler
        with patch.object(Adam, "step", counted_step):
            self.run_tasks(learner, tasks[: self.args.steps], *rest)
        raise Done

    @staticmethod
    def _around(method, meter):
        return lambda *args: meter(method, *args)

    def begin_task(self, begin, task):
        self.step, self.epoch, self.per = task.index, 0, 1
        self.times, self.between = [], contextlib.ExitStack()
        torch.cuda.reset_peak_memory_stats()
        begin(task)

    def fit_task(self, fit, task, log):
        self.fitting = time.process_time()
        if self.has_epochs:
            fit(task, log)
        else:
            with counting(self.args.places) as counts:
                fit(task, log)
            self.row("closed form", 1, counts, self._since(self.fitting))

    def train_epoch(self, train, *args):
        if self.epoch == 0:
            self.row("till 1st epoch", 1, None, self._since(self.fitting))
        self._end_between()
        before, started, clock = self.updates, time.process_time(), time.perf_counter()
        with counting(self.args.places) if self.epoch == COUNTED else contextlib.nullcontext() as counts:
            result = train(*args)
        # A replayed graph has no optimiser that could be asked.
        updates = self.updates - before or int(counts.numbers["graphs"] if counts else self.per) or 1
        spent, passed = self._since(started), 1e3 * (time.perf_counter() - clock)
        if self.epoch == COUNTED:
            self.per = updates
            self.row("update", updates, counts, None)
            self.rest = self.between.enter_context(counting(self.args.places))
        elif self.epoch > COUNTED:
            self.times.append((spent / updates, passed / updates))  # an epoch ends by waiting for the device
        elif self.epoch == 0:
            self.row("1st epoch", 1, None, spent)
        self.epoch += 1
        return result

    def end_task(self, end, task):
        self._end_between()
        own = [row for row in self.rows if row["step"] == self.step]
        for row in own:
            if row["what"] == "update" and self.times:
                row["cpu_ms"], row["ms"] = map(min, zip(*self.times, strict=True))
        own[-1] |= {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
        end(task)

    def _end_between(self):
        if self.has_epochs and self.epoch == COUNTED + 1 and self.rows[-1]["what"] == "update":
            self.between.close()
            self.row("epoch's rest", 1, self.rest, None)

    @staticmethod
    def _since(then):
        return 1e3 * (time.process_time() - then)

    def row(self, what, per, counts, cpu_ms):
        row = {"step": self.step, "what": what, "per": per, "cpu_ms": cpu_ms}
        if counts is not None:
            row |= counts.totals(per)
            self.details.append((self.step, what, per, counts))
        self.rows.append(row)


def print_table(args, method, meter):
    device = f"{torch.cuda.get_device_name()}, {torch.cuda.mem_get_info()[1] / 1e9:g} GB"
    hollow = ", which computes nothing" if is_hollow() else ""
    print(f"{method} {args.modality} {args.precision} {args.size}: torch {torch.__version__}, {device}{hollow}")
    heads = "".join(f"{column:>9}" for column in COLUMNS)
    print(f"{'step':>4} {'what':15}{'times':>6}{heads}{'CPU ms':>9}{'ms':>9}  MB copied")
    for row in meter.rows:
        numbers = "".join(f"{row[column]:9.1f}" if column in row else " " * 9 for column in COLUMNS)
        cpu, wall = (f"{value:9.2f}" if value is not None else " " * 9 for value in (row["cpu_ms"], row.get("ms")))
        copied = ", ".join(f"{way} {size / 1e6:.3f}" for way, size in sorted(row.get("bytes", {}).items()))
        print(f"{row['step']:4d} {row['what']:15}{row['per']:6d}{numbers}{cpu}{wall}  {copied}")
        if "allocated" in row:
            gigabytes = row["allocated"] / 1e9, row["reserved"] / 1e9
            print("{:4d} memory, at most: {:.3f} GB allocated, {:.3f} GB reserved".format(row["step"], *gigabytes))
    for step, what, per, counts in meter.details:
        for line in counts.lines:
            print(f"step {step}, {what} (of {per}): {line}")
        for kernel, number in counts.kernels.most_common(args.kernels):
            print(f"step {step}, {what}: {number / per:8.1f}  {kernel[:100]}")


if __name__ == "__main__":
    main()
