"""The batches of an epoch: lists of clip indices, drawn in the order of the published runs (utils/random_order.py)."""

import numpy as np

from utils.random_order import shuffled, start_pass


def shuffled_pass(clips, batch_size):
    """One pass over ``clips`` in random order: pairs (indices, 0 replayed), the incomplete last batch dropped."""
    start_pass()
    return [(batch, 0) for batch in _full_batches(clips, batch_size)]


def paired_pass(clips, batch_size, exemplars, exemplar_batch_size, reshuffle):
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
