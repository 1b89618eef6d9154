"""The benchmarks run. What they measure is for people to look at: no test asserts a time."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import analytic, feature_sets, storage, training
from dataloader import open_data
from tests.helpers.shared import REPO


def test_both_sides_of_training(tmp_path):
    for modality in ("audio", "visual", "audio-visual"):
        case = training.Case(modality, 2, 2, 2, (8, 2, 2), 1, 8, 8, picture=modality == "audio")
        training.make_data(tmp_path / modality, case)
        for side in ("plain", "ours"):
            found = training.one_side(side, case, str(tmp_path / modality), "cpu")
            assert len(found["seconds"]) == 2 and all(value > 0 for value in found["seconds"])


def test_plain_and_ours_learn_the_same_thing(tmp_path):
    """Both sides reduce their loss to the same degree: the comparison is between equals."""
    case = training.Case("audio-visual", 2, 2, 1, (16, 2, 2), 8, 16, 8)
    training.make_data(tmp_path, case)
    losses = []
    torch.manual_seed(0)
    training.plain.run(str(tmp_path / "data" / "mine"), case, torch.device("cpu"), losses.append)
    assert losses[0][-1] < 0.5 * losses[0][0] or losses[0][-1] < 0.1


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
    assert head[:3] == ["version", "CPU", "s"] and (now[0], before[0]) == ("now", "before")
    assert now[3:] == before[3:] and float(now[1]) > 0  # the same version on both sides


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
