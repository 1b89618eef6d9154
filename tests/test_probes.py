"""What a run tells of itself on request: gradients of its loss terms. The run stays the same to the last bit."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from engine import updates
from engine.epoch_rows import read_epochs, read_losses
from engine.registry import find_method, method_names
from engine.updates import compare_gradients
from tests.helpers import tiny
from utils.seeding import random_state

WITH_EPOCHS = [method for method in method_names() if find_method(method).has_epochs]


def rows(root, method, *flags):
    """The rows of steps and of epochs that a run writes."""
    tiny.train(root, method, *flags)
    return [(root / "run" / name).read_text().splitlines() for name in ("steps.jsonl", "epochs.csv")]


def generators():
    """The state of the random generators, as plain values."""
    state = random_state()
    return [state["torch"].tolist(), state["python"], *map(str, state["numpy"]), state["numpy"][1].tolist()]


@pytest.mark.parametrize("method", WITH_EPOCHS)
def test_probes_of_gradients_leave_all_other_rows_as_they_are(tmp_path, method, monkeypatch):
    tiny.make(tmp_path)
    compared = []

    def checked(*args):
        before = generators()
        compared.append(compare_gradients(*args))
        assert generators() == before
        return compared[-1]

    monkeypatch.setattr(updates, "compare_gradients", checked)
    flags = ["--modality", find_method(method).modalities[-1], "--max_epochs", "3"]
    steps, epochs = rows(tmp_path, method, *flags)
    probed_steps, probed_epochs = rows(tmp_path, method, *flags, "--probe_gradients", "2")
    assert probed_steps == steps
    assert [line for line in probed_epochs if ",gradient_" not in line] == epochs
    assert len(compared) == 3 * 2  # epochs 0 and 2 of each step
    assert len(probed_epochs) - len(epochs) == sum(map(len, compared))
    values = read_epochs(str(tmp_path / "run"))
    terms = set(read_losses(str(tmp_path / "run"))) - {"train_loss"}
    assert {name.partition("/")[2] for name in values if name.startswith("gradient_norm/")} == terms
    cosines = [value for name in values if "cosine" in name for value in values[name].values()]
    assert bool(cosines) == (len(terms) > 1) and all(-1 <= value <= 1 for value in cosines)


class Given:
    """A learner of three loss terms with gradients that can be written down; ``weight`` (2,)."""

    def __init__(self):
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        self.data = SimpleNamespace(batches=lambda plan: iter(plan))

    def trainable(self):
        return [self.weight]

    def losses(self, batch, task):
        shrink, first, none = self.weight.square().sum() / 2, batch * self.weight[0], torch.tensor(3.0)
        return {"shrink": shrink, "first": first, "constant": none}


def test_gradients_by_hand():
    learner = Given()
    values = compare_gradients(learner, None, [-1.0, -3.0])
    # The means over both batches: (1, 2), (-2, 0), (0, 0).
    assert values == {
        "gradient_norm/shrink": pytest.approx(5**0.5),
        "gradient_cosine/shrink": pytest.approx(-2 / (5**0.5 * 2)),
        "gradient_norm/first": pytest.approx(2),
        "gradient_cosine/first": pytest.approx(-2 / (5**0.5 * 2)),
        "gradient_norm/constant": 0,
    }
    assert learner.weight.grad is None and learner.weight.tolist() == [1, 2]


def test_gradients_of_a_network_are_those_that_autograd_gives_the_whole_loss(tmp_path, monkeypatch):
    """With the terms weighed by 0 or 1 one at a time, ``backward`` of the sum gives each term's gradient."""
    tiny.make(tmp_path)
    probed = []

    def kept(learner, task, batches):
        values = compare_gradients(learner, task, batches)
        if task.index == 1 and not probed:
            gradients = {}
            for batch in learner.data.batches(batches):
                for name in learner.losses(batch, task):
                    learner.network.zero_grad()
                    learner.losses(batch, task)[name].backward()
                    flat = [p.grad.flatten() if p.grad is not None else 0 * p.flatten() for p in learner.trainable()]
                    gradients[name] = gradients.get(name, 0) + torch.cat(flat).detach() / len(batches)
            learner.network.zero_grad()
            probed.append((values, gradients))
        return values

    monkeypatch.setattr(updates, "compare_gradients", kept)
    tiny.train(tmp_path, "avcil", "--probe_gradients", "1")
    ((values, gradients),) = probed
    assert set(gradients) == {"cross_entropy", "I-AVSC", "C-AVSC", "distillation", "VAD_spatial", "VAD_temporal"}
    for name, gradient in gradients.items():
        rest = sum(other for term, other in gradients.items() if term != name)
        # float32 in another order of sums.
        assert values[f"gradient_norm/{name}"] == pytest.approx(float(gradient.norm()), rel=1e-5, abs=1e-12)
        cosine = float(F.cosine_similarity(gradient, rest, dim=0))
        if gradient.norm() > 1e-6:
            assert values[f"gradient_cosine/{name}"] == pytest.approx(cosine, abs=1e-5)
