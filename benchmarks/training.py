#!/usr/bin/env python3
"""CPU and wall seconds of training, beside the same training written plainly (benchmarks/plain.py), row by row.

    python benchmarks/training.py                                 # every row at 8 x 4 tokens, both numbers of threads
    python benchmarks/training.py --rows "ssil audio" large       # rows whose names begin so
    python benchmarks/training.py --rows ave                      # on a GPU: a whole AVE-shaped run, minutes

Each side trains in a process of its own on the same made-up data, in turns; ratios are medians over the pairs.
Training is all between reading the data and the results, checkpoints and log included; the process is all that the
command costs, imports, reading and pictures too.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np

from benchmarks import made_up
from utils.command_line import cores, heading

WIDTH = 768
SIDES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sides.py")


@dataclass(frozen=True)
class Row:
    """A training run: ``counts`` clips per class for training, validation and test; tokens of 8 x ``positions``."""

    method: str
    modality: str
    positions: int
    classes_per_step: int
    steps: int
    counts: tuple
    epochs: int
    batch: int
    memory: int
    classifier: str | None = None
    precision: str = "fp32"
    resident: bool = False  # features are made on the GPU, and the plain side is its updates alone: else it takes hours

    def flags(self, root: str) -> list[str]:
        """Of train_incremental.py, for both sides."""
        sizes = {"classes_per_step": self.classes_per_step, "memory_size": self.memory, "max_epochs": self.epochs}
        sizes |= {"train_batch_size": self.batch, "exemplar_batch_size": self.batch // 2}
        flags = ["--method", self.method, "--modality", self.modality, "--precision", self.precision]
        flags += ["--dataset", "counted" if self.resident else "mine", "--data_root", os.path.join(root, "data")]
        flags += ["--classifier", self.classifier] if self.classifier else []
        return flags + [word for name, value in sizes.items() for word in (f"--{name}", str(value))]


SMALL = Row("", "", 4, 7, 3, (118, 14, 14), 4, 256, 340)
AUDIO = replace(SMALL, modality="audio", steps=4, epochs=20)
LARGE = Row("avcil", "audio-visual", 196, 4, 2, (24, 2, 2), 4, 24, 16)
METHODS = ("fine_tuning", "upper_bound", "lwf", "icarl NME", "icarl FC", "ssil", "afc LSC", "afc NME")


def all_rows() -> dict[str, Row]:
    """Every row of the table, then larger tokens and lower precision, by name."""
    rows = {}
    for name in METHODS:
        method, _, classifier = name.partition(" ")
        for modality in ("audio", "visual", "audio-visual"):
            row = AUDIO if modality == "audio" else SMALL
            rows[f"{name} {modality}"] = replace(row, method=method, modality=modality, classifier=classifier or None)
    avcil = replace(SMALL, method="avcil", modality="audio-visual")
    rows |= {"avcil audio-visual": avcil, "bf16 avcil audio-visual": replace(avcil, precision="bf16")}
    rows["large avcil, 8 x 196 tokens"] = LARGE
    rows["large avcil, 8 x 196 tokens, bf16"] = replace(LARGE, precision="bf16")
    rows["large fine_tuning, 8 x 196 tokens"] = replace(LARGE, method="fine_tuning")
    rows["large ssil visual, 8 x 196 tokens"] = replace(LARGE, method="ssil", modality="visual", batch=64)
    rows["ave"] = Row("avcil", "audio-visual", 196, 7, 4, (118, 14, 14), 200, 256, 340, precision="bf16", resident=True)
    return rows


def main():
    args = options()
    rows = {name: row for name, row in all_rows().items() if any(name.startswith(word) for word in args.rows)}
    if args.device == "cpu" and any(row.resident for row in rows.values()):
        sys.exit("error: --rows ave: a whole run at the size of AVE, which needs a GPU; give --device cuda")
    print(f"{processor()}, {cores()} cores, {args.device}; medians of {args.repeats} pairs; seconds plain / ours")
    print(f"{'':36}{'threads':>8}{'wall':>16}{'CPU, training':>24}{'CPU, process':>24}{'memory, GB':>14}")
    measured = {}
    for name, row in rows.items():
        with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
            make_data(folder, row)
            for threads in args.threads:
                pairs = [
                    {side: start(side, row, folder, args.device, threads) for side in ("plain", "ours")}
                    for _ in range(args.repeats)
                ]
                print_row(name, threads, pairs)
                measured[f"{name}, {threads} threads"] = pairs
        if args.json:
            pathlib.Path(args.json).write_text(json.dumps(measured, indent=1))


def options():
    names = list(all_rows())
    parser = argparse.ArgumentParser(description=heading(__doc__), allow_abbrev=False)
    small = [name for name in names if not name.startswith(("large", "ave"))]
    parser.add_argument("--rows", nargs="+", default=small, help=f"beginnings of names: {', '.join(names)}")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--scratch", help="folder for the made-up features; default: the system's")
    parser.add_argument("--json", metavar="FILE", help="write every run there as well")
    return parser.parse_args()


def make_data(root: str, row: Row) -> None:
    """Released files under ``root/data/mine``: noise around a point of each class; a resident row: ``counted``."""
    if row.resident:
        made_up.make_data(pathlib.Path(root, "data"), made_up.SIZES["ave"])
        return
    rng = np.random.default_rng(0)
    folder = os.path.join(root, "data", "mine")
    by_class, categories, features = {}, {}, {"audio": {}, "visual": {}}
    classes = row.classes_per_step * row.steps
    centres = rng.standard_normal((2, classes, WIDTH), dtype=np.float32)
    for split, count in zip(("train", "val", "test"), row.counts, strict=True):
        by_class[split] = {label: [f"{split}{label}_{number}" for number in range(count)] for label in range(classes)}
        categories[split] = {video: str(label) for label, videos in by_class[split].items() for video in videos}
        for label, videos in by_class[split].items():
            for video in videos:
                features["audio"][video] = centres[0, label] + rng.standard_normal(WIDTH, dtype=np.float32)
                if row.modality != "audio":
                    noise = rng.standard_normal((8 * row.positions, WIDTH), dtype=np.float32)
                    features["visual"][video] = centres[1, label] + noise
    for modality in ("audio", "visual")[: 1 + (row.modality != "audio")]:
        place = os.path.join(folder, f"{modality}_pretrained_feature")
        os.makedirs(place)
        np.save(os.path.join(place, f"{modality}_pretrained_feature_dict.npy"), np.array(features[modality], object))
    np.save(os.path.join(folder, "all_classId_vid_dict.npy"), np.array(by_class, object))
    np.save(os.path.join(folder, "all_id_category_dict.npy"), np.array(categories, object))
    names = {str(label): label for label in range(classes)}
    np.save(os.path.join(folder, "category_encode_dict.npy"), np.array(names, object))


def start(side: str, row: Row, root: str, device: str, threads: int) -> dict:
    """Train in a process of its own: seconds and CPU seconds of training, of the process, and memory in GB."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    side = f"{side}-resident" if row.resident else side
    out = os.path.join(root, "measured.json")
    command = [sys.executable, SIDES, side, out, *row.flags(root), "--device", device]
    command += ["--run_dir", os.path.join(root, "run"), "--overwrite"]
    with open(os.path.join(root, "errors.txt"), "w+") as errors:
        child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)  # known now: nothing is left to wait for
        if child.returncode:
            errors.seek(0)
            sys.exit(f"error: {side} of {row.method} {row.modality} failed: {errors.read()[-2000:]}")
    found = json.loads(pathlib.Path(out).read_text())
    return found | {"process": usage.ru_utime + usage.ru_stime}


def print_row(name: str, threads: int, pairs: list[dict]) -> None:
    """One line of medians: what each side took, and the ratio of each pair's two sides."""
    cells = []
    for key in ("seconds", "cpu", "process"):
        plain, ours = (statistics.median(pair[side][key] for pair in pairs) for side in ("plain", "ours"))
        ratio = statistics.median(pair["plain"][key] / max(pair["ours"][key], 1e-9) for pair in pairs)
        cells.append(f"{plain:.1f} / {ours:.1f} {ratio:.2f}x")
    memory = " / ".join(f"{max(pair[side]['host'] for pair in pairs):.1f}" for side in ("plain", "ours"))
    print(f"{name:36}{threads:8d}{cells[0]:>20}{cells[1]:>22}{cells[2]:>22}{memory:>14}", flush=True)
    if "device" in pairs[0]["ours"]:
        memory = " / ".join(f"{pairs[0][side]['device']:.1f}" for side in ("plain", "ours"))
        print(
            f"    start-up and compilation {pairs[0]['ours']['start_up']:.1f} s; GPU memory, GB: {memory}", flush=True
        )


def processor() -> str:
    """The name of the processor, as far as the system says."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
