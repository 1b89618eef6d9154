"""The exemplar memory: ids of clips kept from earlier classes, a fixed total shared evenly by the classes."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from utils.seeding import shuffled, start_pass


class ExemplarMemory:
    """``clips[class]`` are the video ids kept, best first. Features stay in the data; the memory never pads."""

    def __init__(self, size: int):
        self.size = size
        self.clips = {}

    def quota(self, num_classes: int) -> int:
        """Exemplars per class when ``num_classes`` have been learned."""
        return self.size // num_classes

    def update(self, task: Any, choose: Callable[[Any, int], dict[int, list[str]]]) -> None:
        """After ``task``: cut older classes to the new quota, and add ``choose(task, quota)``, {class: ids}."""
        quota = self.quota(task.stop)
        self.clips = {label: videos[:quota] for label, videos in self.clips.items()} | choose(task, quota)

    def ids(self) -> list[str]:
        """All ids, class by class in class order."""
        return [video for label in sorted(self.clips) for video in self.clips[label]]


def choose_randomly(videos: list[str], quota: int) -> list[str]:
    """``quota`` of ``videos``, or all of them in random order if there are fewer."""
    return random.sample(videos, min(len(videos), quota))


def shuffled_pass(clips: np.ndarray, batch_size: int) -> list[tuple[np.ndarray, int]]:
    """One pass over ``clips`` in random order: pairs (indices, 0 replayed), the incomplete last batch dropped."""
    start_pass()
    return [(batch, 0) for batch in _full_batches(clips, batch_size)]


def paired_pass(
    clips: np.ndarray, batch_size: int, exemplars: np.ndarray, exemplar_batch_size: int, reshuffle: bool
) -> list[tuple[np.ndarray, int]]:
    """One pass over new ``clips`` with a batch of ``exemplars`` beside each: pairs (indices, number replayed).

    When the exemplars run out they start over: in a new order if ``reshuffle``, else in the same one.
    """
    start_pass()
    start_pass()
    new = _full_batches(clips, batch_size)
    old = _full_batches(exemplars, exemplar_batch_size)
    pairs = []
    for number, batch in enumerate(new):
        if reshuffle and number and number % len(old) == 0:
            start_pass()
            old = _full_batches(exemplars, exemplar_batch_size)
        replayed = old[number % len(old)]
        pairs.append((np.concatenate((batch, replayed)), len(replayed)))
    return pairs


def _full_batches(clips, batch_size):
    size = min(batch_size, len(clips))
    order = clips[shuffled(len(clips))]
    return [order[start : start + size] for start in range(0, len(order) - size + 1, size)]


def herd(features: torch.Tensor, count: int, repeat: bool) -> list[int]:
    """Indices of up to ``count`` rows of ``features`` (N, D), best first.

    The k-th is the row that brings the mean of the first k chosen nearest to the mean of all. ``repeat`` lets a row be
    chosen again, as the released code does.
    """
    count = min(count, len(features))
    mean, half_squares = features.mean(0), features.square().sum(1) / 2
    towards_mean = features @ mean
    total = torch.zeros_like(towards_mean)  # products of each row with the sum of the chosen ones
    free = torch.zeros_like(towards_mean)
    chosen = []
    for k in range(1, count + 1):
        # |k mean - sum - x|^2, without what is the same for all rows.
        best = int((half_squares - k * towards_mean + total + free).argmin())
        chosen.append(best)
        total += features @ features[best]
        if not repeat:
            free[best] = torch.inf
    return chosen


def class_mean(features: torch.Tensor, slots: int, released: bool) -> torch.Tensor:
    """Mean of the exemplars' ``features`` (N, D) of a class that has ``slots`` places in memory.

    ``released`` divides by the places, as if the empty ones held zero vectors; otherwise the mean of the real
    exemplars, of unit length.
    """
    return features.sum(0) / slots if released else F.normalize(features.mean(0), dim=0)
