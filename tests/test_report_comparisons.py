"""Comparisons in pairs and figures by class, recomputed from the score files with pandas, scikit-learn and SciPy."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

import report
from engine import scores
from engine.run_files import RunResults
from engine.scores import read_scores, write_scores
from reporting.layouts import cells_of, summary_tables
from reporting.paired import compare, differences, holm, mcnemar, paired_tables
from reporting.runs import find_runs
from tests.helpers import report_runs, tiny
from utils.errors import InputError

SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for seed in SEEDS:
        for method in ("lwf", "avcil", "fine_tuning"):
            report_runs.make(root / f"{method}-{seed}", seed, method, kept=True)
    return root


def kept(root, method, seed, step=2):
    """Labels and predictions of the file of scores, read as a user would."""
    file = np.load(root / f"{method}-{seed}" / "scores" / f"step_{step}.npz")
    return file["label"], file["scores"].argmax(1), file["scores"].astype(float)


def sheet(root, *more):
    return pd.read_csv(io.StringIO(report_runs.printed(root, *more, "--format", "csv")[0]))


def test_scores_say_what_was_predicted_and_how_likely(tmp_path):
    rng = np.random.default_rng(0)
    given = (rng.standard_normal((500, 7)) * 10.0 ** rng.integers(-6, 6, (500, 1))).astype(np.float32)
    given[0] = [3, 3, 1, 3, 0, -np.inf, 0]  # a tie: the first is predicted
    given[1, 2] = np.nan
    label = rng.integers(0, 7, 500)
    write_scores(str(tmp_path / "scores" / "step_4.npz"), [f"-clip {n}" for n in range(500)], label, given)
    read = read_scores(str(tmp_path), 4)
    np.testing.assert_array_equal(read.prediction, given.argmax(1))
    np.testing.assert_array_equal(read.label, label)
    assert read.clip[7] == "-clip 7" and read.scores.dtype == np.float16
    usual = slice(2, None)
    less = given[usual] - given[usual].max(1, keepdims=True)
    # Half precision: 11 bits, and nothing smaller than 2**-24 nor larger than 65504.
    np.testing.assert_allclose(read.scores[usual], np.clip(less, -65504, None), rtol=2**-11, atol=2**-23)
    assert (read.scores == 0).sum() == 500
    assert read_scores(str(tmp_path), 5) is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"none"])
def test_damaged_scores_are_one_line(tmp_path, content):
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "step_0.npz").write_bytes(content)
    with pytest.raises(InputError, match="not readable as scores"):
        read_scores(str(tmp_path), 0)


def test_scores_of_other_arrays_are_refused(tmp_path):
    (tmp_path / "scores").mkdir()
    path = tmp_path / "scores" / "step_0.npz"
    good = {
        "clip": np.frombuffer(b"a", np.uint8),
        "label": np.zeros(1, np.int32),
        "scores": np.zeros((1, 1), np.float16),
    }
    np.savez(path, **good)
    assert read_scores(str(tmp_path), 0).clip.tolist() == ["a"]
    for wrong in (
        {"label": np.ones(1, np.int32)},
        {"label": np.zeros(2, np.int32)},
        {"scores": np.full((1, 1), -1, np.float16)},
        {"scores": np.zeros(1, np.float16)},
        {"clip": np.array([object()])},
    ):
        np.savez(path, **(good | wrong))
        with pytest.raises(InputError, match="not readable as scores"):
            read_scores(str(tmp_path), 0)


def test_scores_damaged_anywhere_are_read_or_refused_in_a_line(runs, tmp_path):
    content = (runs / "avcil-1" / "scores" / "step_2.npz").read_bytes()
    (tmp_path / "scores").mkdir()
    rng, refused = np.random.default_rng(0), 0
    for _ in range(500):
        damaged = bytearray(content[: rng.integers(len(content))] if rng.random() < 0.2 else content)
        for place in rng.integers(0, max(len(damaged), 1), rng.integers(1, 4)) if damaged else ():
            damaged[place] = rng.integers(256)
        (tmp_path / "scores" / "step_0.npz").write_bytes(damaged)
        try:
            read_scores(str(tmp_path), 0)
        except InputError as error:
            refused += "not readable as scores" in str(error) and "\n" not in str(error)
    assert refused > 400


def test_scores_that_unpack_to_too_much_are_refused(tmp_path, monkeypatch):
    write_scores(str(tmp_path / "scores" / "step_0.npz"), ["a"] * 50_000, np.zeros(50_000, int), np.zeros((50_000, 3)))
    assert (tmp_path / "scores" / "step_0.npz").stat().st_size < 10_000
    assert len(read_scores(str(tmp_path), 0).clip) == 50_000
    monkeypatch.setattr(scores, "LARGEST", 100_000)
    with pytest.raises(InputError, match="unpacks to more than"):
        read_scores(str(tmp_path), 0)


def test_paired(runs):
    table = sheet(runs, "--layout", "paired", "--against", "avcil")
    table = table[table.table.str.startswith("last acc.")].set_index("method")
    assert list(table.index) == ["fine_tuning", "lwf"]
    for method, row in table.iterrows():
        accuracy = {name: [accuracy_score(*kept(runs, name, seed)[:2]) for seed in SEEDS] for name in (method, "avcil")}
        less = 100 * (pd.Series(accuracy[method]) - pd.Series(accuracy["avcil"]))
        assert row.pairs == 3 and row.difference == pytest.approx(less.mean())
        assert row["difference sd"] == pytest.approx(less.std())
        low, high = stats.t.interval(0.95, 2, less.mean(), stats.sem(less))
        assert (row["95 % from"], row["95 % to"]) == pytest.approx((low, high))
        # The interval is that of the paired t-test.
        test = stats.ttest_rel(accuracy[method], accuracy["avcil"]).confidence_interval(0.95)
        assert (100 * test.low, 100 * test.high) == pytest.approx((low, high))
        assert row["wins / ties / losses"] == f"{(less > 0).sum()} / {(less == 0).sum()} / {(less < 0).sum()}"
        sure = [_mcnemar(runs, method, "avcil", seed) < 0.05 for seed in SEEDS]
        assert row["McNemar p"] == f"{sum(sure)} of 3"


def _mcnemar(runs, method, other, seed):
    right = [np.equal(*kept(runs, name, seed)[:2]) for name in (method, other)]
    (_, only), (other_only, _) = confusion_matrix(~right[0], ~right[1])
    return stats.binomtest(only, only + other_only).pvalue


def test_mcnemar_of_one_pair_whatever_the_order_of_clips(runs, tmp_path):
    pair = {run.arguments["method"]: run for run in find_runs([runs]) if run.arguments["seed"] == 2}
    expected = _mcnemar(runs, "lwf", "avcil", 2)
    assert mcnemar(pair["lwf"], pair["avcil"]) == pytest.approx(expected)
    assert mcnemar(pair["lwf"], pair["lwf"]) == 1
    shuffled = report_runs.make(tmp_path / "other", seed=2, kept=True)
    (path,) = (tmp_path / "other" / "scores").glob("step_2.npz")
    read = read_scores(pair["avcil"].folder, 2)
    order = np.random.default_rng(0).permutation(len(read.clip))
    write_scores(str(path), list(read.clip[order]), read.label[order], read.scores[order])
    other = RunResults.from_json(shuffled, str(tmp_path / "other" / "results.json"))
    assert mcnemar(pair["lwf"], other) == pytest.approx(expected)


def drawn(rng, method, mean, seeds=5):
    """Runs in memory whose figures are drawn around ``mean``, as by name and runs."""
    runs = []
    for seed in range(seeds):
        accuracy, last, forgetting = rng.normal(mean, 0.02, 3)
        arguments = report_runs.arguments(seed, method, report_runs.CLASSES, {})
        runs.append(RunResults("nowhere", arguments, [accuracy], [[accuracy]], accuracy, last, forgetting))
    return method, runs


def winners(rng, *means):
    groups = [drawn(rng, f"method_{number}", mean) for number, mean in enumerate((0.6, *means))]
    return sum(row[2].best for table in paired_tables(groups, "method_0") for row in table.rows)


@pytest.mark.parametrize("rows", [1, 4])
def test_no_winner_where_there_is_none(rows):
    """Of runs equal in distribution a winner is called, in any row or measure, in at most one of twenty trials."""
    rng = np.random.default_rng(5)
    called = [winners(rng, *[0.6] * rows) > 0 for _ in range(120)]
    assert np.mean(called) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 120)


def test_no_winner_between_two_halves_of_the_seeds_of_one_method():
    """In at least 19 of 20 trials; the summary's marks, corrected within each column alone, in at least 17."""
    rng, called = np.random.default_rng(0), {"paired": 0, "summary": 0}
    for _ in range(20):
        groups = [drawn(rng, half, 0.6) for half in ("first half", "second half")]
        tables = {"paired": paired_tables(groups, "first half"), "summary": summary_tables(groups)}
        for layout, of_layout in tables.items():
            cells = [each for table in of_layout for row in table.rows for each in row]
            called[layout] += any(getattr(each, "best", False) for each in cells)
    assert called["paired"] <= 1 and called["summary"] <= 3


