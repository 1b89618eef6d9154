"""Command-line options: those every method shares, and the chosen method's own."""

import argparse
import os
import shlex
import sys

from engine.learner import Learner
from engine.presets import preset
from engine.registry import find_method, find_network, method_names
from features.checks import DEFAULT_FRAMES
from model.network import PRECISIONS
from utils.command_line import (
    DATA_ROOT,
    PROJECT,
    OneLineParser,
    decay,
    duration,
    every,
    gigabytes,
    not_negative_number,
    positive,
    positive_number,
    seed,
    workers,
    workers_or_none,
)
from utils.datasets import MODALITIES
from utils.devices import PATIENCE_MINUTES
from utils.errors import InputError

SAVE_ROOT = os.path.join(PROJECT, "save")
DEFAULT_MILESTONES = [100]
DEFAULT_DECAY = 0.1


def parse(arguments: list[str] | None = None) -> tuple[argparse.Namespace, type[Learner]]:
    """Parse the command line. Options left out, whose defaults depend on the data, are None: see ``resolve``.

    Of options that change nothing in this run (``without_effect``) those of the method's own are refused where they are
    given, and those shared by all methods have their defaults (``left_out``: flag -> reason), so that one command line
    serves several methods.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    first = OneLineParser(add_help=False)
    first.add_argument("--method", default="avcil")
    method = find_method(first.parse_known_args(arguments)[0].method)
    parser = build_parser(method)
    args = parser.parse_args(arguments)
    args.modality = args.modality or method.modalities[-1]
    args.classifier = args.classifier or method.classifiers[0]
    _check_method(method, args)
    args.command = shlex.join(["train_incremental.py", *arguments])
    _leave_out(method, args, parser, arguments)
    _check_network(method, args)
    return args, method


def build_parser(method: type[Learner]) -> OneLineParser:
    """The parser of train_incremental.py for ``method``, a Learner subclass."""
    parser = OneLineParser(
        prog="train_incremental.py",
        description="Learn the classes of a data set step by step and test on all classes seen after each step.",
        epilog="Options shown without a default take the paper's value for the data set, method and modality.",
    )
    _add_job(parser.add_argument_group("what to run"))
    _add_data(parser.add_argument_group("data"))
    _add_protocol(parser.add_argument_group("protocol"))
    _add_training(parser.add_argument_group("training"))
    output = parser.add_argument_group("device and output")
    _add_device(output)
    _add_output(output)
    method.add_options(parser.add_argument_group(f"{method.__name__} (options of the chosen --method)"))
    return parser


def _add_job(group):
    group.add_argument("--method", choices=method_names(), default="avcil", help="a file of methods/")
    group.add_argument("--dataset", required=True, help="AVE, ksounds, VGGSound_100, or your own folder under data/")
    group.add_argument("--modality", choices=MODALITIES, help="default: audio-visual")
    group.add_argument("--classifier", help="iCaRL: NME or FC; AFC: NME or LSC; other methods: linear")
    group.add_argument(
        "--variant",
        choices=("released", "corrected"),
        default="released",
        help="released reproduces the published tables; corrected is what each method's paper defines",
    )
    group.add_argument(
        "--network", metavar="NAME", help="a file of model/networks/; default: the paper's, model/network.py"
    )
    group.add_argument("--seed", type=seed, default=42, help="seed of weights, batches and exemplars")


def _add_data(group):
    group.add_argument("--data_root", default=DATA_ROOT, help="folder of the data sets' folders")
    group.add_argument("--splits", metavar="PLACE", help="folder or csv of splits; default: those of the data set")
    group.add_argument("--num_classes", type=positive, help="learn the first so many classes; default: all")
    group.add_argument("--class_order_seed", type=seed, help="shuffle the class order; default: the given order")
    group.add_argument(
        "--num_frames", type=positive, help=f"frames in visual features stored flat; default: {DEFAULT_FRAMES}"
    )
    group.add_argument("--allow_missing", action="store_true", help="leave clips without features out of every split")
    group.add_argument(
        "--num_workers", type=workers_or_none, help="threads that read ahead; 0: none; default: 1, beside a GPU up to 8"
    )


def _add_protocol(group):
    group.add_argument(
        "--classes_per_step",
        "--class_num_per_step",
        type=positive,
        nargs="+",
        metavar="N",
        help="new classes per step; several numbers: one for each step",
    )
    group.add_argument("--last_step_remainder", action="store_true", help="let the last step be smaller")
    memory = group.add_mutually_exclusive_group()
    memory.add_argument("--memory_size", type=positive, help="exemplars in all, for methods that keep some")
    memory.add_argument("--memory_per_class", type=positive, metavar="N", help="exemplars of each class instead")


def _add_training(group):
    group.add_argument("--max_epochs", "--max_epoches", type=positive, help="epochs per step")
    group.add_argument("--lr", type=positive_number, default=1e-3, help="learning rate of Adam")
    group.add_argument("--weight_decay", type=not_negative_number, default=1e-4, help="L2 penalty of Adam")
    group.add_argument(
        "--lr_decay",
        type=decay,
        nargs="?",
        const=DEFAULT_DECAY,
        help=f"multiply the learning rate at the milestones; without a value {DEFAULT_DECAY}; default: no decay",
    )
    group.add_argument(
        "--milestones", type=positive, nargs="+", help=f"epochs of --lr_decay; default: {DEFAULT_MILESTONES[0]}"
    )
    group.add_argument("--train_batch_size", type=positive, default=256, help="new clips per batch")
    group.add_argument("--infer_batch_size", type=positive, default=128, help="clips per batch in validation and test")
    group.add_argument("--exemplar_batch_size", type=positive, default=128, help="exemplars beside each batch")


def _add_device(group):
    group.add_argument("--device", default="auto", help="auto (CUDA when there), cpu, cuda or cuda:N")
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="of matrix products: float32, TF32 (on a GPU), or bfloat16 for visual tokens and their products; auto: "
        "float32, on a GPU TF32 where the method has been shown to bear it",
    )
    group.add_argument(
        "--device_cache", type=gigabytes, default="auto", metavar="GB", help="tokens on the device; auto: what is free"
    )
    group.add_argument(
        "--host_cache", type=gigabytes, default="auto", metavar="GB", help="beside a GPU for the rest; auto: half"
    )
    group.add_argument(
        "--runs_per_gpu",
        type=workers,
        default=1,
        metavar="N",
        help="how many runs share the GPU at a time: auto above takes this run's part",
    )
    group.add_argument(
        "--rank_timeout",
        type=duration,
        default=PATIENCE_MINUTES,
        metavar="MINUTES",
        help="under torchrun: how much longer than ever before to wait for the other processes",
    )


def _add_output(group):
    group.add_argument("--save_root", default=SAVE_ROOT, help="folder of all runs")
    group.add_argument("--run_dir", help="exactly this folder for this run; default: named by what defines the run")
    group.add_argument("--overwrite", action="store_true", help="start anew, and replace what is in the run's folder")
    group.add_argument("--no_scores", action="store_true", help="do not keep the scores of the test clips (scores/)")
    group.add_argument("--save_features", action="store_true", help="keep the network's features of the test clips")
    group.add_argument(
        "--probe_gradients",
        type=positive,
        metavar="EPOCHS",
        help="every so many epochs, norm and cosine of each loss term's gradient; the run stays the same",
    )
    group.add_argument("--tensorboard", action="store_true", help="also write every number for TensorBoard")
    group.add_argument(
        "--checkpoint_every",
        type=every,
        default="auto",
        metavar="EPOCHS",
        help="how often a run can be resumed within a step; auto: as often as costs less than a twentieth of the time",
    )


def resolve(args: argparse.Namespace, num_classes: int) -> argparse.Namespace:
    """Fill in, from the presets, what the user left out. Returns a new namespace."""
    chosen = argparse.Namespace(**vars(args))
    chosen.num_classes = num_classes
    chosen.data_root = os.path.abspath(args.data_root)
    chosen.splits = args.splits and os.path.abspath(args.splits)
    usual = preset(args.dataset, args.method, args.modality, num_classes)
    if args.memory_per_class:
        del usual["memory_size"]
    for name, value in usual.items():
        if getattr(chosen, name, value) is None:
            setattr(chosen, name, value)
    if chosen.lr_decay is None:
        chosen.lr_decay = DEFAULT_DECAY if chosen.milestones else 1.0
    elif chosen.milestones is None:
        chosen.milestones = DEFAULT_MILESTONES
    chosen.milestones = chosen.milestones or []
    return chosen


def check_resolved(args: argparse.Namespace, method: type[Learner]) -> None:
    """InputError if the memory cannot hold one exemplar of each class, or a milestone is beyond the last epoch."""
    if method.replay != "none" and not args.memory_per_class and args.memory_size < args.num_classes:
        raise InputError(
            f"--memory_size {args.memory_size}: smaller than the {args.num_classes} classes; give at least"
            f" {args.num_classes}"
        )
    late = [milestone for milestone in args.milestones if milestone >= args.max_epochs]
    if late:
        raise InputError(
            f"--milestones {late[0]}: the {args.max_epochs} epochs of a step end before it (--max_epochs); give epochs"
            f" below {args.max_epochs}"
        )


def _leave_out(method, args, parser, arguments):
    """Give the options without effect their defaults; InputError if one of the method's own was given."""
    reasons, given = method.without_effect(args), parser.given(arguments)
    args.without_effect = sorted(reasons)
    args.left_out = {given[name]: reason for name, reason in reasons.items() if name in given}
    own = own_options(method)
    for name, reason in reasons.items():
        if name in given and name in own:
            raise InputError(f"{given[name]}: {reason}; leave it out")
        if name in given:
            setattr(args, name, parser.get_default(name))


def own_options(method: type[Learner]) -> set[str]:
    """The names of the options of ``method`` that others do not share."""
    parser = OneLineParser(add_help=False)
    method.add_options(parser.add_argument_group())
    return set(vars(parser.parse_args([])))


def _check_network(method, args):
    """InputError if the network does not give what the method needs of it."""
    missing = sorted((method.needs_of_network(args) or set()) - set(find_network(args.network).gives))
    if missing:
        raise InputError(
            f"--network {args.network}: {args.method} needs {', '.join(missing)} of it (docs/extending.md); choose"
            " another network or method, or switch off the terms that need them"
        )


def _check_method(method, args):
    if args.modality not in method.modalities:
        raise InputError(f"--modality {args.modality}: {args.method} takes {', '.join(method.modalities)}")
    if args.precision not in method.precisions:
        raise InputError(f"--precision {args.precision}: {args.method} takes {', '.join(method.precisions)}")
    if args.precision == "bf16" and args.modality != "audio-visual":
        raise InputError(f"--precision bf16: {args.modality} runs have no product of visual tokens; leave it out")
    if args.classifier not in method.classifiers:
        raise InputError(f"--classifier {args.classifier}: {args.method} takes {', '.join(method.classifiers)}")
