#!/usr/bin/env python3
"""Every row of the table for a data set: all methods, classifiers, modalities and seeds, side by side.

    python run_all.py --dataset AVE --seeds 0 1 2 --gpus 0 1
    python run_all.py --dataset AVE --methods avcil ssil --modalities audio-visual --max_epochs 50
    python run_all.py --dataset AVE --seeds 0 1 2 --slurm array.sh --sbatch="--time=2-0 --partition=a100"

Further flags go to every run. Finished runs are skipped, stopped ones go on, a failing one is reported at the end.
"""

if __name__ == "__main__":
    from utils.environment import enter_environment

    enter_environment()

import argparse
import logging
import os
import re
import shlex
import sys

from engine.registry import find_method, method_names
from engine.sweep import Run, run_side_by_side
from utils.command_line import PROJECT, OneLineParser, cores, not_negative, positive, seed, workers
from utils.datasets import MODALITIES
from utils.errors import InputError, command, printable, say
from utils.files import write_text

TRAIN = os.path.join(PROJECT, "train_incremental.py")
# Flags of a single run that are not for all runs of a sweep, and what to do instead.
NOT_FOR_ALL = {
    "--method": "use --methods",
    "--modality": "use --modalities",
    "--seed": "use --seeds",
    "--classifier": "every classifier of a method is run; leave it out",
    "--run_dir": "would be the same folder for every run; leave it out, or give --save_root",
}


@command(after_interrupt="; the same command goes on from here")
def main(arguments: list[str] | None = None):
    args, further = read(arguments)
    runs = planned(args, further)
    left = [run for run in runs if not run.finished]
    if args.dry_run:
        refuse_control_characters(left)
        say("\n".join(shlex.join(run.command) for run in left))
    elif args.status:
        say("\n".join(f"{run.name}: {run.state()}" for run in runs))
    elif args.slurm and left:
        say_left_out(left)
        tasks = write_slurm(args, left)
        size = f"{len(left)} runs" + (f" in {tasks} tasks" if tasks < len(left) else "")
        say(f"Wrote {args.slurm}: an array of {size}, {len(runs) - len(left)} are finished; sbatch {args.slurm}")
    else:
        say_left_out(left)
        say(f"{len(runs)} runs, {len(runs) - len(left)} of them finished")
        finish(args, runs, left)


def finish(args, runs, left):
    """Do the runs that are left, and say what came of them all."""
    try:
        failed = run_side_by_side(left, slots(args)) if left else []
    except KeyboardInterrupt:
        if "--overwrite" in left[0].command:
            raise KeyboardInterrupt(
                "; the same command starts anew, without --overwrite it keeps what is finished"
            ) from None
        raise
    folder = os.path.relpath(os.path.dirname(runs[0].folder))
    say(f"{len(runs) - len(failed)} of {len(runs)} runs finished; python report.py {shlex.quote(folder)}")
    for run, reason in failed:
        say(f"error: {run.name}: {reason}", file=sys.stderr)
    sys.exit(1 if failed else 0)


