"""Learning in closed form: exact, whatever the order, the batches and the shards."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from dataloader import open_data
from methods.analytic import CLASS_SIZE
from model.analytic_features import AnalyticFeatures, Scale
from model.ridge import LeastSquares
from tests.helpers import tiny
from tests.test_tiers import torchrun
from utils.errors import InputError

CLASSES, WIDTH = 5, 12


def rows(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    phi = torch.randn(count, WIDTH, generator=generator, dtype=torch.float64).relu()
    return phi, torch.randint(CLASSES, (count,), generator=generator)


def solved(parts, gamma=0.7):
    sums = LeastSquares(WIDTH)
    sums.grow(CLASSES)
    for phi, label in parts:
        sums.add(phi, label)
    return sums.solve(gamma)


def test_against_scikit_learn():
    phi, label = rows(60)
    one_hot = torch.nn.functional.one_hot(label, CLASSES).double()
    theirs = Ridge(alpha=0.7, fit_intercept=False).fit(phi, one_hot).coef_.T
    np.testing.assert_allclose(solved([(phi, label)]), theirs, rtol=1e-8, atol=1e-10)


def test_weighted_rows_against_scikit_learn():
    phi, label = rows(60)
    weight = torch.linspace(0.1, 3, 60, dtype=torch.float64)
    one_hot = torch.nn.functional.one_hot(label, CLASSES).double()
    theirs = Ridge(alpha=0.7, fit_intercept=False).fit(phi, one_hot, weight).coef_.T
    sums = LeastSquares(WIDTH)
    sums.grow(CLASSES)
    for part in (slice(0, 25), slice(25, 60)):
        sums.add(phi[part], label[part], weight=weight[part])
    np.testing.assert_allclose(sums.solve(0.7), theirs, rtol=1e-8, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 59), max_size=6, unique=True), st.randoms())
def test_any_batches_in_any_order_give_the_same(cuts, chance):
    phi, label = rows(60)
    order = torch.tensor(chance.sample(range(60), 60))
    edges = [0, *sorted(cuts), 60]
    parts = [(phi[order[a:b]], label[order[a:b]]) for a, b in zip(edges, edges[1:], strict=False)]
    torch.testing.assert_close(solved(parts), solved([(phi, label)]), rtol=1e-8, atol=1e-10)


def test_class_by_class_is_all_at_once():
    phi, label = rows(80)
    sums = LeastSquares(WIDTH)
    for known in range(CLASSES):
        sums.grow(known + 1)
        sums.add(phi[label == known], label[label == known])
    torch.testing.assert_close(sums.solve(0.7), solved([(phi, label)]), rtol=1e-8, atol=1e-10)


def test_shards_add_up_and_clips_come_out_again():
    phi, label = rows(60)
    first, second = LeastSquares(WIDTH), LeastSquares(WIDTH)
    first.grow(2)
    first.add(phi[label < 2], label[label < 2])
    second.grow(CLASSES)
    second.add(phi[label >= 2], label[label >= 2])
    first.merge(second)
    whole = solved([(phi, label)])
    torch.testing.assert_close(first.solve(0.7), whole, rtol=1e-8, atol=1e-10)
    more = rows(7, seed=1)
    first.add(*more)
    assert not torch.allclose(first.solve(0.7), whole, rtol=1e-3)
    first.add(*more, sign=-1)
    torch.testing.assert_close(first.solve(0.7), whole, rtol=1e-8, atol=1e-10)
    assert first.count == 60


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("gamma", [0.01, 1.0, 100.0])
def test_few_rows_are_solved_in_their_own_size(count, gamma):
    phi, label = rows(count)
    phi[-1] = phi[0]  # not even of full rank
    sums = LeastSquares(WIDTH)
    sums.grow(CLASSES)
    sums.add(phi, label)
    torch.testing.assert_close(sums.solver()(gamma), sums._solve(gamma), rtol=1e-8, atol=1e-10)


def test_a_penalty_that_is_too_small():
    sums = LeastSquares(WIDTH)
    sums.grow(CLASSES)
    phi, label = rows(20)
    sums.add(phi[:, :1].expand(-1, WIDTH), label)
    with pytest.raises(InputError, match="--gamma 1e-300"):
        sums.solve(1e-300)


def test_scale():
    values = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    scale = Scale.of(values)
    # The first column varies by 1, the second not at all: one deviation, the root of the mean variance 1/2, for both.
    np.testing.assert_allclose(scale(values), [[-(2**0.5), 0.0], [2**0.5, 0.0]])
    # Of rows that are themselves means: E[x] = 2, E[x^2] = 6 over all parts.
    assert Scale.of(torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [10.0]])).deviation.item() == pytest.approx(
        2**0.5
    )


def test_heads_find_what_sound_and_sight_share(tmp_path):
    """Of six tokens one bears the class, and a mark with the sign of the cue in the sound; another has the opposite."""
    generator = np.random.default_rng(0)
    count, width = 200, 24
    sign = generator.choice([-1.0, 1.0], count)
    label = generator.integers(0, 2, count)
    marks, classes = generator.standard_normal((2, width)), 4 * generator.standard_normal((2, width))
    audio = sign[:, None] * marks[0] * 3 + generator.standard_normal((count, width))
    tokens = generator.standard_normal((count, 6, width))
    tokens[:, 0] += classes[label] + 6 * sign[:, None] * marks[1]
    tokens[:, 1] += classes[1 - label] - 5 * sign[:, None] * marks[1]
    batch = as_batch(audio, tokens)
    accuracy = {}
    for heads in (0, 1):
        features = AnalyticFeatures(heads, 3.0)
        features.fit(lambda: [batch])
        x = features(batch)
        fit = Ridge(alpha=100.0).fit(x[:100], 2 * label[:100] - 1)
        accuracy[heads] = np.mean((fit.predict(x[100:]) > 0) == label[100:])
    assert accuracy[0] < 0.7 and accuracy[1] > 0.9


def as_batch(audio, tokens):
    from dataloader import Batch
    from features.tokens import Tokens

    tokens = Tokens.of(torch.from_numpy(tokens).float()[:, None])
    return Batch(None, None, torch.from_numpy(audio).float(), tokens)


def train(root, *flags):
    return tiny.train(root, "analytic", "--expansion", "60", *flags)[1]


@pytest.mark.parametrize("modality", ["audio", "visual", "audio-visual"])
def test_batch_sizes_change_nothing(tmp_path, modality):
    tiny.make(tmp_path)
    weights = []
    for size in ("5", "64"):
        train(tmp_path, "--modality", modality, "--infer_batch_size", size)
        saved = torch.load(tmp_path / "run" / "checkpoints" / "step_2.pt", weights_only=True)
        weights.append(saved["learner"]["weights"])
    # Vectors are exact; pooled tokens are sums in single precision.
    tolerance = 1e-4 if modality == "audio-visual" else 1e-8
    torch.testing.assert_close(*weights, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("uneven", [False, True])
def test_balance_lets_classes_count_the_same(tmp_path, uneven):
    """Classes of CLASS_SIZE clips are as without it; of uneven ones each has the same weight in all."""
    counts = [CLASS_SIZE, 5, 20] if uneven else CLASS_SIZE
    tiny.make(tmp_path, {"train": counts, "val": 2, "test": 2}, classes=3, positions=1)
    found = {}
    for balance in ("0", "1"):
        flags = ["--modality", "audio", "--balance", balance, "--classes_per_step", "3"]
        tiny.train(tmp_path, "analytic", *flags)
        saved = torch.load(tmp_path / "run" / "checkpoints" / "ongoing_0.pt")
        found[balance] = saved["gram"], saved["cross"].sum(0)
    assert torch.equal(found["0"][0], found["1"][0]) != uneven
    ratio = found["1"][1] / found["0"][1]
    expected = [CLASS_SIZE / count for count in counts] if uneven else [1.0] * 3
    np.testing.assert_allclose(ratio, expected)


@pytest.mark.parametrize("trunk", ["raw", "avcil", "both"])
def test_trunks(tmp_path, trunk):
    tiny.make(tmp_path, {"train": 20, "val": 5, "test": 10})
    results = train(tmp_path, "--analytic_trunk", trunk, "--max_epochs", "10", "--train_batch_size", "16")
    assert results["last_accuracy"] > 0.6
    epochs = (tmp_path / "run" / "epochs.csv").read_text().splitlines()[1:]
    assert all(line.startswith("0,") for line in epochs) and bool(epochs) == (trunk != "raw")


def test_only_the_last_step_keeps_its_sums(tmp_path):
    tiny.make(tmp_path)
    train(tmp_path)
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["ongoing_2.pt", "step_0.pt", "step_1.pt", "step_2.pt"]


def test_two_processes_give_the_run_of_one(tmp_path):
    tiny.make(tmp_path)
    results = train(tmp_path)
    done = torchrun(tmp_path, tmp_path / "two", "--expansion", "60", method="analytic")
    assert done.returncode == 0, done.stderr
    two = json.loads((tmp_path / "two" / "results.json").read_text())
    assert two["accuracy_matrix"] == results["accuracy_matrix"]
    saved = [torch.load(tmp_path / run / "checkpoints" / "step_2.pt", weights_only=True) for run in ("run", "two")]
    torch.testing.assert_close(*(each["learner"]["weights"] for each in saved), rtol=1e-6, atol=1e-8)


def test_sharing_tokens_of_clips_that_others_hold(tmp_path):
    tiny.make(tmp_path)
    data = open_data("tiny", data_root=tmp_path)
    features = AnalyticFeatures(2, 3.0)
    features.fit(lambda: data.batches([data.clips("train", slice(0, 2))]))
    batch = data.load(np.arange(5))
    assert features(batch).shape == (5, 12 + 12 + 2 * 12)
