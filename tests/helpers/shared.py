"""Where the reference numbers and data are, for those who have them; tests skip where they are not."""

import os
import pathlib

import pytest

REPO = pathlib.Path(__file__).resolve().parent.parent.parent
SHARED = pathlib.Path(os.environ.get("AVCIL_SHARED", REPO.parent / "shared"))


def shared(*parts):
    """The path of reference material, or a skipped test that says what is missing."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"reference material {'/'.join(parts)} is not here")
    return path


def peak_resident():
    """Bytes this program has held at most. (getrusage's figure would have what its parent held, too.)"""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def forget_peak():
    """Let ``peak_resident`` begin anew at what is held now."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