def read(arguments: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The options of the sweep, and the flags that are for every run."""
    names = method_names()
    parser = OneLineParser(prog="run_all.py", description="Run all methods; further flags go to every run.")
    add = parser.add_argument
    add("--dataset", required=True, help="AVE, ksounds, VGGSound_100, or your own folder under data/")
    add("--methods", nargs="+", choices=names, default=names, help="default: all")
    add("--modalities", nargs="+", choices=MODALITIES, default=list(MODALITIES), help="default: all")
    add("--seeds", nargs="+", type=seed, default=[42], help="default: 42")
    add("--gpus", nargs="+", type=not_negative, help="GPUs to use; one named twice takes two runs at a time (0 0 1)")
    add("--runs_per_gpu", type=workers, default=1, metavar="N", help="runs at a time on each GPU")
    add("--jobs", type=workers, help="runs side by side without GPUs; default: one for two cores")
    add("--status", action="store_true", help="print which runs are finished, running, stopped; start none")
    add("--dry_run", action="store_true", help="print the commands of the runs that are left")
    slurm = parser.add_argument_group("SLURM")
    slurm.add_argument("--slurm", metavar="FILE", help="write a job array of the runs to this file, start none")
    slurm.add_argument("--runs_per_task", type=positive, default=1, metavar="N", help="runs in each task of the array")
    slurm.add_argument("--throttle", type=positive, metavar="N", help="tasks at work at a time; default: no limit")
    slurm.add_argument("--sbatch", metavar="OPTIONS", help='further options: --sbatch="--time=2-0 --partition=a100"')
    args, further = parser.parse_known_args(arguments)
    for word in further:
        flag = word.partition("=")[0]
        if flag in NOT_FOR_ALL:
            raise InputError(f"{flag}: {NOT_FOR_ALL[flag]} (see run_all.py --help)")
    for name in () if args.slurm else ("runs_per_task", "throttle", "sbatch"):
        if getattr(args, name) != parser.get_default(name):
            raise InputError(f"--{name}: only for a SLURM array; give --slurm FILE as well")
    for name in ("methods", "modalities", "seeds"):
        setattr(args, name, list(dict.fromkeys(getattr(args, name))))
    sharing = args.runs_per_gpu * max(map((args.gpus or [0]).count, args.gpus or [0]))
    if sharing > 1:  # each takes its part of the memory
        further += ["--runs_per_gpu", str(sharing)]
    return args, further


def planned(args: argparse.Namespace, further: list[str]) -> list[Run]:
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
    logger = logging.getLogger("avcil")
    logger.addFilter(unsaid := _Unsaid())
    try:
        return [plan(args.dataset, further, *row) for row in rows]
    finally:
        logger.removeFilter(unsaid)


def say_left_out(runs: list[Run]) -> None:
    """Say which flags are of no use to which methods."""
    for flag in sorted({flag for run in runs for flag in run.left_out}):
        reasons = dict.fromkeys(run.left_out[flag] for run in runs if flag in run.left_out)
        say(f"{flag} is left out where {', '.join(reasons)}")


class _Unsaid(logging.Filter):
    """Lets a message pass once: what is said of one finished run, such as changed code, holds for the others too."""

    def __init__(self):
        super().__init__()
        self.messages = set()

    def filter(self, record: logging.LogRecord) -> bool:
        new = record.getMessage() not in self.messages
        self.messages.add(record.getMessage())
        return new


def plan(dataset, further, method, classifier, modality, number):
    """The Run of one row; InputError if its options do not fit the method or the data."""
    # Imported here: they need torch, which takes longer to load than wrong arguments to be refused.
    from dataloader import count_classes, data_state
    from engine.options import check_resolved, parse, resolve
    from engine.run_folder import RunFolder

    flags = ["--method", method, "--classifier", classifier, "--modality", modality, "--seed", str(number)]
    flags += ["--dataset", dataset, *further]
    try:
        options, learner = parse(flags)
    except InputError as error:
        raise InputError(f"{method}: {error}; choose the methods that take the flag by --methods") from None
    options = resolve(options, count_classes(dataset, options.data_root, options.num_classes, options.splits))
    check_resolved(options, learner)
    name = f"{method} {classifier} {modality} seed {number}".replace(" linear", "")
    folder = RunFolder(options, learner)
    results = folder.finished()
    if results:
        # Where only the features can tell whether the results are still those of the data, the run itself looks.
        state = data_state(dataset, options.modality, options.data_root, options.splits)
        results = folder.check_still_holds(results, state)
    return Run(name, [sys.executable, TRAIN, *flags], folder.path, finished=bool(results), left_out=options.left_out)


def slots(args: argparse.Namespace) -> list[dict[str, str]]:
    """Environment variables of each place where a run may be at a time."""
    import torch

    if args.gpus is None and torch.cuda.is_available() and not args.jobs:
        args.gpus = list(range(torch.cuda.device_count()))
    places = [{"CUDA_VISIBLE_DEVICES": str(gpu)} for gpu in (args.gpus or []) * args.runs_per_gpu]
    places = places or [{}] * (args.jobs or max(1, cores() // 2))
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores() // len(places))))
    return [place | {"OMP_NUM_THREADS": threads} for place in places]


def write_slurm(args: argparse.Namespace, runs: list[Run]) -> int:
    """Write the batch file ``args.slurm``, whose array does ``runs``; returns the number of its tasks.

    The shell sees every word quoted. InputError if a word cannot be written safely.
    """
    refuse_control_characters(runs)
    tasks = [runs[first : first + args.runs_per_task] for first in range(0, len(runs), args.runs_per_task)]
    cases = "\n".join(f"{number})\n{_case(task, args.runs_per_gpu)}    ;;" for number, task in enumerate(tasks))
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"avcil-{args.dataset}")
    limit = f"%{args.throttle}" if args.throttle else ""
    lines = [f"--job-name={name}", f"--array=0-{len(tasks) - 1}{limit}", "--gres=gpu:1", "--cpus-per-task=4"]
    head = "".join(f"#SBATCH {line}\n" for line in lines + _sbatch_lines(args.sbatch or ""))
    write_text(args.slurm, f"#!/bin/bash\n{head}{SCRIPT.replace('CASES', cases)}")
    return len(tasks)


def refuse_control_characters(runs: list[Run]) -> None:
    """InputError if a word of a command cannot be written as it is into a file, or onto a terminal to be copied."""
    for word in (word for run in runs for word in run.command):
        if printable(word) != word:
            raise InputError(f"{ascii(word)}: a line break or control character must not stand in a batch file")


# Words in single quotes are meant as they are.
SCRIPT = """# shellcheck disable=SC2016
lanes=()
case ${SLURM_ARRAY_TASK_ID-} in
CASES
*)
    echo "error: no task ${SLURM_ARRAY_TASK_ID-} in this array; start this file by sbatch" >&2
    exit 2
    ;;
