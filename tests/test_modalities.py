"""What each modality is worth: replaced features, and the tables of them, computed again from features and counts."""

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest

import analyse_modalities
import report
from engine.replaced import across_classes, read_counts, within_classes
from engine.trained import load_trained
from features.npy_dict import load_npy_dict
from tests.helpers import report_runs, tiny
from utils.errors import InputError


@pytest.fixture(scope="module", params=["avcil", "analytic"])
def run(tmp_path_factory, request):
    root = tmp_path_factory.mktemp(request.param)
    tiny.make(root)
    tiny.train(root, request.param, "--class_order_seed", "1")
    analyse_modalities.main(["--run", str(root / "run")])
    return root


def counts(root):
    return pd.read_csv(root / "run" / "modalities.csv")


def test_with_nothing_replaced_it_is_the_accuracy_of_the_run(run):
    table = counts(run).query("modality == 'none'").groupby("step")[["right", "clips"]].sum()
    results = json.loads((run / "run" / "results.json").read_text())
    assert (table.right / table.clips).tolist() == results["accuracy_per_step"]
    confusion = np.array(results["confusion"][2])
    last = counts(run).query("modality == 'none' and step == 2")
    assert last.right.tolist() == confusion.diagonal().tolist()
    assert last["class"].tolist() == results["class_names"]


@pytest.mark.parametrize("modality", ["audio", "visual"])
@pytest.mark.parametrize("by", ["zeros", "mean"])
def test_replaced_features_are_named_as_the_learner_names_them(run, modality, by):
    features = {each: load_npy_dict(tiny.features(run, each)) for each in ("audio", "visual")}
    for step in range(3):
        trained = load_trained(str(run / "run"), step)
        training = [
            array
            for clip, array in features[modality].items()
            if clip.startswith("-train") and _class(clip) in trained.classes
        ]
        other = np.zeros_like(training[0]) if by == "zeros" else np.mean(training, 0)
        rows = counts(run).query("modality == @modality and by == @by and step == @step").set_index("class")
        assert rows.index.tolist() == trained.classes
        for label, name in enumerate(trained.classes):
            clips = [clip for clip in features["audio"] if clip.startswith("-test") and _class(clip) == name]
            given = [{each: features[each][clip] for each in features} | {modality: other} for clip in clips]
            assert rows.clips[name] == len(clips)
            assert rows.right[name] == int((trained.scores(given).argmax(1) == label).sum())


def _class(clip):
    return f"class {clip.split('_')[1]}"


def test_the_report_recomputed_from_the_counts(run):
    sheet = pd.read_csv(io.StringIO(report_runs.printed(run / "run", "--layout", "modalities", "--format", "csv")[0]))
    table = counts(run)
    whole = table.groupby(["modality", "by", "step"])[["right", "clips"]].sum()
    share = 100 * whole.right / whole.clips
    rows = sheet[sheet.table.str.startswith("Modalities")].set_index("replaced")
    words = {"zeros": "zeros", "mean": "the training mean"}
    words |= {f"{kind} class": f"another clip, {kind} class" for kind in ("same", "other")}
    for (modality, by, step), value in share.items():
        label = "nothing" if modality == "none" else f"{modality} by {words[by]}"
        assert rows[f"step {step}"][label] == pytest.approx(value)
    assert len(share) == 9 * 3
    last = table[table.step == 2].set_index(["modality", "by", "class"])
    adds = sheet[sheet.table.str.startswith("What")].set_index("class")
    for name, row in adds.iterrows():
        both, clips = last.loc[("none", "none", name)][["right", "clips"]]
        assert row.accuracy == pytest.approx(100 * both / clips)
        for modality in ("audio", "visual"):
            lost = both - last.loc[(modality, "mean", name)].right
            assert row[f"{modality} adds"] == pytest.approx(100 * lost / clips)


def test_the_page_and_figures_have_it(run, tmp_path):
    report_runs.printed(run / "run", "--html", tmp_path / "page.html", "--figures", tmp_path / "figures")
    assert "What each modality is worth" in (tmp_path / "page.html").read_text()
    assert len(list((tmp_path / "figures").glob("*_modalities.svg"))) == 1
    assert (run / "run" / "modalities.png").stat().st_size > 10_000


def test_the_same_seed_gives_the_same_counts(run, tmp_path):
    analyse_modalities.main(["--run", str(run / "run"), "--output", str(tmp_path / "again")])
    assert (tmp_path / "again" / "modalities.csv").read_bytes() == (run / "run" / "modalities.csv").read_bytes()


@pytest.mark.parametrize("sizes", [(3, 3), (1, 5, 2, 2), (4, 4, 4, 1), (2, 9)])
def test_who_takes_whose_place(sizes):
    label = np.repeat(np.arange(len(sizes)), sizes)
    for seed in range(20):
        within, across = (take(label, np.random.default_rng(seed)) for take in (within_classes, across_classes))
        assert sorted(within) == sorted(across) == list(range(len(label)))
        assert (label[within] == label).all()
        alone = np.isin(label, [each for each, size in enumerate(sizes) if size == 1])
        assert ((within == np.arange(len(label))) == alone).all()
        # Of a class with more than half of the clips, as many as are too many.
        assert (label[across] == label).sum() <= max(0, 2 * max(sizes) - len(label))


def test_one_modality_and_missing_checkpoints_are_said(tmp_path, capsys):
    tiny.make(tmp_path)
    tiny.train(tmp_path, "fine_tuning", "--modality", "audio")
    refused = tiny.refused(tmp_path, "--run", str(tmp_path / "run"), main=analyse_modalities.main)
    assert "learned from audio features alone" in refused
    tiny.train(tmp_path, "fine_tuning", "--modality", "audio-visual")
    for step in (0, 1):
        (tmp_path / "run" / "checkpoints" / f"step_{step}.pt").unlink()
    capsys.readouterr()
    analyse_modalities.main(["--run", str(tmp_path / "run")])
    assert "no checkpoint of step 0, 1; left out" in capsys.readouterr().out
    assert set(counts(tmp_path).step) == {2}
    report_runs.printed(tmp_path / "run", "--layout", "modalities")


def test_damaged_counts_are_one_line(tmp_path):
    report_runs.make(tmp_path / "run")
    assert "analyse_modalities.py" in tiny.refused(tmp_path, str(tmp_path), "--layout", "modalities", main=report.main)
    good = [["step", "modality", "by", "class", "clips", "right"], [0, "none", "none", "a", 4, 2]]
    path = tmp_path / "run" / "modalities.csv"
    for bad in ([0, "audio", "guess", "a", 4, 2], [0, "audio", "mean", "a", 4, 5], [-1, "audio", "mean", "a", 4, 2],
                [0, "audio", "mean", "b", 4, 2], [0, "audio", "mean", "a", 4, "²"]):  # fmt: skip
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([*good, bad])
        with pytest.raises(InputError, match="modalities"):
            read_counts(str(tmp_path / "run"))
    assert read_counts(str(tmp_path)) is None
