"""The updates of one step of a gradient method: losses, gradients, optimiser; on a GPU replayed from a CUDA graph.

And, where it is asked for, how the gradients of the loss terms compare.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from dataloader import Batch
from engine.epoch_rows import GRADIENT_COSINE, GRADIENT_NORM
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
        self.probed = {}  # of the epoch: how their gradients compare (``probe``)
        self.captures = learner.device.type == "cuda" and learner.data.group is None
        self.warmed_up, self.graph, self.captured_for = 0, None, None

    def probe(self, batches: Batches, epoch: int) -> None:
        """Let ``probed`` be ``compare_gradients`` on ``batches`` in every ``--probe_gradients``-th epoch."""
        every = self.learner.args.probe_gradients
        due = every is not None and epoch % every == 0
        self.probed = compare_gradients(self.learner, self.task, batches) if due else {}

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
        loss: Any = sum(terms.values())
        loss.backward()
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


def compare_gradients(learner: GradientLearner, task: Task, batches: Batches) -> dict[str, float]:
    """Norm of the gradient of each loss term, and its cosine to that of all other terms together, by name.

    Gradients are of the means over ``batches``, in all trainable parameters. There is no cosine beside a gradient that
    is 0, nor of a single term. Nothing of ``learner`` changes, and nothing is drawn.
    """
    gradients = _mean_gradients(learner, task, batches)
    values = {}
    for name, gradient in gradients.items():
        rest = sum((other for term, other in gradients.items() if term != name), torch.zeros_like(gradient))
        norms = gradient.norm(), rest.norm()
        values[GRADIENT_NORM + name] = norms[0].item()
        values[GRADIENT_COSINE + name] = (gradient @ rest / norms[0] / norms[1]).item()
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _mean_gradients(learner, task, batches):
    """{term: its gradient (all parameters,)}, float64, mean over ``batches``."""
    parameters, sums = learner.trainable(), {}
    for batch in learner.data.batches(batches):
        number, count = 0, 1
        while number < count:
            # A forward pass for each: attention frees what its backward pass has used.
            terms = list(learner.losses(batch, task).items())
            count = len(terms)
            name, term = terms[number]
            parts = torch.autograd.grad(term, parameters, materialize_grads=True) if term.requires_grad else ()
            flat = [part.flatten().double() / len(batches) for part in parts or map(torch.zeros_like, parameters)]
            sums[name] = sums.get(name, 0) + torch.cat(flat)
            number += 1
    return sums
