"""What holds for all tests: none reaches out, runs draw no pictures unasked, the first lines say what is there."""

import os
import sys

import pytest

# Before anything imports the hub's client, which reads it once. test_download.py talks to a server of its own.
os.environ["HF_HUB_OFFLINE"] = "1"

from tests.helpers.shared import SHARED

# Begun first, so that at the end no process waits long for the other.
LONGEST = (
    "test_style.py",
    "test_benchmarks.py",
    "test_use.py",
    "test_resume.py",
    "test_processes.py",
    "test_encoders.py",
)


def pytest_report_header(config):
    if not SHARED.is_dir():
        return "reference material: none, tests that need it skip"
    return f"reference material: {', '.join(sorted(path.name for path in SHARED.iterdir() if path.is_dir()))}"


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """``-n``: the tests of a file in one process, so that what its fixtures make is made once."""
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def drawn():
    """A run's own two pictures take three quarters of the time of one on tiny data: in this process they are blank.

    Yields what draws them really, for the tests that look at them (``pictures``). Runs in processes of their own draw.
    """
    if "train_incremental" not in sys.modules:  # no test that was collected trains
        yield None
        return
    from reporting import figures
    from utils.files import atomic_path

    def save_blank(figure, stem, formats):
        for each in formats:
            with atomic_path(f"{stem}.{each}") as path, open(path, "wb") as file:
                file.write(b"blank")

    with pytest.MonkeyPatch.context() as patch:
        really = figures.save
        patch.setattr(figures, "save", save_blank)
        yield really


@pytest.fixture
def pictures(drawn, monkeypatch):
    """Runs draw their pictures as users get them."""
    monkeypatch.setattr("reporting.figures.save", drawn)
