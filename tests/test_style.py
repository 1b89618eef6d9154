"""The code keeps its own rules."""

import ast
import shutil
import subprocess
import sys

import pytest

from tests.helpers.shared import REPO
from tests.test_architecture import ROOMS


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


def test_commands_print_by_say_alone():
    """It lets no name that comes from elsewhere steer the terminal."""
    own = {REPO / "utils" / "errors.py", REPO / "utils" / "environment.py"}
    for path in [*REPO.glob("*.py"), *(path for room in ROOMS for path in (REPO / room).rglob("*.py"))]:
        if path not in own:
            calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
            assert not any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls), path
