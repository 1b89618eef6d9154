"""Every number of every table, recomputed from the rows of the runs with pandas."""

import io
import json

import pandas as pd
import pytest

import report
from reporting.published import PUBLISHED
from reporting.runs import find_runs, group_seeds, name_settings
from reporting.tables import Cell, mark_best
from tests.helpers import report_runs, tiny


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return report_runs.several(tmp_path_factory.mktemp("runs"))


def raw(root):
    """One row per run: its options, and its figures in per cent from steps.jsonl."""
    rows = []
    for folder in sorted(root.iterdir()):
        steps = pd.read_json(folder / "steps.jsonl", lines=True)
        matrix = pd.DataFrame([pd.Series(row) for row in steps.accuracy_by_task])
        drops = [(matrix[:step].max() - matrix.loc[step])[:step].mean() for step in matrix.index[1:]]
        options = json.loads((folder / "results.json").read_text())["arguments"]
        rows.append(
            {name: str(value) for name, value in options.items()}
            | {f"step {step}": 100 * value for step, value in steps.accuracy.items()}
            | {"mean acc.": 100 * steps.accuracy.mean(), "last acc.": 100 * steps.accuracy.iloc[-1]}
            | {"avg. forg.": 100 * pd.Series(drops).mean()}
        )
    return pd.DataFrame(rows)


def sheet(root, layout):
    return pd.read_csv(io.StringIO(report_runs.printed(root, "--layout", layout, "--format", "csv")[0]))


def check(row, expected, columns, group=""):
    for column in columns:
        head = f"{group} {column}".strip()
        assert row[head] == pytest.approx(expected[column].mean(), abs=1e-9)
        assert row[f"{head} sd"] == pytest.approx(expected[column].std(), abs=1e-9)


def of_row(table, name):
    """The runs of ``table`` that a row with this name is about."""
    words = name.split()
    chosen = table[table.method == words[0]]
    if "memory_size=" in name:
        chosen = chosen[chosen.memory_size == name.split("memory_size=")[1].split()[0]]
    if words[0] == "avcil":
        off = [words[index + 1] for index, word in enumerate(words) if word == "no"]
        for term in ("attn_score_distil", "task_distil"):
            chosen = chosen[chosen[term] == str(term not in off)]
    return chosen


def test_steps(runs):
    table, expected = sheet(runs, "steps"), raw(runs)
    assert len(table) == 3 * 2 + 3 + 3
    for _, row in table.iterrows():
        modality = row.method.split()[-1] if "memory" not in row.method else "audio-visual"
        mine = of_row(expected, row.method)
        mine = mine[mine.modality == (modality if modality == "audio" else "audio-visual")]
        assert len(mine) == 3
        check(row, mine, ["step 0", "step 1", "step 2", "mean acc.", "avg. forg."])


def test_methods(runs):
    table, expected = sheet(runs, "methods"), raw(runs)
    assert list(table.method) == [
        *("fine_tuning", "lwf"),
        *("icarl NME memory_size=6", "icarl NME memory_size=18", "icarl NME memory_size=60"),
        *("avcil", "avcil no task_distil", "avcil no attn_score_distil", "upper_bound"),
    ]
    for _, row in table.iterrows():
        mine = of_row(expected, row.method)
        for modality, of_modality in mine.groupby("modality"):
            assert len(of_modality) == 3
            check(row, of_modality, ["mean acc.", "avg. forg."], modality)
        assert pd.isna(row["audio mean acc."]) == ("audio" not in set(mine.modality))


def test_options(runs):
    table, expected = sheet(runs, "options"), raw(runs)
    assert {"table", "memory_size", "attn_score_distil", "task_distil"} <= set(table.columns)
    assert len(table) == 6 and (table.seeds == 3).all()
    for _, row in table.iterrows():
        if row.table.startswith("avcil"):
            terms = {"yes": "True", "no": "False"}
            mine = expected[expected.attn_score_distil == terms[row.attn_score_distil]]
            mine = mine[mine.task_distil == terms[row.task_distil]]
        else:
            mine = expected[(expected.method == "icarl") & (expected.memory_size == str(int(row.memory_size)))]
        assert len(mine) == 3
        check(row, mine, ["mean acc.", "last acc.", "avg. forg."])


