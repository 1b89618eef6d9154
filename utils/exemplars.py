"""The exemplar memory: ids of clips kept from earlier classes, so many in all or so many of each class."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence


class ExemplarMemory:
    """``clips[class]`` are the video ids kept, best first. Features stay in the data; the memory never pads.

    It holds ``size`` clips in all, shared evenly by the classes learned, or ``per_class`` of each class.
    """

    def __init__(self, size: int | None, per_class: int | None = None):
        self.size, self.per_class = size, per_class
        self.clips = {}

    def quota(self, num_classes: int) -> int:
        """Exemplars per class when ``num_classes`` have been learned."""
        return self.per_class or (self.size or 0) // num_classes

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


def herd(features: Sequence[torch.Tensor], count: int, repeat: bool) -> list[torch.Tensor]:
    """Indices of up to ``count`` rows of the ``features`` (N, D) of each class, best first, as tensors beside them.

    The k-th is the row that brings the mean of the first k chosen nearest to the mean of all. ``repeat`` lets a row be
    chosen again, as the released code does. All classes go side by side, and nothing waits for a GPU.
    """
    # In 64 bits near ties fall as in the published runs; the mean is rounded to the features' own precision first.
    mean = torch.stack([rows.mean(0) for rows in features]).double()[:, None]
    rows = pad_sequence(list(features), batch_first=True).double()  # (classes, N of the largest, D)
    numbers = torch.arange(rows.shape[1], device=rows.device)
    taken = torch.stack([numbers >= len(each) for each in features])
    total, chosen = torch.zeros_like(mean), []
    for k in range(1, min(count, rows.shape[1]) + 1):
        distances = ((total + rows) / k - mean).square().sum(2)
        best = distances.masked_fill_(taken, torch.inf).argmin(1, keepdim=True)
        chosen.append(best)
        total += rows.gather(1, best[:, :, None].expand_as(mean))
        if not repeat:
            taken |= numbers == best
    chosen = torch.cat(chosen, 1)
    return [each[: len(of_class)] for each, of_class in zip(chosen, features, strict=True)]


def class_mean(features: torch.Tensor, slots: int, released: bool) -> torch.Tensor:
    """Mean of the exemplars' ``features`` (N, D) of a class that has ``slots`` places in memory.

    ``released`` divides by the places, as if the empty ones held zero vectors; otherwise the mean of the real
    exemplars, of unit length.
    """
    return features.sum(0) / slots if released else F.normalize(features.mean(0), dim=0)
