#!/usr/bin/env python3
"""Seconds and memory of training, side by side with plain research code (benchmarks/plain.py) in one run.

    python benchmarks/training.py                    # every case, minutes on 2 cores
    python benchmarks/training.py --cases ave        # on a GPU: a whole AVE-shaped run, minutes

Each side trains in a process of its own on the same made-up data, in turns; a row has the median of the ratios (--json
FILE: all). Reading data and starting up are not in the times, checkpoints are. Case ave makes features on the GPU; ours
is a whole run after one of an epoch, plain its updates alone, on resident data.
"""

import argparse
import gc
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import numpy as np
import torch

from benchmarks import made_up, plain
from benchmarks.made_up import peak_resident
from dataloader import open_data
from engine.loop import run
from engine.options import parse, resolve
from engine.recorder import Recorder
from engine.run_folder import RunFolder
from engine.step_log import setup_logging
from engine.tasks import make_tasks
from features.cache import CacheOptions
from model.network import PRECISIONS
from utils.command_line import heading
from utils.devices import choose_device, make_deterministic

WIDTH = 768


@dataclass(frozen=True)
class Case:
    """A training run: ``counts`` clips per class for training, validation and test; tokens of 8 x ``positions``."""

    modality: str
    positions: int
    classes_per_step: int
    steps: int
    counts: tuple
    epochs: int
    batch: int
    memory: int
    precision: str = "fp32"
    only_with_teacher: bool = False
    picture: bool = False
    resident: bool = False  # features are made on the GPU, and the plain side is its updates alone: else it takes hours


AUDIO = Case("audio", 0, 7, 4, (118, 14, 14), 20, 256, 340)
SMALL = Case("audio-visual", 4, 7, 3, (118, 14, 14), 4, 256, 340)
LARGE = Case("audio-visual", 196, 4, 2, (12, 1, 1), 4, 24, 16, only_with_teacher=True)
AVE = Case("audio-visual", 196, 7, 4, (118, 14, 14), 200, 256, 340, "bf16", resident=True)
CASES = {
    "audio": AUDIO,
    "audio, a picture per epoch in the plain one": replace(AUDIO, picture=True),
    "visual, 8 x 196 tokens": Case("visual", 196, 4, 2, (24, 6, 6), 4, 256, 32),
    "audio-visual, 8 x 4 tokens": SMALL,
    "audio-visual, 8 x 4 tokens, bf16": replace(SMALL, precision="bf16"),
    "audio-visual with teacher, 8 x 196 tokens": LARGE,
    "audio-visual with teacher, 8 x 196 tokens, bf16": replace(LARGE, precision="bf16"),
    "ave": AVE,
}


def main():
    args = options()
    if args.side:
        print(json.dumps(one_side(args.side, CASES[args.cases[0]], args.folder, args.device)))
        return
    device = choose_device(args.device)
    found, chosen = {}, [name for name in CASES if any(name.startswith(case) for case in args.cases)]
    if device.type != "cuda" and any(CASES[name].resident for name in chosen):
        sys.exit("error: --cases ave: whole runs at the size of AVE, which need a GPU; leave it out")
    print(f"{torch.get_num_threads()} threads, {device}, torch {torch.__version__}; medians of {args.repeats}")
    print(f"{'':48}{'plain':>10}{'ours':>10}{'ratio':>8}{'plain':>12}{'ours':>10}")
    for name in chosen:
        with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
            make_data(folder, CASES[name])
            pairs = [
                {side: start(side, name, folder, args.device) for side in ("plain", "ours")}
                for _ in range(args.repeats)
            ]
        report(name, CASES[name], pairs)
        found[name] = pairs
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(found, indent=1))


