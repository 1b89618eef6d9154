"""What holds for all tests: none reaches out, and the first lines say which reference material there is."""

import os

# Before anything imports the hub's client, which reads it once. test_download.py talks to a server of its own.
os.environ["HF_HUB_OFFLINE"] = "1"

from tests.helpers.shared import SHARED


def pytest_report_header(config):
    if not SHARED.is_dir():
        return "reference material: none, tests that need it skip"
    return f"reference material: {', '.join(sorted(path.name for path in SHARED.iterdir() if path.is_dir()))}"
