"""The benchmarks run. What they measure is for people to look at: no test asserts a time."""

import contextlib
import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import train_incremental
from benchmarks import analytic, feature_sets, plain, storage, training
from dataloader import open_data
from tests.helpers.shared import REPO


def test_training_prints_a_line_for_a_row(tmp_path, capsys, monkeypatch):
    row = training.Row("avcil", "audio-visual", 2, 2, 2, (8, 2, 2), 1, 8, 8)
    monkeypatch.setattr(training, "all_rows", lambda: {"avcil audio-visual": row})
    monkeypatch.setattr(
        sys, "argv", ["training.py", "--repeats", "1", "--threads", "1", "--json", str(tmp_path / "out")]
    )
    training.main()
    assert "avcil audio-visual" in capsys.readouterr().out.splitlines()[-1]
    ((pair,),) = json.loads((tmp_path / "out").read_text()).values()
    assert all(pair[side][key] > 0 for side in ("plain", "ours") for key in ("seconds", "cpu", "process", "host"))


@pytest.mark.parametrize(
    "name", [name for name in training.all_rows() if not name.startswith(("bf16", "large", "ave"))]
)
def test_plain_and_ours_learn_the_same_thing(tmp_path, name):
    """The same clips in the same order from the same weights: the comparison is between equals."""
    row = replace(training.all_rows()[name], positions=2, classes_per_step=2, steps=3, counts=(16, 4, 16))
    row = replace(row, epochs=3, batch=16, memory=12)
    training.make_data(tmp_path, row)
    flags = row.flags(str(tmp_path))
    theirs = plain.run(flags, torch.device("cpu"))
    with contextlib.redirect_stdout(io.StringIO()):
        train_incremental.main([*flags, "--run_dir", str(tmp_path / "run")])
    ours = json.loads((tmp_path / "run" / "results.json").read_text())["accuracy_per_step"]
    # Sums in another order may move a clip at the edge of two classes.
    assert np.abs(np.array(theirs) - ours).max() * 16 * 2 < 1.01


def test_storage(monkeypatch, capsys):
    monkeypatch.setattr(storage, "SHAPE", (16, 8))
    monkeypatch.setattr(sys, "argv", ["storage.py", "--clips", "32"])
    storage.main()
    assert "feature store" in capsys.readouterr().out


def test_analytic(monkeypatch, capsys):
    sizes = ["--classes", "4", "--steps", "2", "--clips", "8", "--width", "16", "--expansion", "90"]
    monkeypatch.setattr(sys, "argv", ["analytic.py", *sizes, "--before", str(REPO)])
    analytic.main()
    head, now, before = (line.split() for line in capsys.readouterr().out.splitlines())
    assert head[:5] == ["version", "wall", "s", "CPU", "s"] and (now[0], before[0]) == ("now", "before")
    assert now[4:] == before[4:] and float(now[2]) > 0  # the same version on both sides


def test_analytic_on_a_store(monkeypatch, capsys):
    """Written clip by clip, it holds what the dictionaries hold, in 16 bits."""
    sizes = ["--classes", "4", "--steps", "2", "--clips", "8", "--width", "16", "--expansion", "90"]
    made = []
    monkeypatch.setattr(sys, "argv", ["analytic.py", *sizes, "--positions", "9"])
    monkeypatch.setattr(
        analytic, "line", lambda project, folder, args: made.append(open_data("made", data_root=folder))
    )
    analytic.main()
    (data,) = made
    kind = feature_sets.Kind(classes=4, train=8, positions=9, width=16, val=10, test=10, audio=8.0, visual=8.0)
    rows, audio, _ = feature_sets.make(kind, seed=0)
    assert [video for video, *_ in rows] == data.ids and data.visual_shape == (8, 9, 16)
    batch = next(iter(data.batches([np.arange(len(rows))])))
    np.testing.assert_array_equal(batch.audio, np.stack(list(audio.values())).astype(np.float16))


@pytest.mark.parametrize("name", feature_sets.KINDS)
def test_feature_sets(tmp_path, name):
    """Every kind is made alike each time, and opens as data."""
    kind = replace(feature_sets.KINDS[name], train=3, val=1, test=1)
    rows, audio, visual = feature_sets.make(kind, seed=0)
    again = feature_sets.make(kind, seed=0)
    assert rows == again[0] and all(np.array_equal(visual[clip], again[2][clip]) for clip in visual)
    feature_sets.write(tmp_path / name, rows, audio, visual)
    data = open_data(name, data_root=tmp_path)
    assert data.num_classes == kind.classes and data.visual_shape == (kind.frames, kind.positions, kind.width)