@pytest.mark.parametrize("layout", ["steps", "methods", "options"])
@pytest.mark.parametrize("format", ["text", "markdown", "latex"])
def test_formats_show_the_same_numbers(runs, layout, format):
    shown = report_runs.printed(runs, "--layout", layout, "--format", format)[0]
    shown = shown.replace(r" $\pm$ ", " ± ").replace("$-$", "-")
    table = sheet(runs, layout)
    heads = [head for head in table.columns if f"{head} sd" in table.columns]
    pairs = [(row[head], row[f"{head} sd"]) for _, row in table.iterrows() for head in heads if pd.notna(row[head])]
    assert len(pairs) > 15
    assert all(f"{mean:.2f} ± {spread:.2f}" in shown for mean, spread in pairs)


@pytest.mark.parametrize(("format", "mark"), [("text", "{}*"), ("markdown", "**{}**"), ("latex", "\\textbf{{{}}}")])
def test_the_best_is_marked_and_the_ceiling_takes_no_part(tmp_path, format, mark):
    for name, accuracy in (("lwf", 0.5), ("ssil", 0.5), ("icarl", 0.4), ("upper_bound", 0.9)):
        results = report_runs.make(tmp_path / name, method=name)
        results |= {"mean_accuracy": accuracy, "average_forgetting": 1 - accuracy}
        (tmp_path / name / "results.json").write_text(json.dumps(results))
    shown = report_runs.printed(tmp_path, "--layout", "methods", "--format", format)[0]
    marked = mark.format("50.00")
    assert shown.count(marked) == 4
    assert mark.format("90.00") not in shown and mark.format("10.00") not in shown
    assert "takes no part" in shown


def test_published_numbers_stand_beside_ours(tmp_path):
    made = {}
    for method, classifier in (("avcil", "linear"), ("icarl", "FC"), ("icarl", "NME")):
        made[method, classifier] = report_runs.make(
            tmp_path / f"{method}{classifier}", method=method, classifier=classifier, dataset="AVE", task_distil=True
        )
    report_runs.make(tmp_path / "without", method="avcil", dataset="AVE", task_distil=False)
    table = sheet(tmp_path, "methods").set_index("method")
    for entry in PUBLISHED[:2]:
        row = table.loc["icarl FC" if entry["run"]["method"] == "icarl" else "avcil task_distil"]
        ours = made[entry["run"]["method"], entry["run"]["classifier"]]
        for key, short in (("mean_accuracy", "acc."), ("average_forgetting", "forg.")):
            assert row[f"audio-visual published {short}"] == entry[key]
            assert row[f"audio-visual diff. {short}"] == pytest.approx(100 * ours[key] - entry[key])
    assert table.loc[["icarl NME", "avcil no task_distil"], "audio-visual published acc."].isna().all()
    shown = report_runs.printed(tmp_path, "--layout", "methods")[0]
    assert "ICCV 2023" in shown and "num_classes 6 (28)" in shown and "memory_size 18 (340)" in shown


def test_latex_and_markdown_escape_names(tmp_path):
    report_runs.make(tmp_path / "run", dataset="a_b & 50%|*x*")
    assert r"a\_b \& 50\%|*x*" in report_runs.printed(tmp_path, "--layout", "methods", "--format", "latex")[0]
    assert r"a_b & 50%\|\*x\*" in report_runs.printed(tmp_path, "--layout", "methods", "--format", "markdown")[0]


def test_names_tell_runs_apart():
    base = {"method": "avcil", "classifier": "linear", "dataset": "d", "modality": "audio", "lam": 1, "a": True}
    settings = [base, base | {"lam": 2}, base | {"a": False}, base | {"lam": 2, "a": False}, base | {"dataset": "e"}]
    assert len(set(name_settings(settings))) == len(settings)
    assert name_settings([base]) == ["avcil"]
    long = name_settings([base, base | {"steps": [1] * 9999}, base | {"steps": [1] * 9998}])
    assert len(set(long)) == 3 and max(map(len, long)) < 150  # and not 20,000 signs in a legend
    assert name_settings([base, base | {"a": False}, base | {"lam": 3}]) == ["avcil", "avcil no a", "avcil lam=3"]


