"""A run touches nothing that is not its own, and shows no number that is not of today's data, options and code."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

import train_incremental
from engine import run_identity
from features import convert
from tests.helpers import tiny
from tests.helpers.shared import REPO
from tests.helpers.tiny import change, refused


@pytest.fixture
def data(tmp_path):
    tiny.make(tmp_path)
    return tmp_path


def run(data, *flags, method="lwf", name="run"):
    """Train, or print what is there; return what was printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        train_incremental.main(tiny.flags(data, method, "--run_dir", str(data / name), "--modality", "audio", *flags))
    return printed.getvalue()


def refuses(data, *flags, method="lwf"):
    return refused(data, "--run_dir", str(data / "run"), "--modality", "audio", *flags, method=method)


def listing(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("flags", [[], ["--overwrite"]])
def test_a_folder_of_hidden_files_is_left_alone(data, flags):
    home = data / "run"
    for name in (".git/config", ".ssh/id", ".bashrc"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("dear")
    before = listing(home)
    assert "is not the folder of a run" in refuses(data, *flags)
    assert listing(home) == before


def test_overwrite_removes_what_a_run_writes_and_nothing_else(data):
    run(data, "--tensorboard")
    own = {"notes.md", ".hidden", "figures/mine.pdf", "checkpoints/best.pt", "tensorboard/mine"}
    for name in own:
        (data / "run" / name).write_text("dear")
    run(data, "--overwrite", "--seed", "5")
    assert all((data / "run" / name).read_text() == "dear" for name in own)
    assert json.loads((data / "run" / "results.json").read_text())["arguments"]["seed"] == 5


@pytest.mark.parametrize("name", [".lock", "log.txt", "epochs.csv", "figures", "checkpoints", "tensorboard"])
def test_links_within_a_runs_folder_are_not_followed(data, name):
    target = data / "elsewhere"
    if "." in name:
        target.write_text("dear")
    else:
        target.mkdir()
        (target / ".hidden").write_text("dear")
        (target / "step_0.png").write_text("dear")
    (data / "run").mkdir()
    (data / "run" / name).symlink_to(target)
    before = listing(data)
    line = refuses(data)
    assert name in line and ("link" in line or "not the folder of a run" in line)
    assert listing(data) == before


@pytest.mark.parametrize("name", ["log.txt", "epochs.csv", "checkpoints/step_2.pt"])
def test_pipes_within_a_runs_folder_are_not_waited_for(data, name):
    run(data)
    (data / "run" / "results.json").unlink()
    (data / "run" / name).unlink()
    os.mkfifo(data / "run" / name)
    assert f"{name}: not a regular file" in refuses(data)


def test_links_that_appear_in_a_finished_run_are_not_followed(data):
    run(data)
    (data / "elsewhere").mkdir()
    (data / "elsewhere" / "step_0.png").write_text("dear")
    for path in (data / "run" / "figures").iterdir():
        path.unlink()
    (data / "run" / "figures").rmdir()
    (data / "run" / "figures").symlink_to(data / "elsewhere")
    assert "symbolic link" in refuses(data, "--overwrite")
    assert (data / "elsewhere" / "step_0.png").read_text() == "dear"


def test_a_finished_run_is_not_shown_for_other_features(data):
    run(data)
    change(data, "audio", lambda arrays: arrays["-train_0_0"].__setitem__(0, 9))
    line = refuses(data)
    assert "the data is not what the run began with" in line and "--overwrite" in line


def test_a_finished_run_is_not_shown_for_other_splits(data):
    run(data)
    path = data / "tiny" / "all_classId_vid_dict.npy"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"-test_0_1", b"-test_0_9"))
    categories = data / "tiny" / "all_id_category_dict.npy"
    categories.write_bytes(categories.read_bytes().replace(b"-test_0_1", b"-test_0_9"))
    line = refuses(data)
    assert "the splits have changed" in line and "--overwrite" in line


def test_features_that_were_only_touched_are_still_the_same(data):
    run(data)
    os.utime(tiny.features(data, "audio"), (1, 1))
    assert "Epoch" not in run(data) and "Average Accuracy" in run(data)


def test_changed_code_is_said_before_old_results_are_shown(data, monkeypatch):
    run(data)
    digests = json.loads((data / "run" / "results.json").read_text())["code"]
    assert {"methods/lwf.py", "engine/gradient.py", "model/network.py", "dataloader.py"} <= digests.keys()
    assert not any(path.startswith(("reporting", "tests", ".venv")) for path in digests)
    assert "code has changed" not in run(data)
    digest = run_identity._digest
    monkeypatch.setattr(run_identity, "_digest", lambda path: "new" if path == "methods/lwf.py" else digest(path))
    printed = run(data)
    assert printed.startswith("warning: the code has changed since this run (methods/lwf.py)")
    assert "Average Accuracy" in printed and "Epoch" not in printed


def test_data_that_moved_is_the_same_data(data, tmp_path_factory):
    run(data, "--max_epochs", "1")
    moved = tmp_path_factory.mktemp("moved")
    tiny.make(moved)
    flags = tiny.flags(moved, "lwf", "--run_dir", str(data / "run"), "--modality", "audio", "--max_epochs", "1")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        train_incremental.main(flags)
    assert "Epoch" not in printed.getvalue() and "Average Accuracy" in printed.getvalue()


def unfinished(data, name="run", **options):
    """A run of which only the first step is finished."""
    run(data, name=name, **options)
    folder = data / name / "checkpoints"
    (data / name / "results.json").unlink()
    for step in (1, 2):
        (folder / f"step_{step}.pt").unlink()
    return folder


