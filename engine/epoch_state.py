"""The state of the epochs of one step: optimiser, learning rate, and the best epoch so far."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from engine.gradient import GradientLearner

BETAS, EPS = (0.9, 0.999), 1e-8


class EpochState:
    """What the epochs of a step change: ``learner``, its optimiser, and the best epoch so far.

    ``milestones``: epochs before which the learning rate is multiplied by ``--lr_decay``.
    """

    def __init__(self, learner: GradientLearner, milestones: list[int]):
        self.learner, self.args, self.milestones = learner, learner.args, milestones
        self.optimiser = Adam(learner.trainable(), self.args.lr, self.args.weight_decay)
        self.best_accuracy, self.best = -1.0, None

    def lr(self, epoch: int) -> float:
        """The learning rate of ``epoch``."""
        rate = self.args.lr
        for milestone in self.milestones:
            rate *= self.args.lr_decay if epoch >= milestone else 1
        return rate

    def keep_if_best(self, accuracy: float) -> None:
        """Keep what the learner is now if no earlier epoch was as good on validation."""
        if accuracy > self.best_accuracy:
            self.best_accuracy, self.best = accuracy, copy.deepcopy(self.learner.snapshot())

    def snapshot(self) -> dict[str, Any]:
        """All of it as tensors and plain values."""
        return {
            "best_accuracy": self.best_accuracy,
            "best": self.best,
            "now": self.learner.snapshot(),
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what ``snapshot()`` returned; ValueError or the like if it does not fit."""
        self.best_accuracy, self.best = float(state["best_accuracy"]), state["best"]
        for snapshot in (self.best, state["now"]):
            self.learner.restore(snapshot)
        self.optimiser.load_state_dict(state["optimiser"])


class Adam:
    """Adam (Kingma, Ba; ICLR 2015) with an L2 penalty, by PyTorch's fused kernel; ``lr`` may be set before every step.

    The numbers are those of ``torch.optim.Adam(..., fused=True)``, which loads PyTorch's compiler when it is made: it
    takes seconds, in which a small run would have ended.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float):
        self.parameters, self.lr, self.weight_decay = list(parameters), lr, weight_decay
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        # On the parameters' device, as the kernel wants them.
        self.steps = [torch.zeros((), device=parameter.device) for parameter in self.parameters]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters that have a gradient."""
        rows = zip(self.parameters, self.means, self.squares, self.steps, strict=True)
        with_gradient = [row for row in rows if row[0].grad is not None]
        if not with_gradient:
            return
        parameters, means, squares, steps = map(list, zip(*with_gradient, strict=True))
        gradients = [parameter.grad for parameter in parameters]
        # What torch.optim.Adam calls; there are no public names.
        torch._foreach_add_(steps, 1)  # pyright: ignore[reportPrivateImportUsage]
        torch._fused_adam_(  # pyright: ignore[reportPrivateImportUsage]
            parameters,
            gradients,
            means,
            squares,
            [],
            steps,
            lr=self.lr,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=self.weight_decay,
            eps=EPS,
            amsgrad=False,
            maximize=False,
        )

    def state_dict(self) -> dict[str, list[torch.Tensor]]:
        """What it remembers: one tensor for each parameter."""
        return {"means": self.means, "squares": self.squares, "steps": self.steps}

    def load_state_dict(self, state: dict[str, list[torch.Tensor]]) -> None:
        """Take over what ``state_dict()`` returned; ValueError if it is of other parameters."""
        for name, tensors in self.state_dict().items():
            shapes = [tuple(tensor.shape) for tensor in tensors]
            if shapes != [tuple(tensor.shape) for tensor in state[name]]:
                raise ValueError("the optimiser's state has other shapes than the network")
            for tensor, value in zip(tensors, state[name], strict=True):
                tensor.copy_(value)
