"""From a clone to a number on AVE by the two commands of the README, however often they are broken off on the way."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import download
from tests.helpers.hub import Hub
from tests.helpers.shared import REPO
from tests.test_download import packed, release  # noqa: F401 (a fixture)

BREAKS = 5  # in the download, and as many in training
EPOCHS, STEPS = 4, 4
BLOCK = 1 << 17
# As small beside the made file as they are beside the real one of 20 GB.
SMALLER = {
    "download.py": [("BLOCK = 16 << 20", f"BLOCK = {BLOCK}")],
    "features/archive.py": [("CHUNK = 16 << 20", f"CHUNK = {BLOCK}"), ("SAVE_EVERY = 8", "SAVE_EVERY = 2")],
}


@pytest.fixture
def clone(tmp_path):
    """The project as it is cloned, in a folder with a space."""
    folder = tmp_path / "a clone"
    ignored = shutil.ignore_patterns(".venv", ".git", "save", "data", "raw_data", "__pycache__", ".*_cache", "tests")
    shutil.copytree(REPO, folder, ignore=ignored)
    for name, pairs in SMALLER.items():
        text = (folder / name).read_text()
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new)
        (folder / name).write_text(text)
    return folder


def broken_off(clone, hub, reached, moment):
    """Start the two commands, and kill all that they started once ``reached()`` is ``moment``. True if they ended."""
    train = f"sh run_incremental_ours.sh 'AVE' --max_epochs {EPOCHS} --checkpoint_every 1"
    commands = f"sh download.sh 'AVE' --splits_url {hub.url}/raw && {train}"
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "PYTHON": sys.executable}
    with open(clone / "printed", "w") as printed:
        options = {"stdout": printed, "stderr": subprocess.STDOUT, "start_new_session": True}
        process = subprocess.Popen(["sh", "-c", commands], cwd=clone, env=environment, **options)
    try:
        while process.poll() is None and reached() < moment:
            time.sleep(0.01)
        return process.poll() is not None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def epochs_done(clone):
    rows = [path.read_text() for path in clone.glob("save/AVE/*/epochs.csv")]
    return len(set(re.findall(r"^(\d+,\d+),", "".join(rows), re.M)))


def test_two_commands_broken_off_ten_times_end_in_a_table(release, clone):  # noqa: F811
    whole = packed(release)
    rng = np.random.default_rng(11)
    with Hub({download.HUB: {"AVE_features.zip": whole}}, release[0]) as hub:
        sent = lambda: sum(hub.sent.values())  # noqa: E731
        for share in np.sort(rng.uniform(0.05, 0.85, BREAKS)):
            assert not broken_off(clone, hub, sent, share * len(whole))
        for moment in np.sort(rng.choice(np.arange(1, STEPS * EPOCHS - 1), BREAKS, replace=False)):
            assert not broken_off(clone, hub, lambda: epochs_done(clone), moment)
        assert broken_off(clone, hub, lambda: 0, 1)
        printed = (clone / "printed").read_text()
        assert "Average Accuracy:" in printed and "mean acc." in printed, printed
        # What is fetched again after a break: blocks ahead of the last save, and what was on its way.
        assert sent() <= len(whole) + sum(map(len, hub.raw.values())) + (BREAKS + 1) * 8 * BLOCK
