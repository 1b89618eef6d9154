"""Whole runs against accuracies of the published implementation: a second line behind its traces (test_traces.py)."""

import contextlib
import hashlib
import io
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import train_incremental
from engine.registry import find_method
from features.npy_dict import load_npy_dict
from tests.helpers.shared import shared
from tests.helpers.tf32 import TF32, rounded

MODALITIES = ("audio", "visual", "audio-visual")
ROWS = ["lwf", "ssil", "icarl-FC", "icarl-NME", "afc-LSC", "afc-NME"]


@pytest.fixture(scope="module")
def golden_runs():
    runs = json.loads(shared("goldens", "runs.json").read_text())
    by_row = {(run["method"], run["classifier"], run["modality"]): run for run in runs["runs"]}
    return runs, by_row


@pytest.fixture(scope="module")
def data_root(tmp_path_factory, golden_runs):
    root = tmp_path_factory.mktemp("golden")
    maker = shared("goldens", "gen_features.py")
    subprocess.run([sys.executable, maker, "--root", root], check=True, stdout=subprocess.DEVNULL)
    for sense in ("audio", "visual"):
        folder = root / "data" / "AVE" / f"{sense}_pretrained_feature"
        digest = hashlib.sha256()
        for array in load_npy_dict(folder / f"{sense}_pretrained_feature_dict.npy").values():
            digest.update(array.tobytes())
        assert digest.hexdigest() == golden_runs[0]["data"][f"sha256_{sense}"]
    return root / "data"


def train(golden_runs, data_root, tmp_path, row, modality, seed):
    method, _, classifier = row.partition("-")
    epochs = golden_runs[0]["settings"]["epochs"][modality]
    flags = ["--method", method, "--dataset", "AVE", "--data_root", data_root, "--modality", modality, "--seed", seed]
    flags += ["--memory_size", 112, "--max_epochs", epochs, "--run_dir", tmp_path / str(seed), "--num_workers", 0]
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(io.StringIO()):
        train_incremental.main([str(flag) for flag in flags] + (["--classifier", classifier] if classifier else []))
    results = json.loads((tmp_path / str(seed) / "results.json").read_text())
    golden = golden_runs[1][method, classifier or None, modality]
    return results, golden


def one_by_one(golden_runs, data_root, tmp_path, row, modality, seed):
    """Each accuracy is the published one, or one test clip off where another build of torch rounds otherwise."""
    results, golden = train(golden_runs, data_root, tmp_path, row, modality, seed)
    theirs = golden["accuracy_per_step"][golden["seeds"].index(seed)]
    clips = np.array([140, 280, 420, 560])
    assert (np.abs(np.array(results["accuracy_per_step"]) - theirs) * clips < 1.01).all()


def on_average(golden_runs, data_root, tmp_path, row, modality):
    """The means over seeds lie within the tolerance that comes with the goldens."""
    runs, floor = [], golden_runs[0]["tolerance"]["floor"]
    for seed in (1, 2, 42):
        results, golden = train(golden_runs, data_root, tmp_path, row, modality, seed)
        runs.append(results)
    for name in ("accuracy_per_step", "mean_accuracy", "average_forgetting"):
        if golden["mean"][name] is not None:
            ours = np.mean([run[name] for run in runs], axis=0)
            allowed = np.maximum(floor[name], 2.5 * np.array(golden["sd"][name]))
            assert (np.abs(ours - golden["mean"][name]) <= allowed).all(), (name, ours, golden["mean"][name])


@pytest.mark.parametrize("row", ["fine_tuning", "upper_bound"])
def test_seed_by_seed(golden_runs, data_root, tmp_path, row):
    one_by_one(golden_runs, data_root, tmp_path, row, "audio", 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 42])
@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("row", ["fine_tuning", "upper_bound", "icarl-FC"])
def test_every_seed(golden_runs, data_root, tmp_path, row, modality, seed):
    one_by_one(golden_runs, data_root, tmp_path, row, modality, seed)


@pytest.mark.slow
@pytest.mark.parametrize(("row", "modality"), [*itertools.product(ROWS, MODALITIES), ("avcil", "audio-visual")])
def test_all_on_average(golden_runs, data_root, tmp_path, row, modality):
    on_average(golden_runs, data_root, tmp_path, row, modality)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "modality"),
    [*itertools.product(("lwf", "ssil", "afc-LSC", "afc-NME"), ["audio"]), ("avcil", "audio-visual")],
)
def test_what_a_gpu_computes_in_tf32_by_itself_holds_on_average(golden_runs, data_root, tmp_path, row, modality):
    assert find_method(row.partition("-")[0]).tf32_holds
    with TF32() as mode:
        on_average(golden_runs, data_root, tmp_path, row, modality)
    assert mode.products > 1000


def test_tf32_has_ten_bits_and_rounds_to_even():
    step = 2.0**-10
    values = torch.tensor([1 + step, 1 + step / 2, 1 + 3 * step / 2, 1 + step / 2 + 2.0**-20, -1 - 0.6 * step])
    assert rounded(values).tolist() == [1 + step, 1, 1 + 2 * step, 1 + step, -1 - step]
    with TF32() as mode:
        product = values[:, None] @ torch.ones(1, 1)
    assert product[:, 0].tolist() == rounded(values).tolist() and mode.products == 1
