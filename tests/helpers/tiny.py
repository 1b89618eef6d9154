"""A small data set in the released form, ways to spoil it, and runs of the command on it."""

import contextlib
import io
import json
import warnings

import numpy as np
import pytest

import train_incremental
from features.npy_dict import load_npy_dict

CLASSES, FRAMES, POSITIONS, DIM = 6, 8, 2, 12
COUNTS = {"train": 9, "val": 3, "test": 4}
CLASSIFIERS = {"icarl": ("NME", "FC"), "afc": ("NME", "LSC")}


def make(root, counts=None, dataset="tiny", classes=CLASSES, dtype=np.float32, positions=POSITIONS, dim=DIM):
    """Write ``root/dataset``: clips whose features point, with noise, where their class points."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((2, classes, dim))
    audio, visual, by_class, categories = {}, {}, {}, {}
    names = [f"class {label}" for label in range(classes)]
    for split, count in (counts or COUNTS).items():
        by_class[split], categories[split] = {}, {}
        for label in reversed(range(classes)):
            size = count[label] if isinstance(count, list) else count
            videos = [f"-{split}_{label}_{number}" for number in range(size)]
            by_class[split][label] = videos
            for video in videos:
                categories[split][video] = names[label]
                audio[video] = (centres[0, label] + 0.5 * rng.standard_normal(dim)).astype(dtype)
                noise = rng.standard_normal((FRAMES * positions, dim))
                visual[video] = (centres[1, label] + noise).astype(dtype)
    folder = root / dataset
    for sense, features in (("audio", audio), ("visual", visual)):
        (folder / f"{sense}_pretrained_feature").mkdir(parents=True)
        np.save(folder / f"{sense}_pretrained_feature" / f"{sense}_pretrained_feature_dict.npy", features)
    np.save(folder / "all_classId_vid_dict.npy", by_class)
    np.save(folder / "all_id_category_dict.npy", categories)
    np.save(folder / "category_encode_dict.npy", {name: label for label, name in enumerate(names)})
    return folder


def flags(root, method, *more):
    """A command line for a short run on the data under ``root``."""
    common = ["--data_root", str(root), "--save_root", str(root / "save"), "--dataset", "tiny", "--max_epochs", "2"]
    size = ["--expansion", "64"] if method == "analytic" else []
    return ["--method", method, *common, "--classes_per_step", "2", "--memory_size", "18", *size, *more]


def train(root, method, *more):
    """Run the command in this process; return what it printed and its results."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        train_incremental.main(flags(root, method, "--run_dir", str(root / "run"), "--overwrite", *more))
    return printed.getvalue(), json.loads((root / "run" / "results.json").read_text())


def refused(root, *more, method="fine_tuning", main=train_incremental.main):
    """Run the command; check how it ends; return its one line. A warning would be a second one."""
    printed, errors = io.StringIO(), io.StringIO()
    arguments = flags(root, method, *more) if main is train_incremental.main else list(more)
    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(errors),
        warnings.catch_warnings(),
        pytest.raises(SystemExit) as ended,
    ):
        warnings.simplefilter("error")
        main(arguments)
    assert ended.value.code == 2
    assert not (root / "save").exists()
    lines = errors.getvalue().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


def features(root, sense):
    """The path of the features of one sense."""
    return root / "tiny" / f"{sense}_pretrained_feature" / f"{sense}_pretrained_feature_dict.npy"


def change(root, sense, edit):
    """Let ``edit`` change the dictionary of features of one sense."""
    arrays = {video: array.copy() for video, array in load_npy_dict(features(root, sense)).items()}
    edit(arrays)
    np.save(features(root, sense), arrays)
