"""Sweeps: all that is asked for runs once, side by side, and one failure does not stop the rest."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import run_all
import train_incremental
from engine.options import parse, resolve
from engine.run_files import LOCK
from tests.helpers import report_runs, tiny
from tests.helpers.children import Child
from tests.helpers.shared import REPO
from tests.helpers.tiny import refused
from utils.files import file_lock

METHODS = ["--methods", "fine_tuning", "icarl", "--modalities", "audio", "visual"]
FINE_TUNING = ["--methods", "fine_tuning", "--modalities", "audio"]
THREE = ["--methods", "fine_tuning", "icarl", "--modalities", "audio"]
# Stands for train_incremental.py: says in the file ``done`` that it was called, and does WORK in the run's folder.
STAND_IN = """
import json, pathlib, signal, sys
root = pathlib.Path({root!r})
with open(root / "done", "a") as done:
    print(*sys.argv[1:], file=done)
folder = pathlib.Path(json.loads((root / "folders").read_text())[" ".join(sys.argv[1:])])
folder.mkdir(parents=True, exist_ok=True)
"""
FINISH = """
for name in ("arguments.json", "results.json"):
    (folder / name).write_text((root / "made" / "results.json").read_text())
"""
LAST = "(folder / 'unfinished.pt').touch(); signal.pause()"


def flags(root, *more):
    common = ["--data_root", str(root), "--save_root", str(root / "save"), "--dataset", "tiny", "--max_epochs", "1"]
    return [*common, "--classes_per_step", "2", "--memory_size", "18", *more]


def sweep(root, *more):
    with pytest.raises(SystemExit) as ended:
        run_all.main(flags(root, "--jobs", "2", *more))
    return ended.value.code


def dry_run(capsys, root, *more):
    """The commands that a dry run prints, as lists of words."""
    capsys.readouterr()
    run_all.main(flags(root, *more, "--dry_run"))
    return [shlex.split(line) for line in capsys.readouterr().out.split("\n") if line]


def stand_in(root, monkeypatch, work, *more):
    """Let ``work`` be done in the place of each training of this sweep."""
    path = root / "stand_in.py"
    path.write_text(STAND_IN.format(root=str(root)) + work + "\n")
    monkeypatch.setattr(run_all, "TRAIN", str(path))
    report_runs.make(root / "made")
    runs = run_all.planned(*run_all.read(flags(root, *more)))
    (root / "folders").write_text(json.dumps({" ".join(run.command[2:]): run.folder for run in runs}))
    return runs


def test_everything_runs_once_and_a_failure_stops_nothing(tmp_path, capsys):
    tiny.make(tmp_path)
    assert {command[3] for command in dry_run(capsys, tmp_path, *METHODS)} == {"fine_tuning", "icarl"}
    assert len(dry_run(capsys, tmp_path, *METHODS)) == 6
    # In the place of the second run's folder stands something else; the third begins once a place is free.
    (blocked,) = (run for run in run_all.planned(*run_all.read(flags(tmp_path, *THREE))) if "NME" in run.name)
    os.makedirs(blocked.folder)
    thesis = os.path.join(blocked.folder, "checkpoints")
    with open(thesis, "w") as file:
        file.write("")
    with open(os.path.join(blocked.folder, "arguments.json"), "w") as file:
        json.dump(vars(resolve(parse(blocked.command[2:])[0], tiny.CLASSES)), file)
    assert sweep(tmp_path, *THREE) == 1
    captured = capsys.readouterr()
    assert "[2 finished, 0 running, 1 failed, 0 waiting]" in captured.out
    assert "2 of 3 runs finished; python report.py" in captured.out
    assert captured.err.splitlines()[-1].startswith("error: icarl NME audio seed 42: ")
    run_all.main(flags(tmp_path, *THREE, "--status"))
    states = capsys.readouterr().out.splitlines()
    assert len([line for line in states if ": finished: last accuracy 0." in line]) == 2
    assert "icarl NME audio seed 42: stopped after 0 steps" in states
    os.unlink(thesis)
    assert sweep(tmp_path, *THREE) == 0
    assert "3 runs, 2 of them finished" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "save").rglob("results.json")}
    assert sweep(tmp_path, *THREE) == 0 and len(before) == 3
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "save").rglob("results.json")}


def test_overwrite_runs_again_and_a_seed_named_twice_runs_once(tmp_path, capsys, monkeypatch):
    tiny.make(tmp_path)
    sweeps = [*FINE_TUNING, "--seeds", "0", "0", "--overwrite"]
    stand_in(tmp_path, monkeypatch, FINISH, *sweeps)
    for count in (1, 2):
        assert sweep(tmp_path, *sweeps) == 0
        assert "1 runs, 0 of them finished" in capsys.readouterr().out
        assert len((tmp_path / "done").read_text().splitlines()) == count


def test_results_of_data_that_has_changed_since_are_not_taken_for_finished(tmp_path, capsys):
    folder = tiny.make(tmp_path)
    (command,) = dry_run(capsys, tmp_path, *FINE_TUNING)
    train_incremental.main(command[2:])
    assert dry_run(capsys, tmp_path, *FINE_TUNING) == []
    feature = folder / "audio_pretrained_feature" / "audio_pretrained_feature_dict.npy"
    os.utime(feature, (0, 0))  # its content may be another: the run looks, and finds that it is not
    assert dry_run(capsys, tmp_path, *FINE_TUNING) == [command]
    train_incremental.main(command[2:])
    assert "Epoch" not in capsys.readouterr().out
    tiny.change(tmp_path, "audio", lambda arrays: arrays.update({"-test_0_0": -arrays["-test_0_0"]}))
    assert dry_run(capsys, tmp_path, *FINE_TUNING) == [command]
    with pytest.raises(SystemExit, match="2"):
        train_incremental.main(command[2:])
    assert "the data is not what the run began with" in capsys.readouterr().err
    classes = np.load(folder / "all_classId_vid_dict.npy", allow_pickle=True).item()
    classes["test"][0].pop()
    np.save(folder / "all_classId_vid_dict.npy", classes)
    with pytest.raises(SystemExit):
        run_all.main(flags(tmp_path, *FINE_TUNING))
    assert "the splits have changed since this run" in capsys.readouterr().err


def test_a_run_of_another_process_is_waited_for(tmp_path, monkeypatch):
    tiny.make(tmp_path)
    (run,) = stand_in(tmp_path, monkeypatch, FINISH, *FINE_TUNING)
    os.makedirs(run.folder)
    with Child(lambda: run_all.main(flags(tmp_path, *FINE_TUNING)), tmp_path) as child:
        with file_lock(os.path.join(run.folder, LOCK), "this run"):
            wait_for(lambda: not child.runs() or "another process is at it" in child.said("out"))
            assert run.is_running() is False  # a process does not keep itself out
            assert child.runs() and not (tmp_path / "done").exists()
        assert child.wait() == 0
        assert "1 of 1 runs finished" in child.said("out")


# The first time, another process begins while it loads its libraries.
OVERTAKEN = """
if len((root / "done").read_text().splitlines()) == 1:
    (root / "loading").touch()
    while not (root / "overtaken").exists():
        pass
    sys.exit("error: another process is writing this run")
