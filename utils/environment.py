"""The Python environment of the project: what it lacks, and the way into ``.venv``. Needs nothing but Python itself.

``python utils/environment.py`` ends with 0 where this Python has all of requirements.txt, with 1 where it does not.
"""

import os
import re
import sys
from importlib import metadata

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def missing_packages(path: str = os.path.join(PROJECT, "requirements.txt")) -> list[str]:
    """Names of the packages of a requirements file that this Python does not have."""
    with open(path, encoding="utf-8") as file:
        names = [match[0] for line in file if (match := re.match(r"[A-Za-z0-9_.-]+", line))]
    return [name for name in names if not _is_installed(name)]


def _is_installed(name):
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(bool(missing_packages()))