def test_a_checkpoint_of_another_seed_is_refused(data):
    folder = unfinished(data)
    run(data, "--seed", "7", name="other")
    (data / "other" / "checkpoints" / "step_0.pt").rename(folder / "step_0.pt")
    line = refuses(data)
    assert "step_0.pt: a checkpoint of another run (--seed 7 there, 42 now)" in line


def test_a_checkpoint_of_another_method_is_refused(data):
    folder = unfinished(data)
    run(data, method="fine_tuning", name="other")
    (data / "other" / "checkpoints" / "step_0.pt").rename(folder / "step_0.pt")
    assert "--method fine_tuning there, lwf now" in refuses(data)


def test_a_checkpoint_of_another_step_is_refused(data):
    run(data)
    (data / "run" / "results.json").unlink()
    folder = data / "run" / "checkpoints"
    (folder / "step_2.pt").unlink()
    (folder / "step_0.pt").replace(folder / "step_1.pt")
    shutil.copy(folder / "step_1.pt", folder / "step_0.pt")
    assert "step_1.pt: a checkpoint of step 0" in refuses(data)


def without(*path):
    def spoil(content):
        place = content
        for name in path[:-1]:
            place = place[name]
        del place[path[-1]]

    return spoil


def with_value(value, *path):
    def spoil(content):
        place = content
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value

    return spoil


SPOILT = {
    "no learner": without("learner"),
    "no network": without("learner", "network"),
    "no history": without("history"),
    "no random state": without("random"),
    "no generator": without("random", "torch"),
    "other generator": with_value(torch.zeros(3, dtype=torch.uint8), "random", "torch"),
    "other python state": with_value([3, [1, 2], None], "random", "python"),
    "no sizes": with_value([], "learner", "sizes"),
    "text for sizes": with_value("two", "learner", "sizes"),
    "other shapes": with_value([4], "learner", "sizes"),
    "no rows": with_value([], "history", "rows"),
    "rows of text": with_value(["a"], "history", "rows"),
    "unknown history": with_value({"a": 1}, "history"),
    "half a line": with_value(["0,0,train_"], "history", "epoch_lines"),
    "no arguments": without("arguments"),
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_checkpoint_of_other_content_ends_in_one_line(data, spoil):
    path = unfinished(data) / "step_0.pt"
    content = torch.load(path, weights_only=True)
    SPOILT[spoil](content)
    torch.save(content, path)
    line = refuses(data)
    assert "step_0.pt" in line and "--overwrite" in line


SPOILT_WITHIN = {
    "no rows": without("rows"),
    "other rows": with_value([], "rows"),
    "no fit": without("fit"),
    "no optimiser": without("fit", "optimiser"),
    "other optimiser": with_value({"means": [], "squares": [], "steps": []}, "fit", "optimiser"),
    "no best": with_value(None, "fit", "best"),
    "moments of other shapes": with_value(torch.zeros(2), "fit", "optimiser", "means", 0),
    "text for seconds": with_value("a while", "seconds"),
    "no lines": without("lines"),
}


@pytest.mark.parametrize("spoil", SPOILT_WITHIN)
def test_a_checkpoint_within_a_step_of_other_content_ends_in_one_line(data, spoil, monkeypatch):
    class StoppedError(BaseException):
        pass

    def stop(*_):
        raise StoppedError

    with monkeypatch.context() as patch, contextlib.suppress(StoppedError):
        patch.setattr("engine.gradient.GradientLearner.end_task", stop)
        run(data, "--checkpoint_every", "1")
    path = data / "run" / "checkpoints" / "unfinished.pt"
    content = torch.load(path, weights_only=True)
    SPOILT_WITHIN[spoil](content)
    torch.save(content, path)
    line = refuses(data, "--checkpoint_every", "1")
    assert "unfinished.pt" in line and "--overwrite" in line


def test_running_out_of_memory_is_one_line_that_names_what_to_lower(data, monkeypatch):
    def exhausted(*_):
        torch.empty(2**60)

    monkeypatch.setattr("engine.gradient.GradientLearner.train_epoch", exhausted)
    line = refuses(data)
    assert "out of memory" in line and "--train_batch_size" in line


def test_a_thread_that_cannot_be_started_is_one_line(data, monkeypatch):
    def start(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("engine.gradient.GradientLearner.train_epoch", start)
    assert "can't start new thread: too little memory" in refuses(data)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize(
    "command", [["report.py", "--help"], ["run_all.py", "--help"], ["train_incremental.py", "--help"]]
)
def test_help_that_cannot_be_written_is_no_success(command):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, REPO / command[0], *command[1:]],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (2, "error: No space left on device: standard output\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_cannot_be_written_ends_the_run_in_one_line(data):
    command = [sys.executable, REPO / "train_incremental.py", *tiny.flags(data, "lwf", "--modality", "audio")]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: No space left on device: standard output\n"


def test_features_in_another_form_are_compared_once(data, monkeypatch):
    run(data)
    convert.main(["--dataset", "tiny", "--data_root", str(data)])
    before = json.loads((data / "run" / "results.json").read_text())
    run(data)  # reads the features, and finds them to be the same
    monkeypatch.setattr(train_incremental, "open_run_data", lambda *_: pytest.fail("the features are read once more"))
    run(data)
    assert json.loads((data / "run" / "results.json").read_text()) == before
