"""A run that was stopped goes on, ends as if it had not been, and is never mixed up with another."""

import contextlib
import json
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import time

import pytest
import torch

import train_incremental
from engine.checkpoints import CheckpointTimer
from tests.helpers import faults, tiny
from tests.helpers.children import Child
from tests.helpers.shared import REPO
from tests.helpers.tiny import change, refused

EVERY_EPOCH = ["--checkpoint_every", "1", "--max_epochs", "3"]


@pytest.fixture
def data(tmp_path):
    tiny.make(tmp_path)
    return tmp_path


@pytest.mark.parametrize("method", ["avcil", "afc", "upper_bound", "analytic"])
def test_killed_runs_end_like_the_undisturbed_one(tmp_path, method):
    assert faults.killed_runs(tmp_path, faults.training(method), random.Random(method), 3) == 3


def test_interrupted_within_a_step(data):
    """After every single epoch: stop there, start again."""
    expected = finish(data, "whole", "icarl")
    stop_after = StopAfter(1)
    for _ in range(9):
        with contextlib.suppress(Stopped), pytest.MonkeyPatch.context() as patch:
            patch.setattr("engine.step_log.StepLog.save", stop_after.save)
            finish(data, "stopped", "icarl")
    assert faults.same(finish(data, "stopped", "icarl"), expected)
    assert stop_after.epochs == 9


class Stopped(BaseException):
    pass


class StopAfter:
    """Stand in for StepLog.save: stop after so many epochs, once they are saved."""

    def __init__(self, count):
        from engine.step_log import StepLog

        self.really_save, self.count, self.epochs = StepLog.save, count, 0

    @property
    def save(self):
        def save(log, epoch, fit):
            self.really_save(log, epoch, fit)
            self.epochs += 1
            raise Stopped

        return save


def finish(data, name, method, *flags):
    run_dir = data / name
    train_incremental.main(tiny.flags(data, method, "--run_dir", str(run_dir), *EVERY_EPOCH, *flags))
    return faults.outcome(run_dir)


def test_a_finished_run_prints_its_table_again(data, capsys):
    finish(data, "run", "lwf")
    first = capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (data / "run").rglob("*")}
    # Even without the features.
    (data / "tiny" / "visual_pretrained_feature" / "visual_pretrained_feature_dict.npy").unlink()
    finish(data, "run", "lwf")
    again = capsys.readouterr().out
    remark, _, table = again.partition("\n")
    assert remark == "warning: the features of this run are not there, and could not be compared"
    assert first.endswith(table) and "Average Accuracy" in table and "Epoch" not in table
    assert before == {path: path.stat().st_mtime_ns for path in (data / "run").rglob("*")}


def test_a_run_killed_while_it_draws_is_not_called_finished(data, monkeypatch):
    """A sweep skips finished runs, and would never draw the pictures."""

    def stop(*_):
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr("train_incremental.draw", stop)
        with pytest.raises(Stopped):
            finish(data, "run", "lwf")
    assert not (data / "run" / "results.json").exists()
    finish(data, "run", "lwf")
    assert (data / "run" / "figures" / "accuracy.png").exists()


def test_other_arguments_are_refused(data):
    finish(data, "run", "lwf")
    line = refused(data, "--run_dir", str(data / "run"), *EVERY_EPOCH, "--seed", "3", method="lwf")
    assert "--seed 42 there, 3 now" in line and "--overwrite" in line
    finish(data, "run", "lwf", "--seed", "3", "--overwrite")
    assert json.loads((data / "run" / "results.json").read_text())["arguments"]["seed"] == 3


def test_changed_data_is_refused(data):
    with contextlib.suppress(Stopped), pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.step_log.StepLog.save", StopAfter(1).save)
        finish(data, "run", "lwf", "--modality", "audio")
    change(data, "audio", lambda arrays: arrays["-train_0_0"].__setitem__(0, 9))
    flags = ["--run_dir", str(data / "run"), *EVERY_EPOCH, "--modality", "audio"]
    assert "the data is not what the run began with" in refused(data, *flags, method="lwf")


def test_a_folder_of_something_else_is_left_alone(data):
    (data / "run").mkdir()
    (data / "run" / "thesis.txt").write_text("mine")
    line = refused(data, "--run_dir", str(data / "run"), "--overwrite")
    assert "not the folder of a run" in line and os.listdir(data / "run") == ["thesis.txt"]


def running(data, *flags):
    """A child in the middle of its training."""
    words = tiny.flags(data, "lwf", "--run_dir", str(data / "run"), "--checkpoint_every", "1", *flags)
    child = Child(lambda: train_incremental.main([*words, "--max_epochs", "100000"]), data)
    while child.runs() and not (data / "run" / "checkpoints" / "unfinished.pt").exists():
        time.sleep(0.01)
    assert child.runs(), child.said()
    return child


