"""Where the reference numbers and data are, for those who have them; tests skip where they are not."""

import os
import pathlib

import pytest

REPO = pathlib.Path(__file__).resolve().parent.parent
SHARED = pathlib.Path(os.environ.get("AVCIL_SHARED", REPO.parent / "shared"))


def shared(*parts):
    """The path of reference material, or a skipped test that says what is missing."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"reference material {'/'.join(parts)} is not here")
    return path