"""


def test_a_run_that_another_process_overtakes_is_waited_for_as_well(tmp_path, monkeypatch):
    tiny.make(tmp_path)
    (run,) = stand_in(tmp_path, monkeypatch, OVERTAKEN + FINISH, *FINE_TUNING)
    with Child(lambda: run_all.main(flags(tmp_path, *FINE_TUNING)), tmp_path) as child:
        wait_for(lambda: not child.runs() or (tmp_path / "loading").exists())
        os.makedirs(run.folder, exist_ok=True)
        with file_lock(os.path.join(run.folder, LOCK), "this run"):
            (tmp_path / "overtaken").touch()
            wait_for(lambda: not child.runs() or "another process is at it" in child.said("out"))
        assert child.wait() == 0
        assert "1 of 1 runs finished" in child.said("out")


def wait_for(condition, seconds=120):
    latest = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < latest
        time.sleep(0.02)


def test_slurm_lists_exactly_the_runs_whatever_their_words(tmp_path, capsys):
    root = tmp_path / 'it\'s a "$(touch here)" folder'
    tiny.make(root)
    file = tmp_path / "array.sh"
    run_all.main(flags(root, *METHODS, "--seeds", "0", "1", "--slurm", str(file)))
    assert f"Wrote {file}: an array of 12 runs" in capsys.readouterr().out
    text = file.read_text()
    assert "#SBATCH --array=0-11" in text
    check_script(file)
    listed = [shlex.split(line)[:-2] for line in text.splitlines() if "train_incremental" in line]
    assert listed == dry_run(capsys, root, *METHODS, "--seeds", "0", "1")
    assert not (tmp_path / "here").exists() and not os.path.exists("here")


def check_script(file):
    subprocess.run(["bash", "-n", file], check=True)
    shellcheck = os.path.join(os.path.dirname(sys.executable), "shellcheck")
    done = subprocess.run([shellcheck, file], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stdout


def test_a_task_of_a_slurm_array_does_all_its_runs_and_fails_if_one_does(tmp_path, monkeypatch):
    tiny.make(tmp_path)
    note = tmp_path / "note.py"
    note.write_text(
        f"import sys\nopen({str(tmp_path / 'done')!r}, 'a').write(' '.join(sys.argv[1:]) + chr(10))\n"
        "sys.exit('icarl' in sys.argv)\n"
    )
    monkeypatch.setattr(run_all, "TRAIN", str(note))
    file = tmp_path / "array.sh"
    more = ["--runs_per_task", "4", "--runs_per_gpu", "2", "--throttle", "3", "--sbatch=--time=2-0 -p 'a 100'"]
    run_all.main(flags(tmp_path, *METHODS, "--slurm", str(file), *more))
    lines = file.read_text().splitlines()
    assert {"#SBATCH --array=0-1%3", "#SBATCH --time=2-0", "#SBATCH -p 'a 100'"} <= set(lines)
    check_script(file)
    for task, (count, code) in enumerate(((4, 1), (2, 1))):
        done = subprocess.run(["bash", file], env=os.environ | {"SLURM_ARRAY_TASK_ID": str(task)}, check=False)
        assert done.returncode == code
        assert len((tmp_path / "done").read_text().splitlines()) == count
        (tmp_path / "done").unlink()
    assert subprocess.run(["bash", file], capture_output=True, check=False).returncode == 2


REFUSED = {
    "flag of another method": (["--lam_I", "0.3"], "fine_tuning: unrecognized arguments: --lam_I 0.3"),
    "run_dir": (["--run_dir", "x"], "--run_dir"),
    "one modality": (["--modality", "audio"], "--modality: use --modalities"),
    "one seed": (["--seed=5"], "--seed: use --seeds"),
    "one method": (["--method", "lwf"], "--method: use --methods"),
    "classifier": (["--classifier", "NME"], "--classifier: every classifier of a method is run"),
    "method": (["--methods", "none"], "'none'"),
    "nothing left": (["--methods", "avcil", "--modalities", "audio"], "not taken by avcil"),
    "no data": (["--dataset", "elsewhere"], "no folder"),
    "throttle of no array": (["--throttle", "2"], "--throttle: only for a SLURM array"),
    "array set twice": (["--slurm", "x.sh", "--sbatch=--array=1-2"], "the array is written here"),
    "no option of sbatch": (["--slurm", "x.sh", "--sbatch=a100"], "no option of sbatch"),
    "line break": (["--slurm", "x.sh", "--device", "cpu\ntouch here"], "must not stand in a batch file"),
    "line break for sbatch": (["--slurm", "x.sh", "--sbatch=--time='1\ntouch here'"], "must not stand in a batch file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_run_is_said_before_anything_starts(tmp_path, case, monkeypatch):
    tiny.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    more, line = REFUSED[case]
    assert line in refused(tmp_path, *flags(tmp_path, *METHODS, *more), main=run_all.main)
    assert not os.path.exists("x.sh")


def test_a_data_set_whose_name_is_a_command_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "tiny\ntouch here"
    tiny.make(tmp_path, dataset=name)
    said = refused(tmp_path, *flags(tmp_path, *METHODS, "--slurm", "x.sh", "--dataset", name), main=run_all.main)
    assert "must not stand in a batch file" in said and not os.path.exists("x.sh")


def test_wrong_arguments_are_refused_without_torch(tmp_path):
    code = "import sys, run_all\ntry: run_all.main(sys.argv[1:])\nfinally: assert 'torch' not in sys.modules, 'torch'"
    for arguments in (["--help"], ["--dataset", "x", "--methods", "none"], ["--dataset", "x", "--seed", "1"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=REPO, capture_output=True, text=True)
        assert "torch" not in done.stderr and done.returncode == (0 if arguments == ["--help"] else 2)


SIDE_BY_SIDE = [*METHODS, "--jobs", "2", "--max_epochs", "100000"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_however_a_sweep_is_told_to_end_its_runs_end(tmp_path, monkeypatch, number):
    tiny.make(tmp_path)
    stand_in(tmp_path, monkeypatch, LAST, *SIDE_BY_SIDE)
    with Child(lambda: run_all.main(flags(tmp_path, *SIDE_BY_SIDE)), tmp_path) as child:
        wait_for(lambda: not child.runs() or len(list(tmp_path.rglob("unfinished.pt"))) == 2)
        child.send(number)
        assert child.wait() == 130
        assert child.said() == "error: interrupted; the same command goes on from here\n"
    assert len(commands_with(str(tmp_path))) == 0


def test_however_a_sweep_is_killed_its_runs_end(tmp_path):
    """That which was stopped (SIGSTOP) as well: it would hold its folder until somebody let it go on."""
    tiny.make(tmp_path)
    process = subprocess.Popen([sys.executable, REPO / "run_all.py", *flags(tmp_path, *SIDE_BY_SIDE)])
    wait_for(lambda: process.poll() is not None or len(list(tmp_path.rglob("unfinished.pt"))) == 2)
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        os.kill(int(file.read().split()[0]), signal.SIGSTOP)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    wait_for(lambda: not commands_with(str(tmp_path)))


def commands_with(word):
    """The command lines of this machine's processes that hold ``word``."""
    done = subprocess.run(["ps", "-eo", "args", "-ww"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if word in line]