def test_an_option_that_older_runs_lack_is_one_that_is_not_set(tmp_path):
    report_runs.make(tmp_path / "old", seed=1)
    report_runs.make(tmp_path / "new", seed=2, milestones=None)
    assert len(group_seeds(find_runs([tmp_path]))) == 1


def test_rows_have_one_order_in_all_layouts(runs):
    order = ["Fine-tuning", "LwF", "iCaRL", "AV-CIL", "Upper"]
    for layout in ("steps", "summary", "methods"):
        for block in report_runs.printed(runs, "--layout", layout)[0].split("\n\n"):
            names = [line.split()[0] for line in block.splitlines() if line.split()[0] in order]
            assert names == sorted(names, key=order.index)


def test_names_in_print(runs):
    assert "AV-CIL no task_distil" in report_runs.printed(runs, "--layout", "methods", "--format", "latex")[0].replace(
        "\\_", "_"
    )
    said = report_runs.printed(runs, "--layout", "methods", "--names", "avcil=AV-CIL (ours)", "lwf=Li & Hoiem")[0]
    assert "AV-CIL (ours) no task_distil" in said and "Li & Hoiem" in said
    assert set(sheet(runs, "methods").method.str.split().str[0]) >= {"avcil", "lwf", "upper_bound"}
    for wrong, line in (("avcil", "not METHOD=NAME"), ("avcil= ", "not METHOD=NAME"), ("avcil=LwF", "two methods")):
        assert line in tiny.refused(runs, str(runs), "--names", wrong, main=report.main)


def test_the_best_is_not_marked_where_another_is_within_its_spread():
    def best(*cells):
        return [each.best for each in mark_best([Cell(*cell) for cell in cells], highest=True)]

    assert best((50.0, 3.0), (46.9, 0.1)) == [True, False]
    assert best((50.0, 3.0), (47.1, 0.1)) == [False, False]
    assert best((50.0, None), (47.1, 9.0)) == [True, False]
    assert best((50.0, 3.0), (None, None)) == [True, False]


def test_unfinished_runs_show_what_they_have_reached(tmp_path):
    made = {seed: report_runs.make(tmp_path / str(seed), seed) for seed in (1, 2, 3)}
    (tmp_path / "2" / "results.json").unlink()
    (tmp_path / "2" / "arguments.json").write_text(json.dumps(made[2]["arguments"]))
    steps = tmp_path / "2" / "steps.jsonl"
    lines = steps.read_text().splitlines(keepends=True)
    steps.write_text("".join(lines[:2]) + lines[2][:20])  # the third line is being written
    assert "2 runs" in report_runs.printed(tmp_path)[0]
    said = report_runs.printed(tmp_path, "--unfinished", "--html", tmp_path / "page.html")[0]
    assert "3 runs (1 unfinished: in no mean accuracy or forgetting)" in said
    table = pd.read_csv(io.StringIO(report_runs.printed(tmp_path, "--unfinished", "--format", "csv")[0]))
    assert table.runs[0] == "2 finished, 1 after 2 steps"
    for step, seeds in enumerate(((1, 2, 3), (1, 2, 3), (1, 3))):
        expected = pd.Series([100 * made[seed]["accuracy_per_step"][step] for seed in seeds])
        assert table[f"step {step}"][0] == pytest.approx(expected.mean())
        assert table[f"step {step} sd"][0] == pytest.approx(expected.std())
    assert table["mean acc."][0] == pytest.approx(50 * sum(made[seed]["mean_accuracy"] for seed in (1, 3)))
    (tmp_path / "1" / "results.json").unlink()
    (tmp_path / "3" / "results.json").unlink()
    assert "--unfinished shows" in tiny.refused(tmp_path, str(tmp_path), main=report.main)
    said = report_runs.printed(tmp_path, "--unfinished", "--html", tmp_path / "page.html")[0]
    assert "1 runs (1 unfinished" not in said and "1 after 2 steps" in said


