"""The Python environment of the project: what it lacks, and the way into ``.venv``. Needs nothing but Python itself.

``python utils/environment.py`` ends with 0 where this Python has all of requirements.txt, with 1 where it does not.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
from importlib import metadata

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def missing_packages(path: str = os.path.join(PROJECT, "requirements.txt")) -> list[str]:
    """Names of the packages of a requirements file that this Python does not have."""
    with open(path, encoding="utf-8") as file:
        names = [match[0] for line in file if (match := re.match(r"[A-Za-z0-9_.-]+", line))]
    return [name for name in names if not _is_installed(name)]


def enter_environment():
    """Where this Python lacks a package, go on with the same command in ``.venv``, or end in a line that says the cure.

    To be called before packages are imported.
    """
    _open_standard_streams()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_interrupted)
    sys.excepthook = _end_import
    missing = missing_packages()
    if not missing:
        return
    folder = os.path.join(PROJECT, ".venv")
    python = os.path.join(folder, "bin", "python")
    if os.access(python, os.X_OK) and os.path.realpath(sys.prefix) != os.path.realpath(folder):
        os.execv(python, [python, *sys.orig_argv[1:]])
    some = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
    print(f"error: {sys.executable} has no {some}; run sh setup.sh, which makes .venv, and try again", file=sys.stderr)
    sys.exit(2)


def _open_standard_streams():
    """Let those that are closed (``>&-``) lead nowhere: a data file would get their number, and what is printed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            os.set_inheritable(handle, True)
            setattr(sys, name, open(handle, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115


def end_interrupted(*_) -> None:
    """An interrupt while packages are imported, which takes seconds, ends in one line (see utils.errors.command)."""
    os.write(2, b"error: interrupted\n")
    os._exit(130)


def signal_at_end_of_parent(number: int) -> bool:
    """Let this process get signal ``number`` when the one that started it ends, even by SIGKILL.

    False where the system cannot.
    """
    if not sys.platform.startswith("linux"):
        return False
    pr_set_pdeathsig = 1
    return ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(number)) == 0


def _end_import(kind, error, traceback):
    """A library that cannot be loaded, for want of memory or open files mostly, ends in one line as well."""
    library = isinstance(error, ImportError) and (error.path or "").endswith(".so")
    if not library and not isinstance(error, MemoryError | OSError):
        return sys.__excepthook__(kind, error, traceback)
    print(
        f"error: {error or 'not enough memory'}; free some memory, or look at the limits (ulimit -a)", file=sys.stderr
    )
    sys.stderr.flush()
    os._exit(2)


def _is_installed(name):
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(bool(missing_packages()))
