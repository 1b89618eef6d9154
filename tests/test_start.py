"""Help and mistakes at once: no command loads, before it knows what to do, what takes seconds."""

import os
import subprocess
import sys

import pytest

from tests.helpers.shared import REPO

# What a command may load to say its help: the rest of these only once it is needed.
HEAVY = (
    "torch",
    "torch._dynamo",
    "torch._inductor",
    "torchvision",
    "timm",
    "transformers",
    "matplotlib",
    "h5py",
    "sklearn",
    "scipy",
    "pandas",
)
ALLOWED = {
    "train_incremental.py": {"torch"},  # options of the methods stand in their files, beside their losses
    "predict.py": {"torch"},
    "visualize_attention.py": {"torch"},
    "extract_pretrained_features.py": {"torch"},
}
LIGHT = (
    "report.py",
    "run_all.py",
    "download.py",
    "make_demo_clips.py",
    "extract_audios_frames.py",
    "splits/build.py",
    "features/convert.py",
)
CODE = """
import runpy, sys
path = sys.argv.pop(1)
sys.argv[0] = path
try:
    runpy.run_path(path, run_name="__main__")
except SystemExit:
    pass
print(*(name for name in {heavy!r} if name in sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize("script", [*ALLOWED, *LIGHT])
def test_help_loads_nothing_that_takes_seconds(script):
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    command = [sys.executable, "-c", CODE.format(heavy=HEAVY), str(REPO / script), "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "--" in done.stdout
    loaded = set(done.stderr.split()) - ALLOWED.get(script, set())
    assert not loaded, f"{script} --help loads {', '.join(sorted(loaded))}"
