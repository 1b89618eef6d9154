"""Learning in closed form: exact to the last bit, whatever the order, the batches and the shards."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard as scipys_hadamard
from sklearn.linear_model import Ridge

import train_incremental
from dataloader import Batch, open_data
from features.tokens import Tokens
from methods.analytic import CLASS_SIZE
from model.analytic_features import AnalyticFeatures, Scale
from model.random_features import DIRECTIONS, UNIT, RandomFeatures, TokenPooling, hadamard
from model.ridge import RidgeSums
from model.ridge_mixture import RidgeMixture, mixture_of_both, mixture_weights
from tests.helpers import tiny
from tests.helpers.children import two_ranks
from utils.errors import InputError

CLASSES, WIDTH = 5, 12


def rows(count, seed=0, width=WIDTH):
    generator = torch.Generator().manual_seed(seed)
    phi = (UNIT * torch.randn(count, width, generator=generator)).relu().round().short()
    return phi, torch.randint(CLASSES, (count,), generator=generator)


def sums_of(parts, width=WIDTH):
    sums = RidgeSums(width)
    sums.grow(CLASSES)
    for phi, label in parts:
        sums.add(phi, label)
    return sums


def equal(sums, others):
    return (
        torch.equal(sums.gram, others.gram)
        and torch.equal(sums.cross, others.cross)
        and torch.equal(sums.sizes, others.sizes)
    )


def test_the_solution_is_scikit_learns():
    phi, label = rows(60)
    one_hot = torch.nn.functional.one_hot(label, CLASSES).double()
    theirs = Ridge(alpha=700, fit_intercept=False).fit(phi.double(), one_hot).coef_.T
    np.testing.assert_allclose(sums_of([(phi, label)]).solve([700])[0][0], theirs, rtol=1e-8, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 59), max_size=6, unique=True), st.randoms())
def test_any_batches_in_any_order_give_the_same_bits(cuts, chance):
    phi, label = rows(60)
    order = torch.tensor(chance.sample(range(60), 60))
    edges = [0, *sorted(cuts), 60]
    parts = [(phi[order[a:b]], label[order[a:b]]) for a, b in zip(edges, edges[1:], strict=False)]
    assert equal(sums_of(parts), sums_of([(phi, label)]))


def test_class_by_class_is_all_at_once():
    phi, label = rows(80)
    sums = RidgeSums(WIDTH)
    for known in range(CLASSES):
        sums.grow(known + 1)
        sums.add(phi[label == known], label[label == known])
    assert equal(sums, sums_of([(phi, label)]))


def test_shards_add_up_and_clips_come_out_again():
    phi, label = rows(60)
    first, second = RidgeSums(WIDTH), RidgeSums(WIDTH)
    first.grow(2)
    first.add(phi[label < 2], label[label < 2])
    second.grow(CLASSES)
    second.add(phi[label >= 2], label[label >= 2])
    first.merge(second)
    whole = sums_of([(phi, label)])
    assert equal(first, whole)
    more = rows(7, seed=1)
    first.add(*more)
    assert not equal(first, whole)
    first.add(*more, sign=-1)
    assert equal(first, whole)


def test_the_sums_of_many_columns_and_rows_are_those_of_integers():
    """More than one tile and one block of rows, entries too large for single precision among them."""
    phi, label = rows(700, width=600)
    phi[3, 5] = phi[600, 590] = 30000
    sums, whole = sums_of([(phi, label)], 600), phi.numpy().astype(np.int64)
    expected = whole.T @ whole
    np.testing.assert_array_equal(np.tril(sums._lower_triangle()), np.tril(expected))
    np.testing.assert_array_equal(sums.diagonal(), expected.diagonal())
    np.testing.assert_array_equal(sums.cross[:, 2], whole[label == 2].sum(0))


def test_sums_go_over_to_64_bits_before_32_overflow():
    largest = torch.full((1, WIDTH), 32767, dtype=torch.int16)
    sums = sums_of([(largest, torch.tensor([0]))])
    assert sums.gram.dtype == torch.int32
    again = sums_of([(largest, torch.tensor([0]))] * 3)
    assert again.gram.dtype == torch.int64 and (again.gram == 3 * 32767**2).all()
    sums.merge(again)
    assert (sums.gram == 4 * 32767**2).all()


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("penalty", [10.0, 1e4])
def test_few_rows_are_solved_in_their_own_number(count, penalty):
    phi, label = rows(count)
    phi[-1] = phi[0]  # not even of full rank
    sums = sums_of([(phi, label)])
    gram = phi.double().numpy().T @ phi.double().numpy()
    direct = np.linalg.solve(gram + penalty * np.eye(WIDTH), sums.cross.double().numpy())
    # The residual is 1e-9 of the right side; the error may be some times that.
    np.testing.assert_allclose(sums.solve([penalty])[0][0], direct, rtol=1e-8, atol=1e-8 * abs(direct).max())


def test_clips_that_are_all_alike_have_weights_of_zero():
    sums = sums_of([(torch.zeros(3, WIDTH, dtype=torch.int16), torch.tensor([0, 1, 1]))])
    assert all((each == 0).all() for each in sums.solve([1.0]))


def test_a_penalty_that_is_too_small():
    phi, label = rows(20)
    sums = sums_of([(phi[:, :1].expand(-1, WIDTH), label)])
    with pytest.raises(InputError, match="penalty 1e-300"):
        sums.solve([1e-300])
    with pytest.raises(InputError, match="penalty 1e-300"):  # as it was given, not in the units of the features
        RidgeMixture([sums]).solve([1e-300], phi, label, unit=4096)


@pytest.mark.parametrize("count", [6, 30, 60])  # fewer rows than a fifth of the columns, and more
@pytest.mark.parametrize("weighted", [False, True])
def test_discriminants_are_those_of_the_scatter_within_classes(count, weighted):
    """Read off from ridge regression, they are those that the scatter gives itself."""
    phi, label = rows(count, width=40)
    label[:CLASSES] = torch.arange(CLASSES)
    weight = torch.linspace(1, 2, CLASSES).double() if weighted else torch.ones(CLASSES).double()
    _, directions, offsets = sums_of([(phi, label)], 40).solve([700, 2000], weight)
    # The sums are of features as they are; with --balance they come multiplied by the root of their weight.
    phi, scaled = phi.double(), phi.double()
    if weighted:
        phi = phi / weight[label][:, None]
    mass = weight[label].square()
    means = torch.stack([(phi * mass[:, None])[label == c].sum(0) / mass[label == c].sum() for c in range(CLASSES)])
    apart = scaled - weight[label][:, None] * means[label]
    for number, penalty in enumerate((700, 2000)):
        expected = torch.linalg.solve(apart.T @ apart + penalty * torch.eye(40), means.T)
        bias = -(means * expected.T).sum(1) / 2
        centred = expected - expected.mean(1, keepdim=True)
        torch.testing.assert_close(directions[number], centred, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(offsets[number], bias - bias.mean(), rtol=1e-8, atol=1e-10)


def test_a_mixture_solves_each_part_alone():
    phi, label = rows(60, width=20)
    mixture = RidgeMixture([RidgeSums(12), RidgeSums(8)])
    mixture.grow(CLASSES)
    mixture.add(phi, label)
    weights, offsets, (ridge, discriminants) = mixture.solve([10.0, 100.0], phi, label)
    assert ridge.shape == discriminants.shape == (2, 2) and ridge.any() and discriminants.any()
    expected, constant = [], torch.zeros(CLASSES).double()
    for part, columns in enumerate((slice(0, 12), slice(12, 20))):
        width = columns.stop - columns.start
        sums = sums_of([(phi[:, columns], label)], width)
        regression, directions, offset = sums.solve([10.0 * width, 100.0 * width])
        total = torch.einsum("k,kec->ec", ridge[part], regression)
        expected.append(total + torch.einsum("k,kec->ec", discriminants[part], directions))
        constant += discriminants[part] @ offset
    torch.testing.assert_close(weights, torch.cat(expected), rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(offsets, constant, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("better", [0, 1])
def test_of_two_kinds_of_scores_the_better_counts(better):
    label = np.arange(200) % 4
    right = np.eye(4)[label]
    noise = np.random.default_rng(0).random(right.shape)
    kinds = [noise[None, None], noise[None, None]]
    kinds[better] = np.stack([right, noise])[:, None]
    shares = mixture_of_both(*kinds, label)
    assert shares[better][0, 0] > 0.5 and all((each >= 0).all() for each in shares)
    assert shares[1 - better] == pytest.approx(0)


def test_discriminants_of_the_penalty_that_does_best_count():
    label = np.arange(200) % 4
    rng = np.random.default_rng(0)
    good, poor = (np.eye(4)[label] + size * rng.standard_normal((200, 4)) for size in (0.5, 2))
    ridge, discriminants = np.stack([[poor, poor]]), np.stack([[poor, good], [poor, good]])
    _, shares = mixture_of_both(ridge, discriminants, label)
    assert (shares[:, 1] > 0).all() and not shares[:, 0].any()


def test_scores_of_one_class_mix():
    shares = mixture_of_both(np.ones((2, 2, 3, 1)), np.zeros((2, 2, 3, 1)), np.zeros(3, int))
    assert all(np.isfinite(each).all() for each in shares)


def test_shares_follow_the_better_scores_and_no_score_counts_against_itself():
    label = np.arange(200) % 4
    right = np.eye(4)[label]
    rng = np.random.default_rng(0)
    noise, wrong = rng.random(right.shape), 1 - right
    shares = mixture_weights(np.stack([right, noise, wrong]), label)
    assert shares[0] > 5 * shares[1:].max() and shares.min() >= 0
    alike = mixture_weights(np.stack([right, right]), label)
    np.testing.assert_allclose(alike, 0.5)


@pytest.mark.parametrize("size", [2, 16])
def test_hadamard_transform(size):
    columns = torch.randn(size, 3, dtype=torch.float64)
    expected = scipys_hadamard(size) @ columns.numpy()
    np.testing.assert_allclose(hadamard(columns), expected, rtol=1e-12, atol=1e-12)


def test_random_features_have_the_arc_cosine_kernel():
    generator = torch.Generator().manual_seed(0)
    x = torch.nn.functional.normalize(torch.randn(6, 20, generator=generator, dtype=torch.float64), dim=1)
    width = 8192
    phi = RandomFeatures(20, width, seed=3)(x).double() / UNIT
    angle = torch.arccos((x @ x.T).clamp(-1, 1))
    kernel = (torch.sin(angle) + (torch.pi - angle) * torch.cos(angle)) / torch.pi
    # A mean of 8,192 products of deviation about 2: four of its own deviations.
    torch.testing.assert_close(phi @ phi.T / width, kernel, rtol=0, atol=0.09)


@pytest.mark.parametrize("dims, width", [(1, 5), (7, 20), (12, 3)])
def test_random_directions_are_orthogonal_and_a_row_depends_on_no_other(dims, width):
    features = RandomFeatures(dims, width, seed=1)
    x = torch.randn(40, dims, dtype=torch.float64)
    phi = features(x)
    assert phi.shape == (40, width) and phi.dtype == torch.int16 and (phi >= 0).all()
    for size in (1, 7):
        assert torch.equal(phi, torch.cat([features(part) for part in x.split(size)]))
    both = (features(torch.eye(dims)) - features(-torch.eye(dims))).double() / (UNIT * 2**0.5)  # relu(u) - relu(-u) = u
    first = both[:, : min(width, features.size)] / features.size**0.5
    if width >= features.size:  # each run of directions keeps lengths and angles; the rest is the rounding
        torch.testing.assert_close(first @ first.T, torch.eye(dims).double(), rtol=0, atol=0.05)


def test_one_deviation_for_all_columns():
    values = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    # The first column varies by 1, the second not at all: one deviation, the root of the mean variance 1/2, for both.
    np.testing.assert_allclose(Scale.of(values)(values), [[-1.0, 0.0], [1.0, 0.0]], rtol=1e-7)
    # Of rows that are themselves means: E[x] = 2, E[x^2] = 6 over all parts.
    assert Scale.of(torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [10.0]])).deviation.item() == pytest.approx(
        2**0.5
    )
    alone = Scale.of(torch.tensor([[3.0, 4.0]]))  # of one clip: the size of its own values
    assert alone.deviation.item() == pytest.approx(12.5**0.5)


def test_what_tokens_are_pooled_to():
    tokens = torch.randn(1, 4, 9, 6)
    pooled = TokenPooling((4, 9, 6), seed=0)(tokens, squares=True)
    assert {name: values.shape[1] for name, values in pooled.items()} == {
        "mean": 6,
        "squares": 6,
        "token extremes": 2 * DIRECTIONS,
        "frame extremes": 2 * DIRECTIONS,
        "mean frame": 54,
        "change": 6,
    }
    shuffled = TokenPooling((4, 9, 6), seed=0)(tokens.flatten(1, 2)[:, torch.randperm(36)].view_as(tokens))
    torch.testing.assert_close(pooled["token extremes"], shuffled["token extremes"])
    assert not torch.allclose(pooled["frame extremes"], shuffled["frame extremes"])
    still = TokenPooling((4, 9, 6), seed=0)(tokens[:, :1].expand(-1, 4, -1, -1))
    assert (still["change"] == 0).all()


@pytest.mark.parametrize("positions", [25, 18])
def test_many_positions_are_pooled_to_four(positions):
    pooling = TokenPooling((2, positions, 3), seed=0)
    tokens = torch.randn(1, 2, positions, 3)
    assert pooling._places(tokens).shape == (1, 2, 4, 3)
    torch.testing.assert_close(pooling._places(torch.ones_like(tokens)), torch.ones(1, 2, 4, 3))


def test_heads_find_what_sound_and_sight_share():
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
    for heads, view in ((0, "audio and mean"), (1, "audio and heads")):
        features = AnalyticFeatures(heads, 3.0, (1, 6, width), seed=0)
        features.fit(lambda: [batch])
        x = features(features.vectors(batch))[view] * width**0.5
        fit = Ridge(alpha=100.0).fit(x[:100], 2 * label[:100] - 1)
        accuracy[heads] = np.mean((fit.predict(x[100:]) > 0) == label[100:])
    assert accuracy[0] < 0.7 and accuracy[1] > 0.9


def as_batch(audio, tokens):
    tokens = Tokens.of(torch.from_numpy(tokens).float()[:, None])
    return Batch(None, None, torch.from_numpy(audio).float(), tokens)


def test_views_have_length_one_on_the_clips_they_were_measured_on(tmp_path):
    tiny.make(tmp_path)
    data = open_data("tiny", data_root=tmp_path)
    features = AnalyticFeatures(4, 3.0, data.visual_shape, seed=0)
    clips = data.clips("train", slice(0, 2))
    vectors = features.fit(lambda: [data.load(clips[:7]), data.load(clips[7:])])
    views = features(vectors)
    assert len(views) == 9
    for x in views.values():
        assert x.square().sum(1).mean().item() == pytest.approx(1, abs=1e-6)
    again = features(features.vectors(data.load(clips)))
    assert all(torch.equal(views[name], again[name]) for name in views)


def train(root, *flags):
    return tiny.train(root, "analytic", "--expansion", "60", *flags)[1]


def saved(root, run="run", name="step_2.pt"):
    return torch.load(root / run / "checkpoints" / name, weights_only=True)


@pytest.mark.parametrize("modality", ["audio", "visual", "audio-visual"])
def test_batch_sizes_change_no_bit(tmp_path, modality):
    tiny.make(tmp_path)
    weights = []
    for size in ("5", "64"):
        train(tmp_path, "--modality", modality, "--infer_batch_size", size)
        weights.append(saved(tmp_path)["learner"]["weights"])
    assert torch.equal(*weights)


def test_the_order_of_clips_within_a_step_changes_no_bit(tmp_path):
    weights = []
    for order, root in ((1, tmp_path / "a"), (-1, tmp_path / "b")):
        folder = tiny.make(root)
        path = folder / "all_classId_vid_dict.npy"
        clips = np.load(path, allow_pickle=True).item()
        for classes in clips.values():
            for label in classes:
                classes[label] = classes[label][::order]
        np.save(path, clips)
        train(root)
        weights.append(saved(root)["learner"]["weights"])
    assert torch.equal(*weights)


def test_step_by_step_is_all_at_once(tmp_path):
    """The sums of three steps are those of one with all classes, and so are the scores, with the same first clips."""
    tiny.make(tmp_path)
    train(tmp_path)
    steps = saved(tmp_path, name="ongoing_2.pt")["sums"]
    data = open_data("tiny", data_root=tmp_path)
    features = AnalyticFeatures(4, 3.0, data.visual_shape, seed=42)
    features.load_state(saved(tmp_path)["learner"]["views"])
    batch = data.load(data.clips("train", slice(0, 6)))
    for number, (x, expected) in enumerate(zip(features(features.vectors(batch)).values(), steps, strict=True)):
        width = len(expected["cross"])
        once = RidgeSums(width)
        once.grow(6)
        once.add(RandomFeatures(x.shape[1], width, seed=42 * 9 + number)(x), batch.label)
        assert torch.equal(once.gram, expected["gram"]) and torch.equal(once.cross, expected["cross"])


SHAPES = {
    "more clips than features": ({"train": 40, "val": 3, "test": 4}, {}, ["--expansion", "12"]),
    "a class of one clip": ({"train": [1, 9, 9, 9, 1, 9], "val": 1, "test": 1}, {}, []),
    "one class a step": ({"train": [1, 9, 9, 9, 9, 9], "val": 3, "test": 4}, {}, ["--classes_per_step", "1"]),
    "three dimensions": ({"train": 9, "val": 3, "test": 4}, {"dim": 3}, []),
    "one dimension": ({"train": 9, "val": 3, "test": 4}, {"dim": 1}, []),
    "one feature": ({"train": 9, "val": 3, "test": 4}, {}, ["--expansion", "1"]),
    "many positions": ({"train": 9, "val": 3, "test": 4}, {"positions": 25}, []),
    "no heads": ({"train": 9, "val": 3, "test": 4}, {}, ["--heads", "0"]),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("modality", ["audio-visual", "visual"])
def test_every_shape_of_data_is_learned(tmp_path, shape, modality):
    counts, sizes, flags = SHAPES[shape]
    if modality == "visual" and "--heads" in flags:
        pytest.skip("runs on sight alone have no heads to leave out")
    tiny.make(tmp_path, counts, **sizes)
    results = train(tmp_path, "--modality", modality, *flags)
    assert all(0 <= accuracy <= 1 for accuracy in results["accuracy_per_step"])
    last = saved(tmp_path, name=f"step_{len(results['accuracy_per_step']) - 1}.pt")["learner"]["weights"]
    assert last.isfinite().all() and last.shape[1] == 6


@pytest.mark.parametrize("uneven", [False, True])
def test_balance_lets_classes_count_the_same(tmp_path, uneven):
    """Classes of CLASS_SIZE clips are as without it; of uneven ones each has the same weight in all."""
    counts = [CLASS_SIZE, 5, 20] if uneven else CLASS_SIZE
    tiny.make(tmp_path, {"train": counts, "val": 2, "test": 2}, classes=3, positions=1)
    found = {}
    for balance in ("0", "1"):
        flags = ["--modality", "audio", "--balance", balance, "--classes_per_step", "3"]
        tiny.train(tmp_path, "analytic", *flags)
        (found[balance],) = saved(tmp_path, name="ongoing_0.pt")["sums"]
    assert torch.equal(found["0"]["gram"], found["1"]["gram"]) != uneven
    ratio = (found["1"]["cross"].sum(0) / found["0"]["cross"].sum(0)).numpy()
    # Features are multiplied by the root of the weight, and so is the target when the sums are solved.
    expected = [(CLASS_SIZE / count) ** 0.5 for count in counts] if uneven else [1.0] * 3
    np.testing.assert_allclose(ratio, expected, rtol=2e-3)  # of whole numbers of about UNIT


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


def test_the_state_takes_as_much_memory_for_one_view_as_for_nine():
    for views in (1, 4, 9):
        mixture = RidgeMixture([RidgeSums(int(7500 / views**0.5)) for _ in range(views)])
        assert sum(sums.gram.nbytes for sums in mixture.sums) == pytest.approx(113.3e6, rel=1e-2)


def test_two_processes_give_the_run_of_one(tmp_path):
    tiny.make(tmp_path)
    results = train(tmp_path)
    flags = tiny.flags(tmp_path, "analytic", "--run_dir", str(tmp_path / "two"), "--expansion", "60")
    for rank in two_ranks(lambda: train_incremental.main(flags), tmp_path):
        assert rank.wait() == 0, rank.said()
    two = json.loads((tmp_path / "two" / "results.json").read_text())
    assert two["accuracy_matrix"] == results["accuracy_matrix"]
    assert torch.equal(*(saved(tmp_path, run)["learner"]["weights"] for run in ("run", "two")))


def test_pooling_tokens_of_clips_that_others_hold(tmp_path):
    tiny.make(tmp_path)
    data = open_data("tiny", data_root=tmp_path)
    features = AnalyticFeatures(2, 3.0, data.visual_shape, seed=0)
    features.fit(lambda: data.batches([data.clips("train", slice(0, 2))]))
    views = features(features.vectors(data.load(np.arange(5))))
    assert views["audio and heads"].shape == (5, 12 + 12 + 2 * 12)
