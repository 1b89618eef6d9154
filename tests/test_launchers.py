"""The launchers, as a user starts them: from anywhere, also from a path with a space in it."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.helpers import tiny
from tests.helpers.shared import REPO

LAUNCHERS = {
    "ours": [],
    "fine_tuning": ["audio"],
    "upper_bound": ["visual"],
    "lwf": ["audio"],
    "ssil": ["audio-visual"],
    "icarl": ["audio", "NME"],
    "afc": ["visual", "LSC"],
}


def launch(name, *arguments, cwd, project=REPO):
    command = ["sh", str(project / f"run_incremental_{name}.sh"), *arguments]
    environment = os.environ | {"PYTHON": sys.executable}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launcher_trains(tmp_path, name):
    tiny.make(tmp_path)
    # A relative data root is relative to where the user stands.
    flags = ["--data_root", ".", "--save_root", "my runs", "--max_epoches", "1", "--class_num_per_step", "3"]
    done = launch(name, "tiny", *LAUNCHERS[name], *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (results,) = (tmp_path / "my runs" / "tiny").glob("*/results.json")
    assert done.stdout.splitlines()[-1].endswith(f"are in {results.parent.relative_to(tmp_path)}")
    assert (results.parent / "log.txt").read_text() == done.stdout


def test_a_classifier_makes_lwf_icarl(tmp_path):
    tiny.make(tmp_path)
    done = launch("lwf", "tiny", "audio", "FC", "--data_root", ".", "--max_epochs", "1", "--run_dir", "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "this is iCaRL" in done.stdout and "icarl (FC, audio, released)" in done.stdout


def test_usage(tmp_path):
    for name, given in (("ours", []), ("ssil", ["AVE"]), ("icarl", ["AVE", "audio"])):
        done = launch(name, *given, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1 and f"usage: sh run_incremental_{name}.sh 'dataset'" in done.stderr
    done = launch("ours", "--help", cwd=tmp_path)
    assert done.returncode == 0 and "--lam_I" in done.stdout


def test_from_a_path_with_a_space(tmp_path):
    project = tmp_path / "my project"
    skip = shutil.ignore_patterns(".venv", ".git", "save", "data", "raw_data", "__pycache__", ".*_cache")
    shutil.copytree(REPO, project, ignore=skip)
    tiny.make(project / "data")
    flags = ["--max_epochs", "1", "--classes_per_step", "3"]
    done = launch("fine_tuning", "tiny", "audio", *flags, cwd="/", project=project)
    assert done.returncode == 0, done.stderr
    assert len(list(project.glob("save/tiny/*/results.json"))) == 1
