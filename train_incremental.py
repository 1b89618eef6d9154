#!/usr/bin/env python3
"""Train and test one method on one data set, class-incrementally.

    python train_incremental.py --method avcil --dataset AVE

reads the features under data/AVE, learns its classes in steps, and writes accuracies, curves and checkpoints to a
folder under save/. The same command goes on where it was stopped. See --help for all options; those of a method appear
with --method <name> --help. On several GPUs: torchrun --nproc_per_node 2 train_incremental.py ...
"""

import os

# Before torch starts CUDA: some of its matrix products repeat exactly only with this workspace setting.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

from dataloader import count_classes, open_data
from engine.loop import finish, report_run, run
from engine.options import check_memory, parse, resolve
from engine.run_folder import RunFolder, environment
from engine.step_log import log, speak, write_to
from engine.tasks import make_tasks
from model.network import PRECISIONS
from reporting.tables import results_rows, text_table
from utils.devices import Group, check_precision, make_deterministic
from utils.errors import command
from utils.seeding import seed_everything

LONG = 2  # seconds; to open features for longer than this deserves a word


@command(after_interrupt="; the same command goes on from here")
def main(arguments=None):
    args, method = parse(arguments)
    group = Group()
    device = group.device(args.device)
    check_precision(args.precision, device)
    args = resolve(args, count_classes(args.dataset, args.data_root, args.num_classes))
    tasks = make_tasks(args.num_classes, args.classes_per_step, args.last_step_remainder)
    check_memory(args, method)
    speak(group.leads)
    folder = RunFolder(args, method, group.leads)
    results = folder.finished() or train(args, method, tasks, device, group, folder)
    report_run(results)
    log.info("\n" + text_table(results_rows([(args.method, [results])])))
    log.info(f"\nDone: results, curves and checkpoints are in {os.path.relpath(folder.path)}")
    group.close()


def train(args, method, tasks, device, group, folder):
    """Run ``tasks``, from where an earlier attempt was stopped; return the results."""
    data = open_data(
        args.dataset,
        args.modality,
        data_root=args.data_root,
        num_classes=args.num_classes,
        class_order_seed=args.class_order_seed,
        num_frames=args.num_frames,
        allow_missing=args.allow_missing,
        num_workers=args.num_workers,
        device=device,
        device_cache=args.device_cache,
        host_cache=args.host_cache,
        group=group if group.world > 1 else None,
        means_only=args.modality == "visual" and not method.needs_tokens,
        token_dtype=PRECISIONS[args.precision],
    )
    with folder.opened(data.description()):
        if folder.leads:
            write_to(folder.file("log.txt"))
        log.info(describe(args, method, data, tasks, device))
        seed_everything(args.seed)
        make_deterministic(args.precision)
        results = run(method(args, data, device), tasks, folder)
        return finish(results, folder, args, environment())


def describe(args, method, data, tasks, device):
    """A few lines on what is about to run."""
    sizes = "+".join(str(task.num_new) for task in tasks)
    counts = " / ".join(str(int((data.split == split).sum())) for split in range(3))
    lines = [
        f"{args.method} ({args.classifier}, {args.modality}, {args.variant}) on {args.dataset}, seed {args.seed},"
        f" {device}",
        f"{data.num_classes} classes in {len(tasks)} steps ({sizes}); {counts} clips for training / validation / test",
        f"{f'{args.max_epochs} epochs per step' if method.has_epochs else 'closed form'},"
        f" {'no exemplars' if method.replay == 'none' else f'memory {args.memory_size}'}",
    ]
    lines += [f"{sense} features: {feature.describe_origin()}" for sense, feature in data.features.items()]
    if not all(feature.checked for feature in data.features.values()) and data.seconds_to_open > LONG:
        lines.append(
            f"reading and checking features took {data.seconds_to_open:.0f} s and will at every start; to do it once:"
            f" python features/convert.py --dataset {args.dataset}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
