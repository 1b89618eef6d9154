"""What a frozen teacher says about clips: asked once a step, since neither it nor the features change within one."""

import numpy as np
import torch


class Lessons:
    """``lessons(clips)`` gives the rows of each of ``values``, a dict of tensors with one row per clip of ``clips``."""

    def __init__(self, clips, values, device):
        self.values, self.device = values, device
        self.row_of = np.full(max(clips, default=-1) + 1, -1)
        self.row_of[clips] = np.arange(len(clips))

    def __call__(self, clips):
        rows = torch.from_numpy(self.row_of[clips]).to(self.device)
        return {name: values[rows] for name, values in self.values.items()}


@torch.no_grad()
def ask(teacher, clips, batches, device):
    """Lessons on ``clips`` from ``teacher(batch)``, a dict of tensors with a row per clip; ``batches`` bring them."""
    parts = [teacher(batch) for batch in batches]
    return Lessons(clips, {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, device)
