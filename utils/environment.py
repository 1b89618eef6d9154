"""The Python environment of the project: what it lacks, and the way into ``.venv``. Needs nothing but Python itself.

``python utils/environment.py`` ends with 0 where this Python has all of requirements.txt, with 1 where it does not.
"""

from __future__ import annotations

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
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_interrupted)
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


def end_interrupted(*_) -> None:
    """An interrupt while packages are imported, which takes seconds, ends in one line (see utils.errors.command)."""
    os.write(2, b"error: interrupted\n")
    os._exit(130)


def _is_installed(name):
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(bool(missing_packages()))