def test_runs_on_different_data_are_told(tmp_path):
    for seed in (1, 2):
        report_runs.make(tmp_path / str(seed), seed)
        (tmp_path / str(seed) / "data.json").write_text(json.dumps({"sha256": "a"}))
    assert "different data" not in report_runs.printed(tmp_path)[0]
    (tmp_path / "2" / "data.json").write_text(json.dumps({"sha256": "b"}))
    assert "AV-CIL: its runs learned from different data" in report_runs.printed(tmp_path)[0]


def test_runs_on_other_splits_or_features_are_no_repetitions(tmp_path):
    for seed, splits in ((1, "a"), (2, "a"), (3, "b")):
        folder = tmp_path / str(seed)
        results = report_runs.make(folder, seed)
        (folder / "results.json").write_text(json.dumps(results | {"data": {"splits": splits, "audio": "c"}}))
    groups = group_seeds(find_runs([tmp_path]))
    assert [sorted(run.arguments["seed"] for run in runs) for _, runs in groups] == [[1, 2], [3]]
    assert groups[1][0].startswith("AV-CIL data=")


def test_ties_are_all_best():
    cells = mark_best([Cell(1.001), Cell(1.004), Cell(0.5), Cell(None)], highest=True)
    assert [each.best for each in cells] == [True, True, False, False]


def test_summary_pools_class_orders(tmp_path):
    """A row over seeds and class orders, with what the runs took."""
    for seed in (1, 2):
        for order in (0, 1, 2):
            folder = tmp_path / f"lwf-{seed}-{order}"
            names = [f"class {(label + order) % report_runs.CLASSES}" for label in range(report_runs.CLASSES)]
            results = report_runs.make(folder, seed, "lwf", names=names, class_order_seed=order)
            costs = {"seconds_per_step": [1.0, seed, order], "kept_bytes_per_step": [5, 6, 1e6 * seed]}
            (folder / "results.json").write_text(json.dumps(results | costs))
    flags = ("--layout", "summary", "--pool", "class_order_seed", "seed", "--format", "csv")
    table = pd.read_csv(io.StringIO(report_runs.printed(tmp_path, *flags)[0]))
    assert list(table.method) == ["lwf"]
    check(table.iloc[0], raw(tmp_path), ["last acc.", "mean acc.", "avg. forg."])
    seconds, kept = pd.Series([1 + seed + order for seed in (1, 2) for order in (0, 1, 2)]), pd.Series([1, 2] * 3)
    assert table["seconds"][0] == seconds.mean()
    assert table["seconds sd"][0] == pytest.approx(seconds.std())
    assert table["MB kept"][0] == kept.mean()
    assert len(sheet(tmp_path, "steps")) == 3  # not pooled: a row for each order
    with pytest.raises(SystemExit):
        report_runs.printed(tmp_path, "--pool", "no_such_option")
    # Confusion between classes cannot be summed over orders: it is left out, the rest is drawn.
    said = report_runs.printed(tmp_path, "--pool", "class_order_seed", "--figures", str(tmp_path / "figures"))[0]
    assert "confusion" in said
    assert not list((tmp_path / "figures").glob("*confusion*"))


def test_splits_with_and_without_shared_videos_are_told_apart(tmp_path):
    shares = {"leaky": 0.3254, "grouped": 0.0, "unknown": None}
    for number, (name, share) in enumerate(shares.items()):
        results = report_runs.make(tmp_path / name, method=("lwf", "ssil", "icarl")[number], dataset="VGGSound_100")
        if share is not None:
            (tmp_path / name / "results.json").write_text(json.dumps(results | {"test_clips_sharing_videos": share}))
    said = report_runs.printed(tmp_path)[0]
    assert "LwF: 32.5 % of the test clips share" in said
    assert "SS-IL: splits without shared source videos" in said
    assert "iCaRL" not in said.partition("per cent")[2] and "AV-CIL:" not in said
