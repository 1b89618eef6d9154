"""Equal rows for equal seeds: the proof that a refactoring changed no number.

    python -m tests.helpers.rows before        # in the tree as it was
    python -m tests.helpers.rows after         # in the tree as it is
    diff -r before after && echo equal

trains every method with every classifier in every modality on a small generated data set, seeds 1 and 2, one thread,
and keeps ``steps.jsonl`` and ``epochs.csv`` of each run: losses of each epoch to the last bit, accuracies of each step.
"""

import contextlib
import io
import os
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import torch

import train_incremental

ROWS = (
    "fine_tuning",
    "upper_bound",
    "lwf",
    "icarl-NME",
    "icarl-FC",
    "ssil",
    "afc-LSC",
    "afc-NME",
    "avcil",
    "cign",
    "analytic",
)
MODALITIES = ("audio", "visual", "audio-visual")
SEEDS = (1, 2)
VARIANTS = ("released", "corrected")
CLASSES, FRAMES, POSITIONS, WIDTH = 6, 8, 4, 32
COUNTS = {"train": 24, "val": 6, "test": 8}
FLAGS = ["--max_epochs", "3", "--classes_per_step", "2", "--memory_size", "72"]
FLAGS += ["--train_batch_size", "16", "--infer_batch_size", "20", "--exemplar_batch_size", "12"]
OPTIONS = {"analytic": ["--expansion", "64"]}


def make_data(root):
    """Write a data set in the released form under ``root``: clips near their class's direction in both modalities."""
    rng = np.random.default_rng(7)
    audio, visual, by_class, categories = {}, {}, {}, {}
    centres = rng.standard_normal((2, CLASSES, WIDTH))
    for split, count in COUNTS.items():
        by_class[split], categories[split] = {}, {}
        for label in range(CLASSES):
            ids = by_class[split][label] = [f"{split}_{label}_{number:02d}" for number in range(count)]
            for clip in ids:
                categories[split][clip] = f"class {label}"
                audio[clip] = (centres[0, label] + 2 * rng.standard_normal(WIDTH)).astype(np.float32)
                noise = 3 * rng.standard_normal((FRAMES * POSITIONS, WIDTH))
                visual[clip] = (centres[1, label] + noise).astype(np.float32)
    folder = root / "rows"
    for modality, features in (("audio", audio), ("visual", visual)):
        (folder / f"{modality}_pretrained_feature").mkdir(parents=True)
        np.save(folder / f"{modality}_pretrained_feature" / f"{modality}_pretrained_feature_dict.npy", features)
    np.save(folder / "all_classId_vid_dict.npy", by_class)
    np.save(folder / "all_id_category_dict.npy", categories)
    np.save(folder / "category_encode_dict.npy", {f"class {label}": label for label in range(CLASSES)})


def commands():
    """(name, flags) of each run."""
    for row in ROWS:
        method, _, classifier = row.partition("-")
        for modality in MODALITIES:
            if method == "avcil" and modality != "audio-visual":
                continue
            for variant in VARIANTS:
                if method == "analytic" and variant == "corrected":
                    continue
                for seed in SEEDS if variant == "released" else SEEDS[:1]:
                    flags = ["--method", method, "--modality", modality, "--seed", str(seed), "--variant", variant]
                    flags += ["--classifier", classifier] if classifier else []
                    yield f"{row}_{modality}_{variant}_{seed}", [*flags, *OPTIONS.get(method, [])]


def record(target):
    """Run all of them, and keep the rows of each under ``target``."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        make_data(folder)
        for name, flags in commands():
            run_dir = folder / "runs" / name
            place = ["--dataset", "rows", "--data_root", str(folder), "--run_dir", str(run_dir), "--num_workers", "0"]
            with contextlib.redirect_stdout(io.StringIO()):
                train_incremental.main([*flags, *FLAGS, *place])
            kept = pathlib.Path(target, name)
            kept.mkdir(parents=True)
            for rows in ("steps.jsonl", "epochs.csv"):
                shutil.copy(run_dir / rows, kept)
            shutil.rmtree(run_dir)


if __name__ == "__main__":
    if len(sys.argv) != 2 or os.path.exists(sys.argv[1]):
        sys.exit("usage: python -m tests.helpers.rows NEW_FOLDER")
    record(sys.argv[1])
    print(f"Rows of {sum(1 for _ in commands())} runs are in {sys.argv[1]}")
