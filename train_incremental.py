#!/usr/bin/env python3
"""Train and test one method on one data set, class-incrementally.

    python train_incremental.py --method avcil --dataset AVE

reads the features under data/AVE, learns its classes in steps, and writes accuracies, curves and checkpoints to a
folder under save/. The same command goes on where it was stopped. See --help for all options; those of a method appear
with --method <name> --help. On several GPUs: torchrun --nproc_per_node 2 train_incremental.py ...
"""

if __name__ == "__main__":
    from utils.environment import enter_environment

    enter_environment()

import os
from functools import partial

# Before torch starts CUDA: some of its matrix products repeat exactly only with this workspace setting.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

from dataloader import count_classes, data_state, open_data
from engine.loop import run
from engine.options import check_resolved, parse, resolve
from engine.recorder import Recorder, TensorBoardLog
from engine.run_folder import RunFolder
from engine.scores import FEATURES_HINT, read_features
from engine.step_log import log_to_file, logger, setup_logging
from engine.tasks import make_tasks
from features.cache import CacheOptions
from model.network import PRECISIONS
from reporting.tables import results_rows, text_table
from utils.devices import Group, check_precision, choose_precision, emulates_bf16, make_deterministic, memory_errors
from utils.errors import command
from utils.seeding import seed_everything

LOWER_MEMORY = "lower --train_batch_size, --infer_batch_size or --device_cache; the same command goes on"
SLOW_OPEN_SECONDS = 2  # to open features for longer than this deserves a word


@command(after_interrupt="; the same command goes on from here")
def main(arguments=None):
    args, method = parse(arguments)
    group = Group(args.rank_timeout)
    device = group.device(args.device)
    check_precision(args.precision, device)
    make_deterministic(choose_precision(args.precision, device, method.tf32_holds))
    args = resolve(args, count_classes(args.dataset, args.data_root, args.num_classes, args.splits))
    tasks = make_tasks(args.num_classes, args.classes_per_step, args.last_step_remainder)
    check_resolved(args, method)
    method.check_tasks(args, tasks)
    setup_logging(group.is_main)
    if args.precision == "bf16" and emulates_bf16(device):
        logger.warning("this processor has no instructions for bfloat16: --precision fp32 is faster here")
    folder = RunFolder(args, method, group.is_main)
    results = finished(args, method, device, folder) or train(args, method, tasks, device, group, folder)
    report_run(args, results)
    if folder.is_main:
        draw(method, results)
    logger.info(f"\nDone: results, curves and checkpoints are in {os.path.relpath(folder.path)}")
    group.close()


def finished(args, method, device, folder):
    """The results of this very run on today's data, if it is complete; InputError if the data has changed since."""
    results = folder.finished()
    state = data_state(args.dataset, args.modality, args.data_root, args.splits) if results else {}
    if results and args.save_features and read_features(folder.path, len(results.accuracy_per_step) - 1) is None:
        logger.warning(f"this run is finished and kept no features; {FEATURES_HINT}")
    if results and not folder.check_still_holds(results, state):
        folder.check_same_data(open_run_data(args, method, device).description())
        folder.note_files(state)
    return results


def train(args, method, tasks, device, group, folder):
    """Run ``tasks``, from where an earlier attempt was stopped; return the results."""
    tensorboard = None
    if args.tensorboard and folder.is_main:
        tensorboard = TensorBoardLog(folder.file("tensorboard"), args.max_epochs)
    with memory_errors(LOWER_MEMORY):
        data = open_run_data(args, method, device, group)
        description = data.description()
    with folder.opened(description):
        if folder.is_main:
            log_to_file(folder.file("log.txt"))
        logger.info(describe(args, method, data, tasks, device))
        seed_everything(args.seed)
        try:
            with memory_errors(LOWER_MEMORY):
                results = run(method(args, data, device), tasks, Recorder(folder, tensorboard))
        except KeyboardInterrupt:
            if args.overwrite:
                raise KeyboardInterrupt("; the same command without --overwrite goes on from here") from None
            raise
        return folder.finish(results, description, partial(draw, method))


def open_run_data(args, method, device, group=None):
    """The data of the run; of several processes each holds its part of the tokens."""
    sharing = group if group and group.world > 1 else None
    batch_size = max(args.infer_batch_size, args.train_batch_size)
    if method.replay == "paired":
        batch_size = max(batch_size, args.train_batch_size + args.exemplar_batch_size)
    memory = args.device_cache, args.host_cache
    dtype = PRECISIONS[args.precision]
    cache = CacheOptions(*memory, args.num_workers, sharing, dtype, batch_size, args.runs_per_gpu)
    return open_data(
        args.dataset,
        args.modality,
        data_root=args.data_root,
        num_classes=args.num_classes,
        class_order_seed=args.class_order_seed,
        num_frames=args.num_frames,
        allow_missing=args.allow_missing,
        device=device,
        needs_tokens=method.needs_tokens(args.modality),
        cache=cache,
        splits=args.splits,
    )


def draw(method, results):
    """Draw those of the run's pictures that are not there."""
    pictures = ("training.png", "accuracy.png") if method.has_epochs else ("accuracy.png",)
    if all(os.path.exists(os.path.join(results.folder, "figures", name)) for name in pictures):
        return
    from reporting.figures import draw_run  # only now: matplotlib takes half a second

    draw_run(results)


def report_run(args, results):
    """Print the summary of a run."""
    if results.average_forgetting is not None:
        logger.info(f"Average Forgetting: {results.average_forgetting:.6f}")
    logger.info(f"Average Accuracy: {results.mean_accuracy:.6f}")
    logger.info("\n" + text_table(results_rows([(args.method, [results])])))


def describe(args, method, data, tasks, device):
    """A few lines on what is about to run."""
    sizes = "+".join(str(task.num_new) for task in tasks)
    counts = " / ".join(str(int((data.split == split).sum())) for split in range(3))
    lines = [
        f"{args.method} ({args.classifier}, {args.modality}, {args.variant}) on {args.dataset}, seed {args.seed},"
        f" {device}, products in {choose_precision(args.precision, device, method.tf32_holds)}",
        f"{data.num_classes} classes in {len(tasks)} steps ({sizes}); {counts} clips for training / validation / test",
        f"{f'{args.max_epochs} epochs per step' if method.has_epochs else 'closed form'},"
        f" {describe_memory(args, method)}",
    ]
    lines += [f"{flag} is left out: {reason}" for flag, reason in args.left_out.items()]
    smallest = min(len(data.clips("train", task.new)) for task in tasks)
    if method.has_epochs and smallest < args.train_batch_size:
        lines.append(
            f"a step has as few as {smallest} clips, less than --train_batch_size {args.train_batch_size}: each epoch"
            " is a single update there; a smaller batch makes more of them"
        )
    lines += [f"{modality} features: {feature.describe_origin()}" for modality, feature in data.features.items()]
    if not all(feature.checked for feature in data.features.values()) and data.seconds_to_open > SLOW_OPEN_SECONDS:
        lines.append(
            f"reading and checking features took {data.seconds_to_open:.0f} s and will at every start; to do it once:"
            f" python features/convert.py --dataset {args.dataset}"
        )
    return "\n".join(lines)


def describe_memory(args, method):
    """How many exemplars are kept."""
    if method.replay == "none":
        return "no exemplars"
    return f"{args.memory_per_class} exemplars of each class" if args.memory_per_class else f"memory {args.memory_size}"


if __name__ == "__main__":
    main()
