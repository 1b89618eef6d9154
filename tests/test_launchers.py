"""The launchers, as a user starts them: from anywhere, also from a path with a space in it."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys

import pytest

import train_incremental
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
    "cign": ["audio-visual"],
    "analytic": ["visual"],
}
# Stands for an interpreter that has all packages: writes down what it is to run.
PYTHON = """#!/bin/sh
case "$1" in *environment.py) exit 0 ;; esac
printf '%s\\0' "$@"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The launchers in a folder without an environment of its own, beside a stand-in for the interpreter."""
    folder = tmp_path_factory.mktemp("launchers") / "the project"
    (folder / "utils").mkdir(parents=True)
    for path in [*REPO.glob("*.sh"), REPO / "utils" / "launch.sh"]:
        shutil.copy(path, folder / path.relative_to(REPO))
    (folder / "python").write_text(PYTHON)
    (folder / "python").chmod(0o755)
    return folder


def launch(project, name, *arguments, cwd, python=None):
    command = ["sh", str(project / f"run_incremental_{name}.sh"), *arguments]
    environment = os.environ | {"PYTHON": str(python or project / "python")}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


def train(project, monkeypatch, folder, name, *arguments):
    """Do, in this process, what the launcher starts in ``folder``; return what was printed."""
    done = launch(project, name, *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    script, *words = done.stdout.split("\0")[:-1]
    said, _, script = script.rpartition("\n")
    assert script == str(project / "train_incremental.py")
    monkeypatch.chdir(folder)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        train_incremental.main(words)
    return said + printed.getvalue()


def test_these_are_all_launchers():
    assert {path.stem.removeprefix("run_incremental_") for path in REPO.glob("run_incremental_*.sh")} == set(LAUNCHERS)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launcher_trains(project, monkeypatch, tmp_path, name):
    tiny.make(tmp_path)
    # A relative data root is relative to where the user stands.
    flags = ["--data_root", ".", "--save_root", "my runs", "--max_epoches", "1", "--class_num_per_step", "3"]
    printed = train(project, monkeypatch, tmp_path, name, "tiny", *LAUNCHERS[name], *flags)
    (results,) = (tmp_path / "my runs" / "tiny").glob("*/results.json")
    assert printed.splitlines()[-1].endswith(f"are in {results.parent.relative_to(tmp_path)}")
    assert (results.parent / "log.txt").read_text() == printed
    arguments = json.loads(results.read_text())["arguments"]
    assert arguments["method"] == ("avcil" if name == "ours" else name)
    assert [arguments["modality"], arguments["classifier"]][: len(LAUNCHERS[name])] == LAUNCHERS[name]


def test_a_classifier_makes_lwf_icarl(project, monkeypatch, tmp_path):
    tiny.make(tmp_path)
    flags = ["--data_root", ".", "--max_epochs", "1", "--run_dir", "x"]
    printed = train(project, monkeypatch, tmp_path, "lwf", "tiny", "audio", "FC", *flags)
    assert "this is iCaRL" in printed and "icarl (FC, audio, released)" in printed


def test_usage(project, monkeypatch, tmp_path):
    for name, given in (("ours", []), ("ssil", ["AVE"]), ("icarl", ["AVE", "audio"])):
        done = launch(project, name, *given, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1 and f"usage: sh run_incremental_{name}.sh 'dataset'" in done.stderr
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit, match="^0$"):
        train_incremental.main(launch(project, "ours", "--help", cwd=tmp_path).stdout.split("\0")[1:-1])
    assert "--lam_I" in printed.getvalue()


def test_from_a_path_with_a_space(tmp_path):
    project = tmp_path / "my project"
    skip = shutil.ignore_patterns(".venv", ".git", "save", "data", "raw_data", "__pycache__", ".*_cache")
    shutil.copytree(REPO, project, ignore=skip)
    tiny.make(project / "data")
    flags = ["--max_epochs", "1", "--classes_per_step", "3"]
    done = launch(project, "fine_tuning", "tiny", "audio", *flags, cwd="/", python=sys.executable)
    assert done.returncode == 0, done.stderr
    (results,) = project.glob("save/tiny/*/results.json")
    assert (results.parent / "log.txt").read_text() == done.stdout
