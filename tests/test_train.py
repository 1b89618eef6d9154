"""Whole runs of every method on tiny data."""

import itertools
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from dataloader import open_data
from engine.evaluate import accuracy
from engine.options import build_parser, parse, resolve
from engine.registry import find_method, method_names
from engine.run_folder import run_path
from engine.tasks import make_tasks
from tests.helpers import tiny

RUNS = [
    (method, modality, classifier, variant)
    for method in method_names()
    for modality in find_method(method).modalities
    for classifier in find_method(method).classifiers
    for variant in ("released", "corrected")
]


@pytest.mark.parametrize(("method", "modality", "classifier", "variant"), RUNS)
def test_every_method_runs(tmp_path, method, modality, classifier, variant):
    tiny.make(tmp_path)
    flags = ["--modality", modality, "--classifier", classifier, "--variant", variant]
    printed, results = tiny.train(tmp_path, method, *flags)
    assert [len(row) for row in results["accuracy_matrix"]] == [1, 2, 3]
    assert all(0 <= value <= 1 for value in itertools.chain(*results["accuracy_matrix"]))
    assert re.findall(r"^Incremental step (\d) Testing res: \d\.\d{6}$", printed, re.M) == ["0", "1", "2"]
    assert len(re.findall(r"^forgetting: -?\d\.\d{6}$", printed, re.M)) == 2
    epochs = r"; best epoch \d" if find_method(method).has_epochs else ""
    assert len(re.findall(rf"^accuracy by task:( \d\.\d{{6}})+{epochs}$", printed, re.M)) == 3
    exemplars = "" if find_method(method).replay == "none" else ", 16 exemplars"  # 18 // 4 for each of 4 classes
    exemplars = ", 36 exemplars" if method == "upper_bound" else exemplars
    assert f"step 3 of 3: classes class 4, class 5; 18 clips{exemplars}\n" in printed
    assert len(re.findall(r"^Average Forgetting: -?\d\.\d{6}$", printed, re.M)) == 1
    assert len(re.findall(r"^Epoch:\d+ train_loss:-?\d+\.\d+ val_res:\d\.\d+", printed, re.M)) == (
        6 if find_method(method).has_epochs else 0
    )


def test_a_log_without_a_bar_says_the_time_left_once_a_minute(tmp_path, monkeypatch):
    tiny.make(tmp_path)
    now = [0.0]

    def perf_counter():
        now[0] += 5
        return now[0]

    monkeypatch.setattr("engine.step_log.time.perf_counter", perf_counter)
    printed, _ = tiny.train(tmp_path, "fine_tuning", "--modality", "audio", "--max_epochs", "30")
    notices = re.findall(r"^(\d\d:\d\d) in this step, run_left=\d\d:\d\d$", printed, re.M)
    assert len(notices) > 3
    seconds = [60 * int(notice[:2]) + int(notice[3:]) for notice in notices]
    assert all(later < earlier or later - earlier >= 60 for earlier, later in itertools.pairwise(seconds))


def test_results_and_rows_agree(tmp_path, pictures):
    tiny.make(tmp_path)
    _, results = tiny.train(tmp_path, "ssil")
    rows = [json.loads(line) for line in (tmp_path / "run" / "steps.jsonl").read_text().splitlines()]
    assert results["accuracy_per_step"] == [row["accuracy"] for row in rows]
    assert results["accuracy_matrix"] == [row["accuracy_by_task"] for row in rows]
    # Tasks of this data have equally many test clips, so the pooled accuracy is the mean over tasks.
    np.testing.assert_allclose(results["accuracy_per_step"], [np.mean(row) for row in results["accuracy_matrix"]])
    matrix = results["accuracy_matrix"]
    last = [max(matrix[0][0], matrix[1][0]) - matrix[2][0], matrix[1][1] - matrix[2][1]]
    np.testing.assert_allclose(results["forgetting_per_step"][-1], np.mean(last))
    assert results["arguments"]["seed"] == 42
    assert len(results["seconds_per_step"]) == len(results["best_epoch_per_step"]) == 3
    network = sum(
        value.nbytes for value in torch.load(tmp_path / "run/checkpoints/step_2.pt")["learner"]["network"].values()
    )
    clip = 4 * (tiny.DIM + tiny.FRAMES * tiny.POSITIONS * tiny.DIM)
    assert results["kept_bytes_per_step"][-1] == network + 18 * clip
    for name in ("training.png", "accuracy.png"):
        with Image.open(tmp_path / "run" / "figures" / name) as picture:
            assert picture.format == "PNG" and picture.convert("L").getextrema() == (0, 255)


@pytest.mark.parametrize("method", ["avcil", "icarl", "afc"])
def test_the_same_seed_gives_the_same_rows(tmp_path, method):
    tiny.make(tmp_path)
    rows = []
    for seed in (1, 1, 2):
        tiny.train(tmp_path, method, "--seed", str(seed), "--num_workers", str(len(rows)))
        rows.append([(tmp_path / "run" / name).read_text() for name in ("steps.jsonl", "epochs.csv")])
    assert rows[0] == rows[1]
    assert rows[0][1] != rows[2][1]


@pytest.mark.parametrize("method", method_names())
def test_a_checkpoint_gives_the_accuracy_of_its_run(tmp_path, method):
    tiny.make(tmp_path)
    _, results = tiny.train(tmp_path, method)
    saved = torch.load(tmp_path / "run" / "checkpoints" / "step_1.pt", weights_only=True)
    args, cls = parse(tiny.flags(tmp_path, method))
    data = open_data("tiny", args.modality, data_root=tmp_path)
    learner = cls(resolve(args, data.num_classes), data, torch.device("cpu"))
    learner.load_state(saved["learner"])
    assert saved["classes"] == data.classes[:4]
    assert accuracy(learner, "test", slice(0, 4)) == results["accuracy_per_step"][1]


