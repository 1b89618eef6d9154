"""The order in which random numbers are drawn, kept as the published runs drew them.

A seed then gives the weights and batches of those runs, and so their accuracies. A pass over the clips takes one draw
from torch's default generator that nothing uses; a shuffled pass takes a second one, which seeds its order.
"""

import random

import numpy as np
import torch


def seed_everything(seed):
    """Seed torch (all devices), numpy and Python's ``random``."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def start_pass():
    """The draw with which every pass over clips begins, shuffled or not."""
    _draw()


def shuffled(count):
    """A random order of ``count`` clips, as an array of indices."""
    generator = torch.Generator()
    generator.manual_seed(_draw())
    return torch.randperm(count, generator=generator).numpy()


def _draw():
    return torch.empty((), dtype=torch.int64).random_().item()
