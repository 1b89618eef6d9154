"""The updates of one step of a gradient method: losses, gradients, optimiser; on a GPU replayed from a CUDA graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from dataloader import Batch
from engine.epoch_state import Adam
from engine.step_log import logger
from engine.tasks import Task
from utils.errors import first_line
from utils.seeding import Batches

if TYPE_CHECKING:
    from engine.gradient import GradientLearner

WARM_UP = 2  # updates before one is captured: kernels are compiled, the optimiser has its state


class Updates:
    """Updates of the network of ``learner`` by ``optimiser`` on the batches of ``task``.

    On a GPU that holds all features of an epoch an update does not wait for the host: it is captured once in a CUDA
    graph, with the indices of its clips as the only input, and replayed; the same kernels with the same arguments as
    before. Where it cannot be, it runs as it is written.
    """

    def __init__(self, learner: GradientLearner, task: Task, optimiser: Adam):
        self.learner, self.task, self.optimiser = learner, task, optimiser
        self.names = []  # of the loss terms
        self.captures = learner.device.type == "cuda" and learner.data.group is None
        self.warmed_up, self.graph, self.captured_for = 0, None, None

    def epoch(self, batches: Batches) -> torch.Tensor:
        """An update on each of ``batches``; the loss terms of each (batches, terms), in the order of ``names``."""
        data = self.learner.data
        sizes = {(len(clips), num_replayed) for clips, num_replayed in batches}
        if not (self.captures and len(sizes) == 1 and data.on_device(batches)):
            return torch.stack([self._update(batch) for batch in data.batches(batches)])
        ((_, num_replayed),) = sizes
        return torch.stack([self._update_on_device(index, num_replayed) for index in data.upload(batches)])

    def _update(self, batch: Batch):
        terms = self.learner.losses(batch, self.task)
        self.optimiser.zero_grad()
        sum(terms.values()).backward()
        self.optimiser.step()
        self.names = list(terms)
        return torch.stack([term.detach() for term in terms.values()])

    def _update_on_device(self, index, num_replayed):
        # What a graph has been captured for is fixed in it; a learning rate is an argument of a kernel.
        wanted = len(index), num_replayed, self.optimiser.lr
        if self.graph is not None and self.captured_for != wanted:
            self.graph = None
        if self.graph is None and self.captures and self.warmed_up >= WARM_UP:
            self._capture(index, num_replayed)
            self.captured_for = wanted
        if self.graph is None:
            self.warmed_up += 1
            return self._update(self.learner.data.batch_on_device(index, num_replayed))
        self.index.copy_(index)
        self.graph.replay()
        return self.terms.clone()

    def _capture(self, index, num_replayed):
        self.index, graph = index.clone(), torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self.terms = self._update(self.learner.data.batch_on_device(self.index, num_replayed))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.captures = False
            logger.warning(f"an update cannot be captured in a CUDA graph, runs are slower: {first_line(error)}")
            return
        self.graph = graph
