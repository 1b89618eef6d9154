"""The exemplar memory: ids of clips kept from earlier classes, a fixed total shared evenly by the classes."""

import random
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F


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

    def ids(self, quota: int | None = None) -> list[str]:
        """All ids, class by class in class order; with ``quota`` only the first so many of each class."""
        return [video for label in sorted(self.clips) for video in self.clips[label][:quota]]


def choose_randomly(videos: list[str], quota: int) -> list[str]:
    """``quota`` of ``videos``, or all of them in random order if there are fewer."""
    return random.sample(videos, min(len(videos), quota))


def herd(features: torch.Tensor, count: int, repeat: bool) -> list[int]:
    """Indices of up to ``count`` rows of ``features`` (N, D), best first.

    The k-th is the row that brings the mean of the first k chosen nearest to the mean of all. ``repeat`` lets a row be
    chosen again, as the released code does.
    """
    # In 64 bits near ties fall as in the published runs; the mean is rounded to the features' own precision first.
    mean, rows = features.mean(0).double(), features.double()
    total, taken = torch.zeros_like(mean), torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    chosen = []
    for k in range(1, min(count, len(rows)) + 1):
        distances = ((total + rows) / k - mean).square().sum(1)
        if not repeat:
            distances[taken] = torch.inf
        best = int(distances.argmin())
        chosen.append(best)
        total += rows[best]
        taken[best] = True
    return chosen


def class_mean(features: torch.Tensor, slots: int, released: bool) -> torch.Tensor:
    """Mean of the exemplars' ``features`` (N, D) of a class that has ``slots`` places in memory.

    ``released`` divides by the places, as if the empty ones held zero vectors; otherwise the mean of the real
    exemplars, of unit length.
    """
    return features.sum(0) / slots if released else F.normalize(features.mean(0), dim=0)