def test_marks_follow_from_the_paired_test():
    for seed in range(8):
        rng = np.random.default_rng(seed)
        groups = [drawn(rng, f"method_{number}", mean) for number, mean in enumerate((0.6, 0.62, 0.5))]
        cells = cells_of(("last_accuracy", "", True), [runs for _, runs in groups])
        values = [[run.last_accuracy for run in runs] for _, runs in groups]
        best = int(np.argmax(np.mean(values, 1)))
        pvalues = sorted(stats.ttest_rel(values[best], values[other]).pvalue for other in range(3) if other != best)
        expected = pvalues[0] <= 0.025 and pvalues[1] <= 0.05
        assert [each.best for each in cells] == [expected and index == best for index in range(3)]


def test_a_real_difference_is_called():
    assert winners(np.random.default_rng(1), 0.75) == 3


def test_intervals_hold_the_true_difference_as_often_as_they_say():
    rng = np.random.default_rng(1)
    limits = np.array([compare(rng.normal(0.03, 0.02, 5))[1:] for _ in range(600)])
    held = ((limits[:, 0] <= 0.03) & (limits[:, 1] >= 0.03)).mean()
    assert abs(held - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 600)


def test_holm_by_hand():
    assert holm([0.04, None, 0.01, 0.02]) == [True, False, True, True]
    assert holm([0.04, 0.03, 0.01]) == [False, False, True]
    assert holm([0.02, 0.03]) == [True, True] and holm([0.03, 0.06]) == [False, False] and holm([None]) == [False]


