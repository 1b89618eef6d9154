#!/usr/bin/env python3
"""Every row of the table for a data set: all methods, classifiers, modalities and seeds, side by side.

    python run_all.py --dataset AVE --seeds 0 1 2 --gpus 0 1
    python run_all.py --dataset AVE --methods avcil ssil --modalities audio-visual --max_epochs 50

Further flags go to every run. Finished runs are skipped, stopped ones go on, a failing one is reported at the end.
"""

import os
import shlex
import sys

from dataloader import count_classes
from engine.options import parse, resolve
from engine.run_folder import RunFolder
from methods import find_method, method_names
from model.network import MODALITIES
from utils.command_line import PROJECT, OneLineParser, cores, not_negative, positive, seed
from utils.errors import InputError, command
from utils.sweep import Run, run_side_by_side, write_slurm

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
