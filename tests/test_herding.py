"""Exemplars and class means against hand examples and the plainest algorithm."""

import random

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tasks import make_tasks
from methods.afc import imprint_proxies
from utils.exemplars import ExemplarMemory, choose_randomly, class_mean, herd


def check_herding(features, chosen, repeat):
    """Each choice is the best there is, by the definition; of equally good ones any will do."""
    mean = features.mean(0)
    for k in range(1, len(chosen) + 1):
        before = features[chosen[: k - 1]].sum(0)
        distances = [float((mean - (before + row) / k).norm()) for row in features]
        allowed = [row for row in range(len(features)) if repeat or row not in chosen[: k - 1]]
        assert chosen[k - 1] in allowed
        assert distances[chosen[k - 1]] <= min(distances[row] for row in allowed) + 1e-9


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 12), count=st.integers(1, 15), repeat=st.booleans())
def test_herding_is_the_plain_algorithm(seed, size, count, repeat):
    features = torch.randn(size, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    chosen = herd(features, count, repeat)
    check_herding(features, chosen, repeat)
    assert len(chosen) == min(size, count)


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
