"""The order in which random numbers are drawn, kept as the published runs drew them.

A seed then gives the weights and batches of those runs, and so their accuracies. A pass over the clips takes one draw
from torch's default generator that nothing uses; a shuffled pass takes a second one, which seeds its order.
"""

import random
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed torch (all devices), numpy and Python's ``random``."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def start_pass() -> None:
    """The draw with which every pass over clips begins, shuffled or not."""
    _draw()


def shuffled(count: int) -> np.ndarray:
    """A random order of ``count`` clips, as an array of indices."""
    generator = torch.Generator()
    generator.manual_seed(_draw())
    return torch.randperm(count, generator=generator).numpy()


def _draw():
    return torch.empty((), dtype=torch.int64).random_().item()


def random_state() -> dict[str, Any]:
    """The state of every random generator in use, as tensors and plain values."""
    name, keys, *rest = np.random.get_state()
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
