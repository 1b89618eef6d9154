"""Names that come from elsewhere, of data sets, runs and files, steer no terminal and break no file."""

import contextlib
from xml.etree import ElementTree

import pytest

import analyse_modalities
import download
import predict
import report
import run_all
import train_incremental
import visualize_attention
from features import convert
from splits import build
from tests.helpers import tiny

ODD = "ev\x1b[31mil\x07"
TO_TRAIN = ["--max_epochs", "1", "--classes_per_step", "2", "--memory_size", "18"]


def odd_commands(root):
    """A command line of each kind that prints or draws names, where data set, run and files have an odd one."""
    drawn = str(root / f"drawn{ODD}")
    data, run = ["--data_root", str(root)], ["--run", str(root / f"run{ODD}")]
    train = ["--dataset", ODD, *data, *TO_TRAIN]
    sweep = ["--dataset", ODD, *data, *TO_TRAIN, "--methods", "avcil", "--save_root", str(root / "save")]
    return {
        "training": (train_incremental, [*train, "--method", "avcil", "--run_dir", run[1]]),
        "training again": (train_incremental, [*train, "--method", "avcil", "--run_dir", run[1]]),
        "prediction": (predict, [*run, "--kept", "--output", str(root / f"{ODD}.csv")]),
        "modalities": (analyse_modalities, [*run, *data]),
        "attention": (
            visualize_attention,
            [*run, *data, "--clip=-test_0_0", "--output", f"{drawn}/a.svg"],
        ),
        "report": (report, [run[1], "--figures", drawn, "--html", str(root / "page.html")]),
        "conversion": (convert, ["--dataset", ODD, *data]),
        "commands to be copied": (run_all, [*sweep, "--dry_run"]),
        "a sweep": (run_all, [*sweep, "--jobs", "1"]),
        "splits": (build, ["released", "--dataset", f"new{ODD}", *data, "--folder", str(root / ODD)]),
        "a download": (download, ["--dataset", ODD, *data]),
    }


def test_no_command_lets_a_name_steer_the_terminal(tmp_path, capfd):
    pytest.importorskip("matplotlib")
    tiny.make(tmp_path, dataset=ODD)
    drawn = tmp_path / f"drawn{ODD}"
    drawn.mkdir()
    for what, (module, words) in odd_commands(tmp_path).items():
        with contextlib.suppress(SystemExit):
            module.main(words)
        said = "".join(capfd.readouterr())
        assert said.replace("\n", "").isprintable() and "\\x1b[31mil" in said, f"{what}: {said!r}"
    pictures = list(drawn.glob("*.svg"))
    assert len(pictures) > 3
    for path in pictures:
        ElementTree.parse(path)  # with control characters it would be no XML
