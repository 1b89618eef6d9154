"""Sweeps: all that is asked for runs once, side by side, and one failure does not stop the rest."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

import run_all
from tests.helpers import tiny
from tests.helpers.shared import REPO
from tests.helpers.tiny import refused

METHODS = ["--methods", "fine_tuning", "icarl", "--modalities", "audio", "visual"]


def flags(root, *more):
    common = ["--data_root", str(root), "--save_root", str(root / "save"), "--dataset", "tiny", "--max_epochs", "1"]
    return [*common, "--classes_per_step", "2", "--memory_size", "18", *more]


def sweep(root, *more):
    with pytest.raises(SystemExit) as ended:
        run_all.main(flags(root, *METHODS, "--jobs", "2", *more))
    return ended.value.code


def test_everything_runs_once_and_a_failure_stops_nothing(tmp_path, capsys):
    tiny.make(tmp_path)
    run_all.main(flags(tmp_path, *METHODS, "--dry_run"))
    commands = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert len(commands) == 6 and {command[3] for command in commands} == {"fine_tuning", "icarl"}
    # In the place of one run's folder stands something else.
    (blocked,) = (run for run in run_all.planned(*run_all.read(flags(tmp_path, *METHODS))) if "FC visual" in run.name)
    os.makedirs(blocked.folder.path)
    thesis = os.path.join(blocked.folder.path, "checkpoints")
    with open(thesis, "w") as file:
        file.write("")
    with open(os.path.join(blocked.folder.path, "arguments.json"), "w") as file:
        json.dump(json.loads(json.dumps(vars(blocked.folder.args))), file)
    assert sweep(tmp_path) == 1
    captured = capsys.readouterr()
    assert "5 of 6 runs finished; python report.py" in captured.out
    assert captured.err.splitlines()[-1].startswith("error: icarl FC visual seed 42: ")
    os.unlink(thesis)
    assert sweep(tmp_path) == 0
    assert "6 runs, 5 of them finished" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "save").rglob("results.json")}
    assert sweep(tmp_path) == 0 and len(before) == 6
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "save").rglob("results.json")}


def test_slurm_lists_exactly_the_runs_whatever_their_words(tmp_path, capsys):
    root = tmp_path / 'it\'s a "$(touch here)" folder'
    tiny.make(root)
    file = tmp_path / "array.sh"
    run_all.main(flags(root, *METHODS, "--seeds", "0", "1", "--slurm", str(file)))
    assert f"Wrote {file}: an array of 12 runs" in capsys.readouterr().out
    text = file.read_text()
    assert "#SBATCH --array=0-11" in text
    subprocess.run(["bash", "-n", file], check=True)
    run_all.main(flags(root, *METHODS, "--seeds", "0", "1", "--dry_run"))
    expected = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    listed = [shlex.split(line)[2:-1] for line in text.splitlines() if ") exec " in line]
    assert listed == expected
    assert not (tmp_path / "here").exists() and not os.path.exists("here")


REFUSED = {
    "flag of another method": (["--lam_I", "0.3"], "fine_tuning: unrecognized arguments: --lam_I 0.3"),
    "run_dir": (["--run_dir", "x"], "--run_dir"),
    "method": (["--methods", "none"], "'none'"),
    "nothing left": (["--methods", "avcil", "--modalities", "audio"], "not taken by avcil"),
    "no data": (["--dataset", "elsewhere"], "no folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_run_is_said_before_anything_starts(tmp_path, case):
    tiny.make(tmp_path)
    more, line = REFUSED[case]
    assert line in refused(tmp_path, *flags(tmp_path, *METHODS, *more), main=run_all.main)


def test_an_interrupt_ends_all_runs(tmp_path):
    tiny.make(tmp_path)
    command = [sys.executable, REPO / "run_all.py", *flags(tmp_path, *METHODS, "--jobs", "2", "--max_epochs", "100000")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and len(list(tmp_path.rglob("unfinished.pt"))) < 2:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors.endswith("error: interrupted; the same command goes on from here\n")
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False)
    assert not left.stdout
