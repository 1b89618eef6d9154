"""Features that were saved and gradients that were probed, as reports show them: recomputed from the files of runs."""

import io
import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.metrics import pairwise

import report
from engine.scores import read_features, write_features
from engine.trained import load_trained
from features.store import open_features
from reporting import representation, statistics
from reporting.runs import find_runs
from tests.helpers import report_runs, tiny
from utils.errors import InputError

SEEDS, STEPS = (1, 2, 3), 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for seed in SEEDS:
        for method in ("lwf", "avcil"):
            folder = root / f"{method}-{seed}"
            report_runs.make(folder, seed, method)
            _save_features(folder, np.random.default_rng([seed, len(method)]))
            _probe(folder, np.random.default_rng(seed), method)
    return root


def _save_features(folder, rng):
    centres = rng.standard_normal((report_runs.CLASSES, 7))
    for step in range(STEPS):
        label = np.repeat(np.arange((step + 1) * report_runs.PER_STEP), report_runs.CLIPS)
        centres += 0.2 * rng.standard_normal(centres.shape)
        audio, visual = (centres[label] + rng.standard_normal((len(label), 7)) for _ in range(2))
        clip = [f"clip {number}" for number in range(len(label))]
        features = {"feature": audio + visual, "audio": audio, "visual": visual}
        write_features(str(folder / "features" / f"step_{step}.npz"), clip, label, features)


def _probe(folder, rng, method):
    terms = ("cross_entropy", "distillation")[: 1 if method == "lwf" else 2]
    with open(folder / "epochs.csv", "a", encoding="utf-8") as file:
        for step in range(STEPS):
            for epoch in (0, 2):
                for term in terms[: 1 + (step > 0)]:
                    file.write(f"{step},{epoch},gradient_norm/{term},{rng.random()!r}\n")
                    if len(terms) > 1 and step > 0:
                        file.write(f"{step},{epoch},gradient_cosine/{term},{rng.random() - 0.5!r}\n")


def sheet(root, layout):
    return pd.read_csv(io.StringIO(report_runs.printed(root, "--layout", layout, "--format", "csv")[0]))


def kept(root, seed, step, name):
    """A table of one file: the class of each clip, and its features."""
    with np.load(root / f"avcil-{seed}" / "features" / f"step_{step}.npz") as file:
        return pd.DataFrame(file[name].astype(float)).assign(label=file["label"]).set_index("label")


def cka_of_kernels(x, y):
    """Linear CKA by its definition: the HSIC of the two kernels, normalised (what is computed is its dual form)."""
    centre = np.eye(len(x)) - 1 / len(x)
    k, m = (centre @ pairwise.linear_kernel(each) @ centre for each in (x, y))
    return (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())