def test_only_runs_of_one_seed_and_class_order_are_pairs(tmp_path):
    for method, draws in (("avcil", [(1, 0), (1, 1), (2, 0)]), ("lwf", [(1, 1), (2, 0), (3, 0)])):
        for seed, order in draws:
            report_runs.make(tmp_path / f"{method}-{seed}-{order}", seed, method, class_order_seed=order)
    table = sheet(tmp_path, "--layout", "paired", "--against", "avcil", "--pool", "class_order_seed")
    assert set(table.pairs) == {2}
    results = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("*/results.json")}
    less = [
        results[f"lwf-{draw}"]["mean_accuracy"] - results[f"avcil-{draw}"]["mean_accuracy"] for draw in ("1-1", "2-0")
    ]
    assert table.difference[0] == pytest.approx(50 * sum(less))


def test_what_cannot_be_compared_is_said(runs, tmp_path):
    def line(*more):
        return tiny.refused(tmp_path, str(runs), *more, main=report.main)

    assert "give both, or neither" in line("--layout", "paired")
    assert "give both, or neither" in line("--against", "avcil")
    assert "no row of tiny, audio-visual; name one of" in line("--layout", "paired", "--against", "none")
    report_runs.make(tmp_path / "alone")
    refused = tiny.refused(
        tmp_path, str(tmp_path / "alone"), "--layout", "paired", "--against", "avcil", main=report.main
    )
    assert "no other row" in refused
    assert differences([], [], "mean_accuracy").shape == (0,) and compare(np.zeros(3)) is None


