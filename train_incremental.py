#!/usr/bin/env python3
"""Train and test one method on one data set, class-incrementally.

    python train_incremental.py --method avcil --dataset AVE

reads the features under data/AVE, learns its classes in steps, and writes accuracies, curves and checkpoints to a
folder under save/. See --help for all options; those of a method appear with --method <name> --help.
"""

import os

# Before torch starts CUDA: some of its matrix products repeat exactly only with this workspace setting.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch

from dataloader import open_data
from engine.loop import finish, run
from engine.options import check_memory, parse, resolve
from engine.progress import log, log_to
from engine.run_folder import RunFolder, environment
from engine.tasks import make_tasks
from utils.devices import choose_device
from utils.errors import command
from utils.random_order import seed_everything
from utils.tables import results_rows, text_table


@command
def main(arguments=None):
    args, method = parse(arguments)
    device = choose_device(args.device)
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
    )
    args = resolve(args, data.num_classes)
    tasks = make_tasks(data.num_classes, args.classes_per_step, args.last_step_remainder)
    check_memory(args, method)
    folder = RunFolder(args, method)

    folder.start()
    log_to(folder.file("log.txt"))
    log.info(describe(args, data, tasks, device))
    seed_everything(args.seed)
    torch.use_deterministic_algorithms(True)
    learner = method(args, data, device)
    results = run(learner, tasks, folder)
    finish(results, folder, args, environment())
    log.info("\n" + text_table(results_rows([(args.method, [results])])))
    log.info(f"\nDone: results, curves and checkpoints are in {os.path.relpath(folder.path)}")


def describe(args, data, tasks, device):
    """A few lines on what is about to run."""
    sizes = "+".join(str(task.num_new) for task in tasks)
    counts = " / ".join(str(int((data.split == split).sum())) for split in range(3))
    lines = [
        f"{args.method} ({args.classifier}, {args.modality}, {args.variant}) on {args.dataset}, seed {args.seed},"
        f" {device}",
        f"{data.num_classes} classes in {len(tasks)} steps ({sizes}); {counts} clips for training / validation / test",
        f"{args.max_epochs} epochs per step, memory {args.memory_size}",
    ]
    lines += [f"{sense} features: {feature.describe_origin()}" for sense, feature in data.features.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
