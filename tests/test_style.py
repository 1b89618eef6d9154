"""The code keeps its own rules."""

import shutil
import subprocess
import sys

import pytest

from tests.helpers.shared import REPO


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff(command):
    done = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_pyright():
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable], cwd=REPO, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_shellcheck():
    shellcheck = shutil.which("shellcheck", path=f"{sys.prefix}/bin") or shutil.which("shellcheck")
    assert shellcheck, "shellcheck is not installed: pip install -r requirements-dev.txt"
    scripts = [str(path.relative_to(REPO)) for folder in (".", "utils") for path in (REPO / folder).glob("*.sh")]
    done = subprocess.run([shellcheck, "-x", *scripts], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
