"""A file or folder of a run that may not be read or written is named as that, and is no reason to start anew."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.helpers import tiny
from tests.helpers.shared import REPO

# Root may read all: without its capabilities it is an owner like others.
DROP = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", "--"] if os.geteuid() == 0 else []
pytestmark = pytest.mark.skipif(bool(DROP) and not shutil.which("setpriv"), reason="root, and no setpriv")
KEPT = ("steps.jsonl", "epochs.csv")


def command(script, *words):
    done = subprocess.run(
        [*DROP, sys.executable, REPO / script, *words], capture_output=True, text=True, check=False, timeout=300
    )
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of three steps, interrupted after the second: its last step's files are gone."""
    root = tmp_path_factory.mktemp("closed")
    tiny.make(root)
    tiny.train(root, "fine_tuning", "--save_features", "--max_epochs", "1")
    for name in ("results.json", "checkpoints/step_2.pt"):
        (root / "run" / name).unlink()
    return root


@pytest.fixture
def close():
    """A function that gives a path a mode, by default one that lets nobody in; it has its own again after the test."""
    before = {}

    def chmod(path, mode=0):
        before[path] = path.stat().st_mode
        path.chmod(mode)

    yield chmod
    for path, mode in before.items():
        path.chmod(mode)


LISTED = 0o600  # a folder whose names can be read, and nothing else


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *(("checkpoints", 0), ("checkpoints", LISTED), ("checkpoints/step_1.pt", 0)),
        *(("arguments.json", 0), ("data.json", 0), (".lock", 0)),
    ],
)
def test_a_run_does_not_start_anew_for_what_it_may_not_read(run, close, name, mode):
    kept = [(run / "run" / each).read_bytes() for each in KEPT]
    close(run / "run" / name, mode)
    flags = tiny.flags(run, "fine_tuning", "--save_features", "--max_epochs", "1", "--run_dir", str(run / "run"))
    code, said = command("train_incremental.py", *flags)
    assert code == 2 and said.count("\n") == 1
    assert said.startswith(f"error: Permission denied: {run}/run/{name}")
    assert all(kept) and [(run / "run" / each).read_bytes() for each in KEPT] == kept


def test_scores_that_may_not_be_read_are_not_called_missing(run, close):
    close(run / "run" / "scores")
    code, said = command("predict.py", "--run", str(run / "run"), "--kept")
    assert code == 2 and said.startswith(f"error: Permission denied: {run}/run/scores/step_1.npz")


def test_a_folder_that_may_not_be_read_is_not_called_empty(run, close):
    close(run / "run")
    code, said = command("report.py", str(run), "--unfinished")
    assert code == 2 and said == f"error: Permission denied: {run}/run\n"
