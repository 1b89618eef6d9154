"""The way into .venv: made where it is missing, entered where the Python at hand lacks a package."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.helpers.shared import REPO
from utils.environment import missing_packages

SCRIPT = '''"""A script of the project."""

if __name__ == "__main__":
    from utils.environment import enter_environment

    enter_environment()

print("went on")
'''
# Stands for an interpreter: makes "environments" that are copies of itself, and writes down what pip is asked for.
PYTHON = """#!/bin/sh
case "$*" in
*"-m venv"*) mkdir -p .venv/bin .venv/lib && cp "$0" .venv/bin/python ;;
*"pip install"*"--index-url $UNREACHABLE "*) exit 1 ;;
*"pip install"*) echo "$*" >>"$LOG"; exit "${PIP_EXIT:-0}" ;;
*sys.version_info*) exit "${TOO_OLD:-0}" ;;
*--version*) echo "Python 3.8.1" ;;
*environment.py) [ -n "${COMPLETE-}" ] ;;
*.py*) echo "$0 ran $*" ;;
esac
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The launching part of the project in a folder with a space, and a stand-in for the interpreter."""
    folder = tmp_path / "the project"
    (folder / "utils").mkdir(parents=True)
    for name in ("setup.sh", "utils/launch.sh", "utils/environment.py", "run_incremental_ours.sh", "requirements.txt"):
        shutil.copy(REPO / name, folder / name)
    (folder / "requirements-dev.txt").write_text("pytest\n")
    (folder / "script.py").write_text(SCRIPT)
    executable(folder / "python", PYTHON)
    monkeypatch.setenv("PYTHON", str(folder / "python"))
    monkeypatch.setenv("LOG", str(folder / "log"))
    return folder


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def sh(project, *words, **environment):
    return subprocess.run(
        ["sh", *words], cwd=project, capture_output=True, text=True, env=os.environ | environment, check=False
    )


def one_line(done, *parts):
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert all(part in done.stderr for part in parts), done.stderr


def test_this_environment_has_everything():
    assert missing_packages() == []


def test_every_command_enters_the_environment_before_it_imports_a_package():
    scripts = [*REPO.glob("*.py"), REPO / "splits" / "build.py", REPO / "features" / "convert.py"]
    for path in scripts:
        text = path.read_text(encoding="utf-8")
        if "\n@command\n" in text or "\n@command(" in text:
            before = text[: text.index("    enter_environment()\n")]
            imports = [line for line in before.splitlines() if line.startswith(("import ", "from "))]
            assert set(imports) <= {"import os", "import sys"}, path.name


def test_a_script_goes_on_in_the_environment(project):
    (project / "requirements.txt").write_text("no-such-package-1>=2\nno-such-package-2\n")
    executable(project / ".venv" / "bin" / "python", '#!/bin/sh\necho "in .venv: $*"\n')
    command = [sys.executable, "-B", str(project / "script.py"), "--seed", "a b"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"in .venv: -B {project}/script.py --seed a b\n"
    (project / "requirements.txt").write_text("pytest\n")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "went on\n"


def test_a_script_without_environment_says_what_makes_it(project):
    (project / "requirements.txt").write_text("no-such-package\n")
    done = subprocess.run([sys.executable, str(project / "script.py")], capture_output=True, text=True, check=False)
    one_line(done, "no-such-package", "sh setup.sh")


def test_a_launcher_takes_the_environment_or_an_active_one_or_makes_it(project):
    done = sh(project, "run_incremental_ours.sh", "AVE", COMPLETE="1")
    assert done.returncode == 0 and done.stdout.startswith(f"{project}/python ran") and not (project / ".venv").exists()
    done = sh(project, "run_incremental_ours.sh", "AVE")
    assert done.returncode == 0 and "about 6 GB" in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"{project}/.venv/bin/python ran")
    assert "--dataset AVE" in done.stdout and "--method avcil" in done.stdout
    done = sh(project, "run_incremental_ours.sh", "AVE", COMPLETE="1")
    assert done.stdout.startswith(f"{project}/.venv/bin/python ran")


def test_setup_is_quick_when_done_and_tries_again_when_not(project):
    one_line(sh(project, "setup.sh", PIP_EXIT="1"), "pip could not install", "run this again")
    assert sh(project, "setup.sh").returncode == 0
    asked = (project / "log").read_text()
    assert "-r requirements.txt" in asked and "requirements-dev" not in asked
    done = sh(project, "setup.sh")
    assert done.stdout == "" and (project / "log").read_text() == asked
    assert sh(project, "setup.sh", "--dev").returncode == 0
    assert "-r requirements-dev.txt" in (project / "log").read_text()
    (project / "requirements.txt").write_text("torch\nnew-package\n")
    sh(project, "setup.sh")
    assert (project / "log").read_text().count("pip install") == 4


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_place_for_data(project, closed):
    text = SCRIPT.replace(
        'print("went on")', 'file = open("data", "w")\nprint("printed", flush=True)\nfile.write("kept")'
    )
    (project / "script.py").write_text(text + '\nsys.stderr.write("printed")\n'.replace("sys", '__import__("sys")'))
    (project / "requirements.txt").write_text("")
    assert sh(project, "-c", f"{sys.executable} script.py {closed}").returncode == 0
    assert (project / "data").read_text() == "kept"


@pytest.mark.parametrize("error", ['ImportError("libtorch.so: failed to map", path="/a/b.so")', "MemoryError()"])
def test_a_library_that_does_not_fit_into_memory_is_one_line(project, error):
    (project / "script.py").write_text(SCRIPT.replace('print("went on")', f"raise {error}"))
    (project / "requirements.txt").write_text("")
    one_line(sh(project, "-c", f"{sys.executable} script.py"), "free some memory", "ulimit -a")


def test_setup_for_cpus(project):
    done = sh(project, "setup.sh", "--cpu", CPU_BUILDS="https://mirror.example/cpu")
    assert done.returncode == 0 and "about 2 GB" in done.stdout
    first, second = (project / "log").read_text().splitlines()
    assert first.endswith("--index-url https://mirror.example/cpu torch torchvision")
    assert second.endswith("-r requirements.txt")
    shutil.rmtree(project / ".venv")
    (project / "log").unlink()
    far = "https://mirror.example/far"
    done = sh(project, "setup.sh", "--cpu", CPU_BUILDS=far, UNREACHABLE=far)
    assert done.returncode == 0 and done.stderr.count("\n") == 1 and f"from {far} (CPU_BUILDS" in done.stderr
    (line,) = (project / "log").read_text().splitlines()
    assert line.endswith("-r requirements.txt")


def test_setup_says_what_is_wrong(project):
    one_line(sh(project, "setup.sh", "--gpu"), "--gpu", "usage: sh setup.sh [--cpu] [--dev]")
    one_line(sh(project, "setup.sh", PYTHON="python-of-nowhere"), "python-of-nowhere", "3.10")
    one_line(sh(project, "setup.sh", TOO_OLD="1"), "Python 3.8.1 is too old")
    executable(project / "bin" / "df", "#!/bin/sh\necho header\necho / 9 9 2097152 9% /\n")
    path = f"{project / 'bin'}:{os.environ['PATH']}"
    one_line(sh(project, "setup.sh", PATH=path), "2 GB of disk are free", "up to 7")
    assert not (project / ".venv").exists()