@pytest.mark.parametrize("method", ["avcil", "icarl", "afc"])
def test_small_and_unequal_tasks(tmp_path, method):
    # Fewer clips than exemplar places, than proxies, and than a batch.
    tiny.make(tmp_path, {"train": [3, 12, 2, 5, 4, 9], "val": 2, "test": 3})
    flags = ["--classes_per_step", "3", "2", "1", "--memory_size", "60", "--modality", "audio-visual"]
    for classifier in find_method(method).classifiers:
        for variant in ("released", "corrected"):
            _, results = tiny.train(tmp_path, method, *flags, "--classifier", classifier, "--variant", variant)
            assert [len(row) for row in results["accuracy_matrix"]] == [1, 2, 3]


def test_learning_beats_chance_and_joint_beats_fine_tuning(tmp_path):
    tiny.make(tmp_path, {"train": 30, "val": 5, "test": 10})
    last = {}
    for method in ("fine_tuning", "icarl", "upper_bound"):
        flags = ["--max_epochs", "25", "--memory_size", "60", "--train_batch_size", "32"]
        last[method] = tiny.train(tmp_path, method, *flags)[1]["last_accuracy"]
    assert last["upper_bound"] > 0.8
    assert last["icarl"] > last["fine_tuning"] + 0.15


DEFINING = [
    *(["--seed", "1"], ["--lr", "0.01"], ["--memory_size", "20"], ["--variant", "corrected"], ["--lam", "0.1"]),
    *(["--classes_per_step", "3"], ["--no-class_contrastive"], ["--milestones", "5"], ["--lr_decay", "0.5"]),
    ["--num_frames", "4"],
    ["--num_classes", "14"],
    *(["--class_order_seed", "0"], ["--train_batch_size", "8"], ["--allow_missing"]),
]


def test_different_runs_have_different_folders():
    def path(flags):
        args, method = parse(["--dataset", "AVE", *flags])
        return run_path(resolve(args, args.num_classes or 28), method)

    paths = {path(sum(some, [])) for count in (0, 1, 2) for some in itertools.combinations(DEFINING, count)}
    assert len(paths) == 1 + len(DEFINING) + len(DEFINING) * (len(DEFINING) - 1) // 2
    assert path(["--max_epochs", "200"]) == path([]) == path(["--device", "cpu", "--num_workers", "3"])
    assert path(["--data_root", "elsewhere"]) == path([])  # what lies there is compared, not where
    assert max(len(part) for name in paths for part in name.split("/")) < 200


def test_presets_follow_the_data_set_method_and_modality():
    def resolved(*flags):
        args, _ = parse(list(flags))
        return resolve(args, {"AVE": 28, "ksounds": 30, "VGGSound_100": 100}.get(args.dataset, 10))

    ksounds = resolved("--dataset", "ksounds", "--method", "afc", "--modality", "visual")
    assert (ksounds.max_epochs, ksounds.memory_size, ksounds.classes_per_step) == (100, 500, [6])
    assert resolved("--dataset", "VGGSound_100").lam_I == 0.1
    assert resolved("--dataset", "AVE").lam_I == 0.5
    assert resolved("--dataset", "AVE", "--max_epoches", "7", "--class_num_per_step", "4").max_epochs == 7
    assert len(make_tasks(10, resolved("--dataset", "mine").classes_per_step)) == 5


def test_every_option_explains_itself():
    for method in method_names():
        for action in build_parser(find_method(method))._actions:
            assert action.help, action.option_strings


def test_learning_rate_falls_at_each_milestone(tmp_path):
    tiny.make(tmp_path)
    tiny.train(
        tmp_path, "lwf", "--max_epochs", "5", "--milestones", "2", "4", "--lr_decay", "0.3", "--modality", "audio"
    )
    rows = [line.split(",") for line in (tmp_path / "run" / "epochs.csv").read_text().splitlines()[1:]]
    rates = [float(value) for step, _, name, value in rows if name == "lr" and step == "1"]
    assert rates == [1e-3, 1e-3, 1e-3 * 0.3, 1e-3 * 0.3, 1e-3 * 0.3 * 0.3]


@pytest.mark.parametrize(("variant", "first_step"), [("released", 1e-3), ("corrected", 1e-4)])
def test_released_avcil_lets_the_learning_rate_fall_from_step_1_on(tmp_path, variant, first_step):
    tiny.make(tmp_path)
    tiny.train(tmp_path, "avcil", "--lr_decay", "--milestones", "1", "--variant", variant)
    rows = [line.split(",") for line in (tmp_path / "run" / "epochs.csv").read_text().splitlines()[1:]]
    rates = {(step, epoch): float(value) for step, epoch, name, value in rows if name == "lr"}
    assert (rates["0", "0"], rates["1", "0"]) == (1e-3, 1e-3)
    assert (rates["0", "1"], rates["1", "1"]) == pytest.approx((first_step, 1e-4))


def test_a_batch_larger_than_the_data_of_a_step_is_said(tmp_path):
    tiny.make(tmp_path)
    printed, _ = tiny.train(tmp_path, "fine_tuning", "--modality", "audio", "--max_epochs", "1")
    assert "as few as 18 clips, less than --train_batch_size 256: each epoch is a single update" in printed
    printed, _ = tiny.train(tmp_path, "fine_tuning", "--modality", "audio", "--train_batch_size", "18")
    assert "--train_batch_size 18" not in printed
