"""Each thing that people add is one file: the examples of docs/extending.md, added to a copy of the project and run."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from features.store import open_features
from tests.helpers import tiny
from tests.helpers.shared import REPO
from tests.helpers.warm import Warm

PAGE = (REPO / "docs" / "extending.md").read_text(encoding="utf-8")


def example(name):
    """The code that the page gives for the file ``name``, which it names before."""
    _, named, rest = PAGE.partition(f"`{name}`")
    code = re.search(r"^```(?:python|json)\n(.*?)^```", rest, re.M | re.S)
    assert named and code, f"the page has no {name}"
    return code[1]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the project with the examples, and data named as the preset says; runs commands in it."""
    folder = tmp_path_factory.mktemp("extended") / "copy"
    ignored = shutil.ignore_patterns(".venv", ".git", "save", "data", "raw_data", "__pycache__", ".*_cache", "tests")
    shutil.copytree(REPO, folder, ignore=ignored)
    for path in (
        "model/networks/average.py",
        "reporting/measures/first_task.py",
        "model/encoders/brightness.py",
        "presets/pets.json",
    ):
        (folder / path).write_text(example(path), encoding="utf-8")
    tiny.make(folder / "data", dataset="pets-2024")
    with Warm(folder) as warm:
        yield warm


def call(copy, *words, code=0):
    done = copy.run(*words)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_a_network_a_preset_and_a_measure(copy):
    train = ["train_incremental.py", "--dataset", "pets", "--network", "average", "--num_workers", "0"]
    printed = call(copy, *train, "--method", "ssil")
    assert "6 classes in 2 steps (3+3)" in printed and "3 epochs per step, memory 30" in printed
    run = "ssil-linear_audio-visual_released_seed42_network-average"
    results = json.loads((copy.folder / "save" / "pets" / run / "results.json").read_text())
    table = call(copy, "report.py", "save/pets", "--layout", "summary", "--measures", "backward_transfer", "first_task")
    matrix = results["accuracy_matrix"]
    head, row = (next(line for line in table.splitlines() if part in line) for part in ("first task", "SS-IL"))
    assert "bwt" in head
    assert f"{100 * matrix[1][0]:.2f}" in row and f"{100 * (matrix[1][0] - matrix[0][0]):.2f}" in row
    refused = call(copy, *train, "--method", "avcil", code=2)
    assert "--network average: avcil needs frozen_attention, spatial_distance, temporal_distance of it" in refused
    train[train.index("average")] = "averag"
    refused = call(copy, *train, "--method", "ssil", code=2)
    assert "no file model/networks/averag.py (did you mean average?)" in refused
    refused = call(copy, "report.py", "save/pets", "--measures", "first", code=2)
    assert "--measures first: no such measure" in refused and "first_task" in refused


@pytest.mark.parametrize("method", ["afc", "avcil"])
def test_methods_that_need_more_of_a_network_are_given_it(copy, method):
    flags = ["--no-attn_score_distil"] if method == "avcil" else []
    train = ["train_incremental.py", "--dataset", "pets", "--network", "average", "--num_workers", "0", *flags]
    printed = call(copy, *train, "--method", method, "--max_epochs", "1")
    assert "Incremental step 1 Testing res:" in printed


def test_an_encoder(copy):
    rng = np.random.default_rng(0)
    for clip in ("a", "b"):
        frames = copy.folder / "raw_data" / "pets-videos" / "frames" / clip
        frames.mkdir(parents=True)
        for number in range(1, 9):
            pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(frames / f"{number:06d}.jpg")
    flags = ["--modality", "visual", "--visual_encoder", "brightness", "--all"]
    call(copy, "extract_pretrained_features.py", "--dataset", "pets", *flags, "--data_root", copy.folder / "made")
    assert open_features(str(copy.folder / "made" / "pets-2024"), "visual")["a"].shape == (8, 4, 1)
    flags[flags.index("brightness")] = "dark"
    refused = call(copy, "extract_pretrained_features.py", "--dataset", "pets", *flags, code=2)
    assert "--visual_encoder dark" in refused and "no file model/encoders/dark.py" in refused


def test_a_preset_with_a_mistake_is_one_line(copy):
    path = copy.folder / "presets" / "birds.json"
    path.write_text('{"classes_per_stepp": 3}', encoding="utf-8")
    try:
        line = call(copy, "train_incremental.py", "--dataset", "birds", code=2)
    finally:
        path.unlink()
    assert line.count("\n") == 1 and "presets/birds.json: not a preset" in line and "classes_per_step," in line