def expected(root, seed, step, name):
    table = kept(root, seed, step, name)
    means = table.groupby("label").mean()
    first = {label: kept(root, seed, label // 2, name).groupby("label").mean().loc[label] for label in range(2 * step)}
    distances = cdist(table, table, "cosine")
    np.fill_diagonal(distances, np.inf)
    nearest = table.index.to_numpy()[distances.argsort(1)[:, :5]]
    variance = table.var(ddof=0).sum()
    within = (table.groupby("label").var(ddof=0).sum(axis=1) * table.groupby("label").size()).sum() / len(table)
    before = kept(root, seed, step - 1, name) if step else None
    return {
        "drift": 100 * np.mean([np.linalg.norm(means.loc[c] - m) / np.linalg.norm(m) for c, m in first.items()])
        if step
        else np.nan,
        "within": within**0.5,
        "between": (variance - within) ** 0.5,
        "within of all": 100 * within / variance,
        "purity": 100 * (nearest == table.index.to_numpy()[:, None]).mean(),
        "CKA": 100 * cka_of_kernels(before.to_numpy(), table.to_numpy()[: len(before)]) if step else np.nan,
    }


def test_representation(runs):
    table = sheet(runs, "representation")
    assert len(table) == 3 * 2 * STEPS
    for name, what in (("feature", "Features, tiny"), ("audio", "Features of audio"), ("visual", "Features of visual")):
        rows = table[table.table.str.startswith(what) & (table.method == "avcil")].set_index("step")
        for step in range(STEPS):
            values = pd.DataFrame([expected(runs, seed, step, name) for seed in SEEDS])
            for head in values:
                assert rows[head][step] == pytest.approx(values[head].mean(), nan_ok=True)
                assert rows[f"{head} sd"][step] == pytest.approx(values[head].std(), nan_ok=True)


def test_the_figure_of_features_shows_the_numbers_of_the_table(runs):
    table, groups = sheet(runs, "representation"), [("avcil", [run for run in find_runs([runs]) if _is_avcil(run)])]
    rows = table[table.table.str.startswith("Features, tiny") & (table.method == "avcil")]
    curves = representation.curves(groups)
    for head, label in (("drift", "Drift"), ("within of all", "Variance"), ("purity", "Purity"), ("CKA", "CKA")):
        ((step, mean, spread),) = [each["avcil"] for name, each in curves.items() if name.startswith(label)]
        shown = rows.dropna(subset=head)
        assert shown.step.tolist() == step.tolist()
        np.testing.assert_allclose(mean, shown[head])
        np.testing.assert_allclose(spread, shown[f"{head} sd"])


def _is_avcil(run):
    return run.arguments["method"] == "avcil"


def test_similarity_of_all_steps(runs):
    group = [run for run in find_runs([runs]) if _is_avcil(run)]
    matrix = representation.similarity_matrix(group)
    for one in range(STEPS):
        for other in range(STEPS):
            pairs = [[kept(runs, seed, step, "feature") for step in sorted((one, other))] for seed in SEEDS]
            of_seeds = [cka_of_kernels(x.to_numpy(), y.to_numpy()[: len(x)]) for x, y in pairs]
            assert matrix[one, other] == pytest.approx(100 * np.mean(of_seeds))


def test_similarity_is_that_of_the_same_clips_in_any_order():
    rng = np.random.default_rng(0)
    clip, label, x = np.array(list("abcdef"), dtype=object), np.zeros(6, np.int32), rng.standard_normal((6, 3))
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    one = representation.KeptFeatures(clip, label, {"feature": x})
    order = rng.permutation(6)
    turned = representation.KeptFeatures(clip[order], label, {"feature": 5 * x[order] @ turn + 1})
    assert representation.similarity(one, turned) == pytest.approx(1)


def test_gradients(runs):
    table = sheet(runs, "gradients").set_index("loss term")
    assert set(table.table) == {"Gradients, avcil, tiny, audio-visual"}  # one term alone has nothing to compare
    rows = pd.concat([pd.read_csv(runs / f"avcil-{seed}" / "epochs.csv").assign(seed=seed) for seed in SEEDS])
    rows[["kind", "term"]] = rows.name.str.split("/", expand=True)
    norms = rows[rows.kind == "gradient_norm"].assign(
        share=lambda norm: 100 * norm.value / norm.groupby(["seed", "step", "epoch"]).value.transform("sum")
    )
    for kind, values, column in (
        ("cosine to the rest", rows[rows.kind == "gradient_cosine"], "value"),
        ("share of lengths", norms, "share"),
    ):
        of_seeds = (
            values.groupby(["term", "step", "seed"])[column].mean().groupby(["term", "step"]).agg(["mean", "std"])
        )
        for (term, step), (mean, spread) in of_seeds.iterrows():
            assert table[f"{kind} step {step}"][term] == pytest.approx(mean)
            assert table[f"{kind} step {step} sd"][term] == pytest.approx(spread)
        assert table[[name for name in table if name.startswith(kind)]].notna().to_numpy().sum() == 2 * len(of_seeds)


def test_probes_are_no_loss_terms(runs):
    group = [run for run in find_runs([runs]) if _is_avcil(run)]
    assert set(statistics.losses_over_epochs(group)) == {"train_loss", "cross_entropy", "distillation"}
    epoch, mean, _, _ = statistics.gradients_over_epochs(group, "gradient_norm/")["distillation"]
    assert epoch.tolist() == [3, 5, 6, 8] and len(mean) == 4


@pytest.mark.parametrize("method", ["avcil", "fine_tuning", "icarl"])
def test_saved_features_are_those_of_the_network_and_change_no_row(tmp_path, method):
    tiny.make(tmp_path)
    modality = "audio" if method == "icarl" else "audio-visual"
    rows = []
    for flags in ([], ["--save_features"]):
        tiny.train(tmp_path, method, "--modality", modality, *flags)
        rows.append([(tmp_path / "run" / name).read_text() for name in ("steps.jsonl", "epochs.csv")])
        assert (tmp_path / "run" / "features").exists() == bool(flags)
    assert rows[0] == rows[1]
    trained, saved = load_trained(str(tmp_path / "run"), 1), read_features(str(tmp_path / "run"), 1)
    files = {each: open_features(tmp_path / "tiny", each) for each in trained.modalities}
    batch = trained.batch([{each: file[clip] for each, file in files.items()} for clip in saved.clip])
    with torch.no_grad():
        outputs = trained.learner.features(batch)
    assert set(outputs) == set(saved.features) == ({"feature", "audio", "visual"} if "-" in modality else {"feature"})
    for name, values in outputs.items():
        # Half precision: 11 bits.
        np.testing.assert_allclose(saved.features[name], values.numpy(), rtol=2**-11, atol=2**-24)
    assert saved.label.tolist() == sorted(saved.label) and len(saved.label) == 4 * tiny.COUNTS["test"]


def test_what_was_not_kept_is_said_with_the_cure(runs, tmp_path):
    report_runs.make(tmp_path / "run")
    for layout, flag in (("representation", "--save_features"), ("gradients", "--probe_gradients")):
        line = tiny.refused(tmp_path, str(tmp_path), "--layout", layout, main=report.main)
        assert flag in line
    (tmp_path / "run" / "features").mkdir()
    (tmp_path / "run" / "features" / "step_0.npz").write_bytes(b"none")
    with pytest.raises(InputError, match="not readable as features"):
        read_features(str(tmp_path / "run"), 0)


def test_a_finished_run_says_that_it_kept_no_features(tmp_path):
    tiny.make(tmp_path)
    tiny.train(tmp_path, "fine_tuning")
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        tiny.train_incremental.main(
            tiny.flags(tmp_path, "fine_tuning", "--run_dir", str(tmp_path / "run"), "--save_features")
        )
    assert "warning: this run is finished and kept no features" in out.getvalue()


def test_the_page_says_how_to_read_each(runs, tmp_path):
    said = report_runs.printed(runs, "--html", tmp_path / "page.html", "--figures", tmp_path / "figures")[0]
    html = (tmp_path / "page.html").read_text()
    for heading in ("Features of the network", "Gradients of loss terms"):
        assert f"<h2>{heading}</h2>\n<p>" in html.replace("<p>", "\n<p>").replace("\n\n", "\n")
    stems = {path.stem for path in (tmp_path / "figures").glob("*.svg")}
    for kind in ("features", "AV-CIL_cka", "AV-CIL_gradients", "LwF_gradients"):
        assert f"tiny_audio-visual_{kind}" in stems
    assert "left out" not in said
    assert json.loads((runs / "avcil-1" / "results.json").read_text())["arguments"]["method"] == "avcil"
