"""Exemplars and class means against hand examples and the plainest algorithm."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dataloader import open_data
from engine.options import parse, resolve
from engine.tasks import make_tasks
from methods.afc import imprint_proxies
from tests.helpers import tiny
from utils.exemplars import ExemplarMemory, choose_randomly, class_mean
from utils.exemplars import herd as herd_classes
from utils.seeding import seed_everything, shuffled_pass


def herd(features, count, repeat):
    """Of a single class, as a list."""
    (chosen,) = herd_classes([features], count, repeat)
    return chosen.tolist()


def plain_herding(features, count, repeat):
    """The definition, in 64 bits; of equally good clips the first."""
    rows, mean = features.numpy().astype(np.float64), features.mean(0).numpy().astype(np.float64)
    chosen = []
    for k in range(1, min(count, len(rows)) + 1):
        distances = [np.square((rows[chosen].sum(0) + row) / k - mean).sum() for row in rows]
        free = [row for row in range(len(rows)) if repeat or row not in chosen]
        chosen.append(min(free, key=lambda row: distances[row]))
    return chosen


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 12), count=st.integers(1, 15), repeat=st.booleans())
def test_herding_is_the_plain_algorithm(seed, size, count, repeat):
    features = torch.randn(size, 5, generator=torch.Generator().manual_seed(seed))
    assert herd(features, count, repeat) == plain_herding(features, count, repeat)


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4), count=st.integers(1, 12), repeat=st.booleans())
def test_classes_of_any_sizes_are_herded_side_by_side(sizes, count, repeat):
    classes = [torch.randn(size, 5, generator=torch.Generator().manual_seed(size)) for size in sizes]
    chosen = [rows.tolist() for rows in herd_classes(classes, count, repeat)]
    assert chosen == [plain_herding(features, count, repeat) for features in classes]


@pytest.mark.parametrize("repeat", [False, True])
def test_of_equal_clips_the_first_is_chosen(repeat):
    clips = torch.randn(5, 768, generator=torch.Generator().manual_seed(0))
    chosen = herd(clips[[3, 0, 3, 1, 0, 2, 4]], 7, repeat)
    assert chosen.index(0) < chosen.index(2) if not repeat else not {2, 4} & set(chosen)


def test_near_ties_fall_as_in_64_bits():
    """Unit vectors whose distances from the mean differ by less than float32 can tell of their squares."""
    features = torch.nn.functional.normalize(torch.randn(40, 768, generator=torch.Generator().manual_seed(1)), dim=1)
    features[1::2] = features[::2] + 1e-7 * torch.randn(20, 768, generator=torch.Generator().manual_seed(2))
    assert herd(features, 20, True) == plain_herding(features, 20, True)


def test_herding_by_hand():
    # The mean is 2: first the clip at 2; then again it (mean 2), or, without repetition, the one at 1.5 (mean 1.75).
    features = torch.tensor([[0.0], [1.5], [2.0], [4.5]])
    assert herd(features, 2, repeat=True) == [2, 2]
    assert herd(features, 2, repeat=False) == [2, 1]


def test_mean_of_a_class_smaller_than_its_places():
    features = torch.tensor([[0.6, 0.8], [1.0, 0.0]])
    # Four places for two clips: half of the mean is nothing.
    torch.testing.assert_close(class_mean(features, 4, released=True), torch.tensor([0.4, 0.2]))
    corrected = class_mean(features, 4, released=False)
    torch.testing.assert_close(corrected, torch.tensor([1.6, 0.8]) / (1.6**2 + 0.8**2) ** 0.5)


def test_proxies_of_a_class_with_few_clips():
    np.random.seed(0)
    few = torch.nn.functional.normalize(torch.randn(3, 6), dim=1)
    many = torch.randn(30, 6)
    proxies = imprint_proxies([few, many], 10)
    assert proxies.shape == (20, 6)
    # Three clips are their own centres, taken in turn.
    torch.testing.assert_close(proxies[:3], proxies[3:6])
    assert torch.cdist(few, proxies[:3]).amin(1).max() < 1e-3
    assert len(torch.unique(proxies[10:], dim=0)) == 10
    assert imprint_proxies([few[:1].expand(12, 6)], 10).isfinite().all()


def test_memory_keeps_the_best_of_a_fixed_total():
    first, second = make_tasks(6, [2, 4])
    memory = ExemplarMemory(12)
    videos = {label: [f"{label}_{number}" for number in range(4)] for label in range(6)}
    memory.update(first, lambda task, quota: {c: videos[c][:quota] for c in range(task.start, task.stop)})
    assert memory.clips == {0: videos[0], 1: videos[1]}
    memory.update(second, lambda task, quota: {c: videos[c][:quota] for c in range(task.start, task.stop)})
    assert memory.clips == {label: videos[label][:2] for label in range(6)}
    assert memory.ids()[:3] == ["0_0", "0_1", "1_0"]


def test_random_choice_is_of_different_clips_and_follows_the_seed():
    videos = [str(number) for number in range(9)]
    random.seed(3)
    chosen = choose_randomly(videos, 5)
    assert len(set(chosen)) == 5 and set(chosen) <= set(videos)
    assert sorted(choose_randomly(videos, 20)) == videos
    random.seed(3)
    assert choose_randomly(videos, 5) == chosen


def afc(tmp_path, counts, *flags):
    """An AFC learner after step 0 of tiny data, and the tasks."""
    tiny.make(tmp_path, counts)
    args, method = parse(tiny.flags(tmp_path, "afc", "--modality", "audio", *flags))
    args = resolve(args, tiny.CLASSES)
    learner = method(args, open_data("tiny", "audio", data_root=tmp_path), torch.device("cpu"))
    tasks = make_tasks(tiny.CLASSES, [2])
    seed_everything(1)
    learner.begin_task(tasks[0])
    learner.memory.update(tasks[0], lambda task, quota: learner.data.ids_by_class(task.new))
    return learner, tasks


def test_imprinting_sees_the_complete_batches_of_one_shuffled_pass(tmp_path):
    learner, tasks = afc(tmp_path, {"train": 25, "val": 1, "test": 1}, "--train_batch_size", "60")
    state = torch.get_rng_state()
    features = learner.features_to_imprint(tasks[1])
    after = torch.get_rng_state()
    torch.set_rng_state(state)
    ((batch, _),) = shuffled_pass(learner.training_clips(tasks[1]), 60)
    assert torch.equal(torch.get_rng_state(), after)
    assert [len(rows) for rows in features] == [int((learner.data.label[batch] == label).sum()) for label in (2, 3)]
    assert 20 < len(features[0]) + len(features[1]) < 50


def test_imprinting_of_a_class_with_too_few_clips_in_complete_batches_takes_all_it_has(tmp_path):
    sizes = [30, 30, 30, 3, 30, 30]
    learner, tasks = afc(tmp_path, {"train": sizes, "val": 1, "test": 1}, "--train_batch_size", "60")
    many, few = learner.features_to_imprint(tasks[1])
    assert len(many) > 10 and len(few) == 3
    learner.begin_task(tasks[1])
    assert learner.network.classifier.new.shape == (20, tiny.DIM) and learner.network.classifier.new.isfinite().all()


def test_the_scale_of_nca_starts_at_one_in_every_step(tmp_path):
    learner, tasks = afc(tmp_path, {"train": 25, "val": 1, "test": 1})
    with torch.no_grad():
        learner.network.classifier.scale.fill_(3.0)
    learner.begin_task(tasks[1])
    assert learner.network.classifier.scale == learner.teacher.classifier.scale == 1.0
    assert learner.network.classifier.scale.requires_grad and not learner.teacher.classifier.scale.requires_grad


def test_features_that_have_not_changed_do_not_pull(tmp_path):
    """Nor does what round-off makes of no change, whose gradient would have length 1."""
    learner, tasks = afc(tmp_path, {"train": 25, "val": 1, "test": 1})
    learner.begin_task(tasks[1])
    learner.cache_teacher(tasks[1])
    batch = learner.data.load(learner.training_clips(tasks[1])[:20])
    feature = learner.forward(learner.network, batch)["feature"].detach()
    for change, pulls in ((0.0, False), (1e-8, False), (1e-3, True)):
        moved = (feature * (1 + change * torch.randn(feature.shape))).requires_grad_()
        (gradient,) = torch.autograd.grad(learner.feature_distillation({"feature": moved}, batch), moved)
        assert gradient.isfinite().all() and bool(gradient.any()) == pulls