def test_a_second_process_of_the_same_run_is_told_so(data):
    flags = ["--checkpoint_every", "1", "--max_epochs", "100000"]
    with running(data) as first:
        line = refused(data, "--run_dir", str(data / "run"), *flags, method="lwf")
        assert "another process is writing this run" in line
        # Two with other arguments do not meet.
        finish(data, "other", "lwf", "--seed", "3")
        first.send(signal.SIGINT)
        assert first.wait() == 130
    assert first.said() == "error: interrupted; the same command goes on from here\n"


def test_an_interrupt_after_overwrite_says_how_to_go_on(data):
    with running(data, "--overwrite") as child:
        child.send(signal.SIGINT)
        assert child.wait() == 130
    assert child.said() == "error: interrupted; the same command without --overwrite goes on from here\n"


@pytest.mark.parametrize("seconds", [0.3, 0.7, 1.1])
def test_an_interrupt_while_packages_are_imported_is_one_line(data, seconds):
    command = [sys.executable, REPO / "train_incremental.py", *tiny.flags(data, "lwf", "--run_dir", data / "run")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    errors = process.communicate()[1]
    assert process.returncode == 130 and errors.startswith("error: interrupted") and errors.count("\n") == 1


def test_a_killed_process_leaves_no_lock(data):
    for _ in range(2):
        with running(data) as child:
            child.send(signal.SIGKILL)
        (data / "run" / "checkpoints" / "unfinished.pt").unlink()


@pytest.mark.parametrize("size", [200, 3000, 12_000])
def test_a_full_disk_ends_the_run_in_one_line_and_it_goes_on_when_there_is_room(data, size):
    expected = finish(data, "whole", "lwf")

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        train_incremental.main(tiny.flags(data, "lwf", "--run_dir", str(data / "run"), *EVERY_EPOCH))

    with Child(limited, data) as child:
        assert child.wait() == 2, child.said()
    assert len(child.said().splitlines()) == 1 and "File too large" in child.said()
    assert not (data / "run" / "results.json").exists()
    assert faults.same(finish(data, "run", "lwf"), expected)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(data):
    (data / "locked").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    assert "Permission denied" in refused(data, "--run_dir", str(data / "locked" / "run"))


def test_a_file_in_the_place_of_the_folder(data):
    (data / "run").write_text("")
    line = refused(data, "--run_dir", str(data / "run"))
    assert "run" in line


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-50]),
    "no zip": lambda path: path.write_bytes(b"garbage"),
    "hostile": lambda path: torch.save({"step": 0, "history": Hostile()}, path),
    "other": lambda path: torch.save([1], path),
}


class Hostile:
    def __reduce__(self):
        return os.system, ("touch /tmp/avcil-was-here",)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["step_0.pt", "unfinished.pt"])
def test_damaged_checkpoints(data, damage, name):
    finish(data, "run", "lwf")
    folder = data / "run" / "checkpoints"
    (data / "run" / "results.json").unlink()
    (folder / "step_2.pt").unlink()
    (folder / "step_1.pt").rename(folder / "unfinished.pt") if name == "unfinished.pt" else (
        folder / "step_1.pt"
    ).unlink()
    DAMAGE[damage](folder / name)
    line = refused(data, "--run_dir", str(data / "run"), *EVERY_EPOCH, method="lwf")
    assert name in line and "--overwrite" in line
    assert not os.path.exists("/tmp/avcil-was-here")


def test_loss_that_is_not_finite_names_its_batch(data):
    line = refused(data, "--run_dir", str(data / "run"), "--lr", "1e30", method="lwf")
    assert "step 0, epoch" in line and "batch 0" in line and "-train_" in line and "cross_entropy" in line


def test_no_better_than_guessing_is_said(data, capsys):
    finish(data, "run", "lwf", "--lr", "1e-12", "--max_epochs", "1", "--num_classes", "6")
    assert "did better on validation than guessing" in capsys.readouterr().out


def test_checkpoints_cost_a_small_share(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("engine.checkpoints.time.perf_counter", lambda: now[0])
    timer, spent = CheckpointTimer("auto"), 0.0

    def write():
        nonlocal spent
        now[0] += 0.5
        spent += 0.5

    for epoch in range(1000):
        now[0] += 0.1
        if timer.due(epoch):
            timer.timed(write)
    assert 0.02 < spent / now[0] < 0.06
    assert [epoch for epoch in range(6) if CheckpointTimer(3).due(epoch)] == [2, 5]
