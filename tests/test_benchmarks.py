"""The benchmarks run. What they measure is for people to look at: no test asserts a time."""

import sys

import torch

from benchmarks import analytic, storage, training


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
    monkeypatch.setattr(sys, "argv", ["analytic.py", "--clips", "60", "--expansion", "90", "--classes", "4"])
    analytic.main()
    apart = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()[1:]]
    assert max(apart) < 1e-8
