"""What report.py refuses: one line that names the file, the value and the cure."""

import json
import os

import pytest

import report
from tests.helpers import report_runs
from tests.helpers.tiny import refused


@pytest.fixture
def run(tmp_path):
    report_runs.make(tmp_path / "runs" / "one")
    return tmp_path / "runs" / "one"


def line(*arguments):
    return refused(arguments[0], *map(str, arguments), main=report.main)


def edit(run, **values):
    path = run / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("accuracy_per_step", [], "a list of fractions"),
        ("accuracy_per_step", [0.5, "x", 1], "a list of fractions"),
        ("accuracy_per_step", [0.5, 50.0, 1], "a list of fractions"),
        ("accuracy_matrix", [[0.5], [0.5], [0.5]], "a row of fractions for each step"),
        ("accuracy_matrix", {"a": 1}, "a row of fractions for each step"),
        ("mean_accuracy", None, "a fraction"),
        ("mean_accuracy", float("nan"), "a fraction"),
        ("average_forgetting", "none", "a number from -1 to 1"),
        ("arguments", ["lwf"], "options with method"),
        ("arguments", {"method": "lwf"}, "options with method"),
        ("class_names", [1, 2], "a list of names"),
        ("class_names", ["one"], "no larger than class_names"),
        ("confusion", [[[1]], [[1, 2]]], "a square of counts"),
        ("confusion", [[[-1]]] * 3, "a square of counts"),
        ("confusion", [[], [], []], "a square of counts"),
        ("seconds_per_step", [10**400] * 3, "not a readable results file"),
        ("seconds_per_step", [1.0], "a number for each step"),
        ("test_clips_sharing_videos", "many", "a fraction, or null"),
        ("test_clips_sharing_videos", [0.1], "a fraction, or null"),
        ("versions", "2.0", "a dictionary of versions"),
        ("class_names", ["\ud800"], "not a readable results file"),
    ],
)
def test_results_of_another_shape(run, name, value, expected):
    edit(run, **{name: value})
    said = line(run)
    assert str(run / "results.json") in said and expected in said and "run the training again" in said


def test_deep_nesting(run):
    (run / "results.json").write_text("[" * 200_000)
    assert "not a readable results file" in line(run)


@pytest.mark.parametrize("sizes", [[2, 2], [10**9], [2, 4, 10**9], [1, 1, 1, 1, 1, 1, 1, 1]])
def test_classes_per_step_that_do_not_fit_the_steps(run, sizes):
    arguments = json.loads((run / "results.json").read_text())["arguments"]
    edit(run, arguments=arguments | {"classes_per_step": sizes})
    said = report_runs.printed(run, "--html", run / "page.html")[0]
    assert "left out: confusion between tasks of AV-CIL: its arguments do not tell the classes of each step" in said
    assert (run / "page.html").stat().st_size > 10_000


def test_names_do_not_steer_the_terminal_nor_a_spreadsheet(run):
    arguments = json.loads((run / "results.json").read_text())["arguments"]
    edit(run, arguments=arguments | {"dataset": "\x1b]0;title\x07", "method": "=1+1"})
    for layout in ("steps", "methods", "summary"):
        for format in ("text", "markdown", "latex", "csv"):
            out, errors = report_runs.printed(run, "--layout", layout, "--format", format)
            assert (out + errors).replace("\n", "").isprintable()
            if format == "csv":
                assert "'=1+1" in out


def test_one_seed_twice(run):
    os.rename(run, run.parent / "copied")
    report_runs.make(run)
    assert "seed 1 and all options as in" in line(run.parent)


def test_a_folder_given_twice_counts_once(run):
    assert "1 run, one seed each" in report_runs.printed(run, run.parent, run)[0]


def test_seeds_of_other_classes(run):
    report_runs.make(run.parent / "two", seed=2, names=[f"other {label}" for label in range(6)])
    assert "other steps or classes than" in line(run.parent)


@pytest.mark.parametrize(
    "text", ["step,epoch\n", "", "step,epoch,name,value\n0,0,loss,x\n", "step,epoch,name,value\n0,0\n"]
)
def test_epochs_of_another_shape(run, text):
    (run / "epochs.csv").write_text(text)
    assert str(run / "epochs.csv") in line(run, "--html", run / "page.html")
    assert not (run / "page.html").exists()


def test_no_options_differ(run):
    assert "use --layout methods" in line(run, "--layout", "options")


def test_styles(run, tmp_path):
    page = tmp_path / "page.html"
    assert "neither a file nor a style" in line(run, "--html", page, "--style", "nosuch")
    (tmp_path / "mine.mplstyle").write_text("lines.width: 3\n")
    assert "Bad key lines.width" in line(run, "--html", page, "--style", tmp_path / "mine.mplstyle")
    (tmp_path / "mine.mplstyle").write_text("lines.linewidth: thick\n")
    assert "thick" in line(run, "--html", page, "--style", tmp_path / "mine.mplstyle")
    assert "give --figures or --html" in line(run, "--style", "ggplot")
    assert not page.exists()
    (tmp_path / "mine.mplstyle").write_text("lines.linewidth: 3\n")
    assert "wrote" in report_runs.printed(run, "--html", page, "--style", tmp_path / "mine.mplstyle")[0]


def test_targets(run, tmp_path):
    (tmp_path / "file").write_text("")
    assert "is a folder; name a file" in line(run, "--html", tmp_path)
    assert "there is no folder" in line(run, "--html", tmp_path / "none" / "page.html")
    assert "File exists" in line(run, "--figures", tmp_path / "file")
    assert "Not a directory" in line(run, "--figures", tmp_path / "file" / "figures")


def test_a_target_that_fails_in_writing_is_named(run, tmp_path):
    # A folder stands where a figure goes.
    (tmp_path / "figures" / "tiny_audio-visual_accuracy.svg").mkdir(parents=True)
    said = line(run, "--figures", tmp_path / "figures")
    assert "tiny_audio-visual_accuracy.svg: cannot be written (Is a directory)" in said
    assert len(list((tmp_path / "figures").iterdir())) == 1


def test_what_is_not_the_table_stays_out_of_csv_and_latex(run, tmp_path):
    out, errors = report_runs.printed(run, "--format", "csv", "--figures", tmp_path / "figures")
    assert "wrote" in errors and "1 run, one seed" in errors
    assert len(out.splitlines()) == 2
    assert "1 run, one seed" in report_runs.printed(run, "--format", "latex")[1]


def test_a_single_step_and_no_epochs(tmp_path):
    report_runs.make(tmp_path / "run", classes=2)
    (tmp_path / "run" / "epochs.csv").write_text("step,epoch,name,value\n")
    said = report_runs.printed(tmp_path, "--html", tmp_path / "page.html", "--layout", "methods")[0]
    assert "left out: forgetting per task of AV-CIL: a single step has none" in said
    assert "left out: loss terms of AV-CIL: no rows in epochs.csv" in said
