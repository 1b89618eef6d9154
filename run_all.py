#!/usr/bin/env python3
"""Every row of the table for a data set: all methods, classifiers, modalities and seeds, side by side.

    python run_all.py --dataset AVE --seeds 0 1 2 --gpus 0 1
    python run_all.py --dataset AVE --methods avcil ssil --modalities audio-visual --max_epochs 50

Further flags go to every run. Finished runs are skipped, stopped ones go on, a failing one is reported at the end.
"""

import os
import queue
import shlex
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from tqdm import tqdm

from dataloader import count_classes
from engine.options import parse, resolve
from engine.registry import find_method, method_names
from engine.run_folder import RunFolder
from model.network import MODALITIES
from utils.command_line import PROJECT, OneLineParser, cores, not_negative, positive, seed
from utils.errors import InputError, command
from utils.files import write_text


@dataclass
class Run:
    """``command``: a list of words; ``folder``: its engine.run_folder.RunFolder; ``name``: for people."""

    name: str
    command: list
    folder: object


def run_side_by_side(runs, slots):
    """Run all of ``runs``, one at a time in each of ``slots`` (environment variables); [(run, reason)] of failed ones.

    An interrupt ends all of them in a way that they can go on from.
    """
    free, processes, failed = queue.SimpleQueue(), {}, []
    for slot in slots:
        free.put(slot)

    def work(run):
        slot = free.get()
        try:
            # Not the terminal's interrupt but ours reaches it, once.
            process = processes[id(run)] = subprocess.Popen(
                run.command,
                env=os.environ | slot,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            _, errors = process.communicate()
            return process.returncode, errors
        finally:
            free.put(slot)

    pool = ThreadPoolExecutor(len(slots))
    bar = tqdm(total=len(runs), desc="Runs", unit="run", disable=None)
    try:
        futures = {pool.submit(work, run): run for run in runs}
        for done in as_completed(futures):
            run, (code, errors) = futures[done], done.result()
            bar.update()
            if code:
                failed.append((run, _reason(code, errors)))
            said = f"failed ({failed[-1][1]})" if code else f"last accuracy {_last(run):.4f}"
            bar.write(f"[{len(failed)} failed] {run.name}: {said}")
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in processes.values():
            process.wait()
        raise
    finally:
        bar.close()
    return failed


def write_slurm(path, runs, dataset):
    """Write a batch file whose task n is run n; the shell sees every word quoted."""
    cases = "\n".join(f"{number}) exec {shlex.join(run.command)} ;;" for number, run in enumerate(runs))
    write_text(
        path,
        f"""#!/bin/bash
#SBATCH --job-name={shlex.quote(f"avcil-{dataset}")}
#SBATCH --array=0-{max(0, len(runs) - 1)}
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
case $SLURM_ARRAY_TASK_ID in
{cases}
esac
""",
    )


def _last(run):
    return run.folder.finished().last_accuracy


def _reason(code, errors):
    lines = [line for line in errors.splitlines() if line.strip()]
    told = lines[-1].removeprefix("error: ") if lines else "it said nothing"
    return told if code > 0 else f"killed by signal {-code}"


TRAIN = os.path.join(PROJECT, "train_incremental.py")


@command(after_interrupt="; the same command goes on from here")
def main(arguments=None):
    args, further = read(arguments)
    runs = planned(args, further)
    finished = [run for run in runs if run.folder.finished()]
    left = [run for run in runs if run not in finished]
    if args.dry_run:
        print("\n".join(shlex.join(run.command) for run in left))
    elif args.slurm:
        write_slurm(args.slurm, left, args.dataset)
        print(f"Wrote {args.slurm}: an array of {len(left)} runs, {len(finished)} are finished; sbatch {args.slurm}")
    else:
        print(f"{len(runs)} runs, {len(finished)} of them finished", flush=True)
        failed = run_side_by_side(left, slots(args))
        where = os.path.relpath(os.path.dirname(runs[0].folder.path))
        print(f"{len(runs) - len(failed)} of {len(runs)} runs finished; python report.py {shlex.quote(where)}")
        for run, reason in failed:
            print(f"error: {run.name}: {reason}", file=sys.stderr)
        sys.exit(1 if failed else 0)


def read(arguments):
    """The options of the sweep, and the flags that are for every run."""
    parser = OneLineParser(prog="run_all.py", description="Run all methods; further flags go to every run.")
    parser.add_argument("--dataset", required=True, help="AVE, ksounds, VGGSound_100, or your own folder under data/")
    parser.add_argument("--methods", nargs="+", choices=method_names(), default=method_names(), help="default: all")
    parser.add_argument("--modalities", nargs="+", choices=MODALITIES, default=MODALITIES, help="default: all")
    parser.add_argument("--seeds", nargs="+", type=seed, default=[42], help="default: 42")
    parser.add_argument("--gpus", nargs="+", type=not_negative, help="one run at a time on each of these; default: all")
    parser.add_argument("--jobs", type=positive, help="runs side by side without GPUs; default: one for two cores")
    parser.add_argument("--slurm", metavar="FILE", help="write a SLURM job array of the runs to this file, start none")
    parser.add_argument("--dry_run", action="store_true", help="print the commands of the runs that are left")
    return parser.parse_known_args(arguments)


def planned(args, further):
    """A Run for every row, each with arguments that were checked."""
    rows = [
        (method, classifier, modality, number)
        for method in args.methods
        for modality in args.modalities
        for classifier in find_method(method).classifiers
        for number in args.seeds
        if modality in find_method(method).modalities
    ]
    if not rows:
        raise InputError(f"--modalities {' '.join(args.modalities)}: not taken by {', '.join(args.methods)}")
    return [plan(args.dataset, further, *row) for row in rows]


def plan(dataset, further, method, classifier, modality, number):
    flags = ["--method", method, "--classifier", classifier, "--modality", modality, "--seed", str(number)]
    flags += ["--dataset", dataset, *further]
    try:
        options, learner = parse(flags)
        options = resolve(options, count_classes(dataset, options.data_root, options.num_classes))
    except InputError as error:
        raise InputError(f"{method}: {error}; choose the methods that take the flag by --methods") from None
    if options.run_dir:
        raise InputError("--run_dir: would be the same folder for every run; leave it out, or give --save_root")
    name = f"{method} {classifier} {modality} seed {number}".replace(" linear", "")
    return Run(name, [sys.executable, TRAIN, *flags], RunFolder(options, learner))


def slots(args):
    """Environment variables of each place where a run may be at a time."""
    import torch

    if args.gpus is None and torch.cuda.is_available() and not args.jobs:
        args.gpus = list(range(torch.cuda.device_count()))
    if args.gpus:
        return [{"CUDA_VISIBLE_DEVICES": str(gpu)} for gpu in args.gpus]
    jobs = args.jobs or max(1, cores() // 2)
    return [{"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores() // jobs)))}] * jobs


if __name__ == "__main__":
    main()