esac
status=0
for lane in "${lanes[@]}"; do
    wait "$lane" || status=1
done
exit "$status"
"""


def _case(task, runs_per_gpu):
    """The lanes of one task, each a subshell that does its runs one after another, whether or not one fails."""
    lanes = [task[first::runs_per_gpu] for first in range(min(runs_per_gpu, len(task)))]
    text = ""
    for lane in lanes:
        commands = "".join(f"        {shlex.join(run.command)} || status=1\n" for run in lane)
        text += f'    (\n        status=0\n{commands}        exit "$status"\n    ) &\n    lanes+=("$!")\n'
    return text


def _sbatch_lines(options):
    """Options of sbatch, one a line with their values; InputError for those that the sweep sets, or a word alone."""
    try:
        words = shlex.split(options)
    except ValueError as error:
        raise InputError(f"--sbatch {options!r}: {error}; write it as for sbatch") from None
    lines = []
    for word in words:
        if word.startswith(("--array", "-a", "--wrap")):
            raise InputError(f"--sbatch {word}: the array is written here; see --runs_per_task and --throttle")
        if not word.startswith("-") and (not lines or lines[-1].startswith("--") or " " in lines[-1]):
            raise InputError(f"--sbatch: {word!r} is no option of sbatch; write --name=value")
        if not word.isprintable():
            raise InputError(f"--sbatch {ascii(word)}: a control character must not stand in a batch file")
        name, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
        quoted = f"{name}{equals}{shlex.quote(value) if value else ''}"
        lines = [*lines, quoted] if name else [*lines[:-1], f"{lines[-1]} {quoted}"]
    return lines


if __name__ == "__main__":
    main()
