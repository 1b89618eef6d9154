"""Random numbers in the order of the published runs: the same seed, the same weights, batches and exemplars.

Three generators are seeded once, at the start of a run: torch's draws weights and passes over the clips, numpy's serves
AFC's KMeans, Python's ``random`` chooses exemplars (SS-IL, AV-CIL). An "int draw" is one 64-bit integer from torch's,
an "idle" one is an int draw whose value nothing uses. With nothing else drawn in between, a step is

1. the network: weights as torch.nn.Linear and model.heads.ProxyHead draw them; then, AFC at t > 0, a shuffled pass,
   which imprints proxies;
2. each epoch: a shuffled pass over the training clips (SS-IL, AV-CIL at t > 0: a paired one); with nearest means a
   plain pass over new clips and exemplars; a plain pass over the validation clips;
3. iCaRL FC, AFC LSC: a plain pass over the new clips, whose features choose the exemplars;
4. a plain pass over the test clips.

An entry of a pass is a pair: indices of clips, and how many of them, at the end, are replayed beside the new ones.
"""

import random
from typing import Any

import numpy as np
import torch

Batches = list[tuple[np.ndarray, int]]


def seed_everything(seed: int) -> None:
    """Seed torch (all devices), numpy and Python's ``random``."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def plain_pass(clips: np.ndarray, batch_size: int) -> Batches:
    """All ``clips`` in order; the last batch may be smaller. One idle draw."""
    _idle_draw()
    return [(clips[start : start + batch_size], 0) for start in range(0, len(clips), batch_size)]


def shuffled_pass(clips: np.ndarray, batch_size: int) -> Batches:
    """``clips`` in random order, the incomplete last batch dropped. An idle draw, and one that seeds the order."""
    _idle_draw()
    return [(batch, 0) for batch in _full_batches(clips, batch_size, _int_draw())]


def paired_pass(
    clips: np.ndarray,
    exemplars: np.ndarray,
    batch_size: int,
    exemplar_batch_size: int,
    workers: bool = False,
    reshuffle: bool = False,
) -> Batches:
    """New ``clips`` in random order with a batch of ``exemplars`` beside each batch; incomplete last ones are dropped.

    When the exemplars run out, the same batches come again, or, with ``reshuffle``, others. Five int draws, in the
    order in which the published loop begins its loaders, that of new clips twice: once more for its progress bar.
    ``workers``: a loader that reads with worker processes draws its order as soon as it begins; six int draws.
    """
    _idle_draw()
    if workers:
        exemplar_seed = _int_draw()
        _idle_draw()
        _int_draw()  # the seed of an order that is thrown away
        _idle_draw()
        seed = _int_draw()
    else:
        _idle_draw()
        _idle_draw()
        seed = _int_draw()
        exemplar_seed = _int_draw()
    replayed = _full_batches(exemplars, exemplar_batch_size, exemplar_seed)
    batches = []
    for number, batch in enumerate(_full_batches(clips, batch_size, seed)):
        if reshuffle and number and number % len(replayed) == 0:
            _idle_draw()
            replayed = _full_batches(exemplars, exemplar_batch_size, _int_draw())
        beside = replayed[number % len(replayed)]
        batches.append((np.concatenate((batch, beside)), len(beside)))
    return batches


def _full_batches(clips, batch_size, seed):
    size = min(batch_size, len(clips))
    order = clips[torch.randperm(len(clips), generator=torch.Generator().manual_seed(seed)).numpy()]
    return [order[start : start + size] for start in range(0, len(order) - size + 1, size)]


def _int_draw():
    return torch.empty((), dtype=torch.int64).random_().item()


def _idle_draw():
    _int_draw()


def random_state() -> dict[str, Any]:
    """The state of every random generator in use, as tensors and plain values."""
    state = np.random.get_state()
    assert isinstance(state, tuple)  # a dict only of other generators than numpy's first
    name, keys, *rest = state
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    numpy = [name, torch.from_numpy(keys.astype(np.int64)), *rest]
    return {"torch": torch.get_rng_state(), "cuda": cuda, "numpy": numpy, "python": list(random.getstate())}


def set_random_state(state: dict[str, Any]) -> None:
    """Let every random generator go on where ``random_state()`` was taken."""
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
