"""Autograd across processes that share the clips of a batch (utils.devices.Group).

Every process computes the same on small tensors; only the tokens are divided. So a value that all have goes into the
divided part by ``divided``, and what comes out of it is put together by ``rows_of_all`` or ``sum_of_all``. On every
process the gradients then are those of the whole batch.
"""

import torch


def divided(value, group):
    """``value``, the same on all; its gradient is the sum of what each process finds."""
    return value if group is None else _Divided.apply(value, group)


def rows_of_all(rows, tokens):
    """Put the ``rows`` (n, ...) of each process in their places among all rows of the batch of ``tokens``."""
    return rows if tokens.group is None else _RowsOfAll.apply(rows, tokens)


def sum_of_all(value, group):
    """The sum of ``value`` over the processes."""
    return value if group is None else _SumOfAll.apply(value, group)


class _Divided(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, group):
        ctx.group = group
        return value.view_as(value)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.group.sum(gradient), None


class _RowsOfAll(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows, tokens):
        ctx.owned = tokens.owned
        everywhere = rows.new_zeros(len(tokens), *rows.shape[1:])
        everywhere[tokens.owned] = rows
        return tokens.group.sum(everywhere)

    @staticmethod
    def backward(ctx, gradient):
        return gradient[ctx.owned], None


class _SumOfAll(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, group):
        return group.sum(value)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None
