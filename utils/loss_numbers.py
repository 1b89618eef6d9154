"""Loss terms of several seeds, put on one axis of epochs over all steps."""

import numpy as np

from utils.epoch_files import read_losses


def losses_over_epochs(runs):
    """``{term: (epoch, mean, spread, step starts)}``; empty where no run of the group has epochs.

    ``epoch`` counts on through the steps, ``step starts`` are the epochs with which steps begin. Mean and sample
    standard deviation (0 for one) are over the seeds that have the epoch.
    """
    seeds = [read_losses(run["folder"]) for run in runs]
    starts = _step_starts(seeds)
    terms = list(dict.fromkeys(term for losses in seeds for term in losses))
    return {term: (*_average([losses.get(term, {}) for losses in seeds], starts), starts) for term in terms}


def _step_starts(seeds):
    counts = {}
    for step, epoch in (key for losses in seeds for values in losses.values() for key in values):
        counts[step] = max(counts.get(step, 0), epoch + 1)
    counts = [counts.get(step, 0) for step in range(max(counts, default=-1) + 1)]
    return np.cumsum([0, *counts[:-1]]) if counts else np.zeros(0, int)


def _average(seeds, starts):
    keys = sorted({key for values in seeds for key in values})
    found = [[values[key] for values in seeds if key in values] for key in keys]
    mean = np.array([np.mean(values) for values in found])
    spread = np.array([np.std(values, ddof=1) if len(values) > 1 else 0.0 for values in found])
    return np.array([starts[step] + epoch for step, epoch in keys]), mean, spread
