"""Herding, and class means for nearest-mean classification (iCaRL, Rebuffi et al., CVPR 2017, algorithms 1 and 4)."""

import torch
from torch.nn import functional as F


def herd(features, count, repeat):
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


def class_mean(features, slots, released):
    """Mean of the exemplars' ``features`` (N, D) of a class that has ``slots`` places in memory.

    ``released`` divides by the places, as if the empty ones held zero vectors; otherwise the mean of the real
    exemplars, of unit length.
    """
    return features.sum(0) / slots if released else F.normalize(features.mean(0), dim=0)
