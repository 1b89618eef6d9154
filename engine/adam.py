"""Adam (Kingma, Ba; ICLR 2015) with an L2 penalty, by PyTorch's fused kernel.

The numbers are those of ``torch.optim.Adam(..., fused=True)``, which loads PyTorch's compiler when it is made: it takes
seconds, in which a small run would have ended.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

BETAS, EPS = (0.9, 0.999), 1e-8


class Adam:
    """Minimises by the gradients of ``parameters``; ``lr`` may be set before every step."""

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
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
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