def options():
    parser = argparse.ArgumentParser(description=heading(__doc__), allow_abbrev=False)
    parser.add_argument("--cases", nargs="+", default=["audio", "visual"], help="beginnings of names of cases")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--scratch", help="folder for the synthetic features; default: the system's")
    parser.add_argument("--json", metavar="FILE", help="write seconds of each step and peaks there as well")
    parser.add_argument("--side", choices=("plain", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def make_data(root, case):
    """Released files under ``root/data/mine``: noise around a point of each class; a resident case: ``counted``."""
    if case.resident:
        made_up.make_data(pathlib.Path(root, "data"), made_up.SIZES["ave"])
        return
    rng = np.random.default_rng(0)
    folder = os.path.join(root, "data", "mine")
    by_class, categories, features = {}, {}, {"audio": {}, "visual": {}}
    classes = case.classes_per_step * case.steps
    centres = rng.standard_normal((2, classes, WIDTH), dtype=np.float32)
    for split, count in zip(("train", "val", "test"), case.counts, strict=True):
        by_class[split] = {label: [f"{split}{label}_{number}" for number in range(count)] for label in range(classes)}
        categories[split] = {video: str(label) for label, videos in by_class[split].items() for video in videos}
        for label, videos in by_class[split].items():
            for video in videos:
                features["audio"][video] = centres[0, label] + rng.standard_normal(WIDTH, dtype=np.float32)
                if case.positions:
                    noise = rng.standard_normal((8 * case.positions, WIDTH), dtype=np.float32)
                    features["visual"][video] = centres[1, label] + noise
    for modality in ("audio", "visual")[: 1 + bool(case.positions)]:
        os.makedirs(os.path.join(folder, f"{modality}_pretrained_feature"))
        np.save(
            os.path.join(folder, f"{modality}_pretrained_feature", f"{modality}_pretrained_feature_dict.npy"),
            np.array(features[modality], object),
        )
    np.save(os.path.join(folder, "all_classId_vid_dict.npy"), np.array(by_class, object))
    np.save(os.path.join(folder, "all_id_category_dict.npy"), np.array(categories, object))
    names = {str(label): label for label in range(classes)}
    np.save(os.path.join(folder, "category_encode_dict.npy"), np.array(names, object))


def start(side, name, folder, device):
    command = [sys.executable, __file__, "--side", side, "--cases", name, "--folder", folder, "--device", device]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def one_side(side, case, folder, device):
    """Train in this process: seconds of each step, and the peaks of host and device memory in GB."""
    device, began = choose_device(device), time.perf_counter()
    start_up(case)
    before = peak_resident()
    torch.manual_seed(0)
    if side == "ours" and case.resident:
        our_run(folder, replace(case, epochs=1), device)
        gc.collect()  # its features are in circles of references
        torch.cuda.reset_peak_memory_stats()
    started_up = time.perf_counter() - began
    seconds = plain_run(folder, case, device) if side == "plain" else our_run(folder, case, device)
    on_device = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else 0.0
    found = {"seconds": seconds, "host": (peak_resident() - before) / 1e9, "device": on_device, "start_up": started_up}
    if side == "ours" and case.modality == "audio-visual":
        found["products"] = products(case, device)
    return found


def start_up(case):
    """Import now what the plain side would in its first step: torch's optimisers load its compiler, for a second."""
    torch.optim.Adam([torch.zeros(1)])
    if case.picture:
        draw([0.0])


def products(case, device):
    """Seconds of each step for the matrix products alone that no implementation can leave out.

    For each clip of each batch: its tokens times the weight, and the weight's gradient.
    """
    dtype = torch.bfloat16 if case.precision == "bf16" else torch.float32
    clips = min(case.batch, 64)
    tokens = torch.randn(clips * 8 * case.positions, WIDTH, device=device).to(dtype)
    weight, times = torch.randn(WIDTH, WIDTH, device=device).to(dtype), []
    for _ in range(5):
        synchronize(device)
        started = time.perf_counter()
        projected = tokens @ weight
        _ = projected.T @ tokens
        synchronize(device)
        times.append(time.perf_counter() - started)
    batches = case.counts[0] * case.classes_per_step // case.batch
    in_step = [case.epochs * batches * (case.batch + (case.batch // 2 if step else 0)) for step in range(case.steps)]
    return [statistics.median(times) / clips * count for count in in_step]


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def plain_run(folder, case, device):
    if not case.resident:
        return plain.run(os.path.join(folder, "data", "mine"), case, device, draw if case.picture else None)
    updates, replayed = case.epochs * (case.counts[0] * case.classes_per_step // case.batch), case.batch // 2
    try:
        first, later = plain.resident_update(case.batch, 0), plain.resident_update(case.batch + replayed, replayed)
    except torch.OutOfMemoryError:
        return [float("nan")] * case.steps
    return [updates * (later if step else first) for step in range(case.steps)]


def draw(losses):
    from matplotlib import pyplot as plt

    plt.switch_backend("agg")
    for _ in range(2):
        plt.figure()
        plt.plot(losses)
        plt.savefig(os.path.join(tempfile.gettempdir(), "benchmark.png"))
        plt.close()


def our_run(folder, case, device):
    name = "counted" if case.resident else "mine"
    flags = ["--method", "avcil" if case.modality == "audio-visual" else "ssil", "--dataset", name]
    flags += ["--modality", case.modality, "--data_root", os.path.join(folder, "data"), "--precision", case.precision]
    flags += ["--classes_per_step", case.classes_per_step, "--memory_size", case.memory, "--max_epochs", case.epochs]
    flags += ["--train_batch_size", case.batch, "--exemplar_batch_size", case.batch // 2]
    with tempfile.TemporaryDirectory() as run_dir:
        args, method = parse([*map(str, flags), "--run_dir", run_dir])
        dtype = PRECISIONS[case.precision]
        data = open_data(name, case.modality, args.data_root, device=device, cache=CacheOptions(dtype=dtype))
        args = resolve(args, data.num_classes)
        make_deterministic(case.precision)
        setup_logging(is_main=False)
        learner, tasks = method(args, data, device), make_tasks(data.num_classes, args.classes_per_step)
        description, shape = data.description(), (8, case.positions, WIDTH)
        if case.resident:
            assert data.tokens is not None  # of an audio-visual run
            data.tokens.read = lambda clips: torch.randn(len(clips), *shape, device=device, dtype=dtype)
        with RunFolder(args, method).opened(description) as folder:
            return run(learner, tasks, Recorder(folder))["seconds_per_step"]


def report(name, case, pairs):
    first = int(case.only_with_teacher)
    totals = [{side: sum(result["seconds"][first:]) for side, result in pair.items()} for pair in pairs]
    ratio = statistics.median(total["plain"] / total["ours"] for total in totals)
    plain_s, our_s = (statistics.median(total[side] for total in totals) for side in ("plain", "ours"))
    peaks = [f"{max(pair[side]['host'] for pair in pairs):.2f} GB" for side in ("plain", "ours")]
    print(f"{name:48}{plain_s:8.2f} s{our_s:8.2f} s{ratio:7.1f}x{peaks[0]:>12}{peaks[1]:>10}", flush=True)
    per_step = [statistics.median(pair["ours"]["seconds"][step] for pair in pairs) for step in range(case.steps)]
    print("    ours by step: " + " ".join(f"{value:.2f}" for value in per_step), end="")
    if pairs[0]["ours"]["device"]:
        peaks = [f"{max(pair[side]['device'] for pair in pairs):.2f} GB" for side in ("plain", "ours")]
        print(f"; GPU memory: plain {peaks[0]}, ours {peaks[1]}", end="")
    if "products" in pairs[0]["ours"]:
        bound = statistics.median(sum(pair["ours"]["products"][first:]) for pair in pairs)
        print(f"; {100 * bound / our_s:.0f} % of it are products that cannot be left out", end="")
    print()


if __name__ == "__main__":
    main()
