"""Help and mistakes at once: no command loads, before it knows what to do, what takes seconds."""

import json
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
# Options of the methods stand in their files, beside their losses; those of the encoders too.
WITH_TORCH = ("train_incremental.py", "predict.py", "visualize_attention.py", "extract_pretrained_features.py")
LIGHT = (
    "report.py",
    "run_all.py",
    "download.py",
    "make_demo_clips.py",
    "extract_audios_frames.py",
    "splits/build.py",
    "features/convert.py",
)
# Runs each script with --help in a child of its own, and writes what was printed and what was loaded.
CODE = """
import json, os, runpy, sys
first, heavy, scripts = json.loads(sys.argv[1])
for name in first:
    __import__(name)
for number, script in enumerate(scripts):
    if os.fork() == 0:
        os.dup2(os.open(f"{number}.out", os.O_WRONLY | os.O_CREAT), 1)
        sys.argv = [script, "--help"]
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit:
            pass
        with open(f"{number}.loaded", "w") as file:
            print(*(name for name in heavy if name in sys.modules), file=file)
        sys.stdout.flush()
        os._exit(0)
    os.wait()
"""


@pytest.mark.parametrize(("scripts", "allowed"), [(LIGHT, ()), (WITH_TORCH, ("torch",))])
def test_help_loads_nothing_that_takes_seconds(tmp_path, scripts, allowed):
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    told = json.dumps([allowed, HEAVY, [str(REPO / script) for script in scripts]])
    subprocess.run([sys.executable, "-c", CODE, told], cwd=tmp_path, env=environment, check=True)
    for number, script in enumerate(scripts):
        assert "--" in (tmp_path / f"{number}.out").read_text()
        loaded = set((tmp_path / f"{number}.loaded").read_text().split())
        assert loaded == set(allowed), f"{script} --help loads {', '.join(sorted(loaded))}"
