"""Autograd across processes that share the clips of a batch (utils.devices.Group).

Every process computes the same on small tensors; only the tokens are divided. So a value that all have goes into the
divided part by ``replicated``, and what comes out of it is put together by ``gather_rows`` or ``all_reduce``. On every
process the gradients then are those of the whole batch.
"""

import torch

from features.tokens import Tokens
from utils.devices import Group


def replicated(value: torch.Tensor, group: Group | None) -> torch.Tensor:
    """``value``, the same on all; its gradient is the sum over the processes."""
    return value if group is None else _Replicated.apply(value, group)


def gather_rows(rows: torch.Tensor, tokens: Tokens) -> torch.Tensor:
    """Put the ``rows`` (n, ...) of each process in their places among all rows of the batch of ``tokens``."""
    return rows if tokens.group is None else _GatherRows.apply(rows, tokens)


def all_reduce(value: torch.Tensor, group: Group | None) -> torch.Tensor:
    """The sum of ``value`` over the processes."""
    return value if group is None else _AllReduce.apply(value, group)


class _Replicated(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, group):
        ctx.group = group
        return value.view_as(value)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.group.sum(gradient), None


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows, tokens):
        ctx.local_rows = tokens.local_rows
        gathered = rows.new_zeros(len(tokens), *rows.shape[1:])
        gathered[tokens.local_rows] = rows
        return tokens.group.sum(gathered)

    @staticmethod
    def backward(ctx, gradient):
        return gradient[ctx.local_rows], None


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, group):
        return group.sum(value)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None