def test_classes(runs):
    table = sheet(runs, "--layout", "classes")
    table = table[table.table == "avcil, tiny, audio-visual"].set_index("class")
    assert len(table) == 6 and table.forgetting.dropna().is_monotonic_decreasing
    by_seed = []
    for seed in SEEDS:
        precision, recall, f1, _ = precision_recall_fscore_support(*kept(runs, "avcil", seed)[:2], zero_division=0)
        earlier = [
            precision_recall_fscore_support(*kept(runs, "avcil", seed, step)[:2], zero_division=0)[1] for step in (0, 1)
        ]
        best = pd.DataFrame([pd.Series(each) for each in earlier]).max().reindex(range(6))
        by_seed.append(pd.DataFrame({"recall": recall, "precision": precision, "F1": f1, "forgetting": best - recall}))
    for label in range(6):
        for name in by_seed[0]:
            values = 100 * pd.Series([each[name][label] for each in by_seed])
            row = table.loc[f"class {label}"]
            assert row[name] == pytest.approx(values.mean(), nan_ok=True)
            assert row[f"{name} sd"] == pytest.approx(values.std(), nan_ok=True)
        assert row["learned in step"] == label // 2 and row["test clips"] == report_runs.CLIPS


def test_errors_and_ages(runs):
    table = sheet(runs, "--layout", "classes")
    errors = table[table.table.str.startswith("Errors")].set_index("method").loc["lwf"]
    ages = table[table.table.str.startswith("Classes by age")].set_index("method").loc["lwf"]
    rows = []
    for seed in SEEDS:
        label, prediction, given = kept(runs, "lwf", seed)
        own = pd.DataFrame(given).where(np.arange(6) // 2 == label[:, None] // 2)
        of_task = pd.Series(label == prediction).groupby(label // 2).mean()
        rows.append(
            {
                "last acc.": (label == prediction).mean(),
                "task-aware": (own.idxmax(axis=1) == label).mean(),
                "wrong in own task": ((label // 2 == prediction // 2) & (label != prediction)).mean(),
                "wrong task": (label // 2 != prediction // 2).mean(),
                "towards newest": (prediction // 2 == 2).mean() - (label // 2 == 2).mean(),
                "newest": of_task[2],
                "1 step ago": of_task[1],
                "2 steps ago": of_task[0],
            }
        )
    for name, values in (100 * pd.DataFrame(rows)).items():
        row = ages if name in ages.dropna() else errors
        assert row[name] == pytest.approx(values.mean()) and row[f"{name} sd"] == pytest.approx(values.std())
    summary = sheet(runs, "--layout", "summary").set_index("method")
    assert summary["task-aware"]["lwf"] == errors["task-aware"]


def test_rows_without_confusions_have_no_classes(tmp_path):
    report_runs.make(tmp_path / "run", confusion=False)
    assert "no row has confusions" in tiny.refused(tmp_path, str(tmp_path), "--layout", "classes", main=report.main)
    report_runs.printed(tmp_path, "--html", tmp_path / "page.html")
    assert "Errors and ages" not in (tmp_path / "page.html").read_text()


def test_the_page_has_comparisons_and_errors(runs, tmp_path):
    report_runs.printed(runs, "--layout", "paired", "--against", "LwF", "--html", tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    for heading in ("Compared in pairs", "Accuracy, forgetting, cost", "Errors and ages"):
        assert f"<h2>{heading}</h2>" in html
