"""Ridge regression from sums: exact, whatever the order, the batches and the machines that the rows came from."""

import numpy as np
import torch
from scipy.linalg.lapack import dpstrf

from utils.errors import InputError


class LeastSquares:
    """Rows ``phi`` (n, E) and their classes enter two sums in float64, ``gram`` (E, E) and ``cross`` (E, classes).

    ``solve(gamma)`` then minimises ``|phi W - Y|^2 + gamma |W|^2`` over all rows, Y being one-hot: what ACIL (Zhuang
    et al., NeurIPS 2022) does recursively. Sums can be added to those of another shard, and rows taken out again.
    """

    def __init__(self, width, device="cpu"):
        self.gram = torch.zeros(width, width, dtype=torch.float64, device=device)
        self.cross = torch.zeros(width, 0, dtype=torch.float64, device=device)
        self.count = 0

    def grow(self, num_classes):
        """Make room for ``num_classes`` classes in all."""
        more = self.cross.new_zeros(len(self.cross), num_classes - self.cross.shape[1])
        self.cross = torch.cat((self.cross, more), 1)

    def add(self, phi, label, sign=1, weight=None):
        """Take in rows ``phi`` (n, E) float64 of classes ``label`` (n,); ``sign=-1`` takes them out again.

        ``weight`` (n,): how much each row counts, by default 1.
        """
        weighted = phi if weight is None else weight[:, None] * phi
        self.gram.addmm_(phi.T, weighted, alpha=sign)
        self.cross.index_add_(1, label, weighted.T, alpha=sign)
        self.count += sign * len(phi)

    def merge(self, other):
        """Take in all rows of another shard."""
        self.grow(max(self.cross.shape[1], other.cross.shape[1]))
        self.gram += other.gram
        self.cross[:, : other.cross.shape[1]] += other.cross
        self.count += other.count

    def solve(self, gamma):
        """The weights (E, classes). InputError if ``gamma`` is too small for the rows there are."""
        return self.solver()(gamma)

    def solver(self):
        """A function from gamma to the weights, for several gammas; cheap where there are few rows for the width."""
        if self.gram.device.type == "cpu" and self.count < len(self.gram) // 2:
            return self._solver_of_low_rank()
        return self._solve

    def _solve(self, gamma):
        matrix = self.gram.clone()
        matrix.diagonal().add_(gamma)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if failed:
            raise InputError(f"--gamma {gamma:g}: too small for {self.count} clips; give larger ones")
        return torch.cholesky_solve(self.cross, factor)

    def _solver_of_low_rank(self):
        """With fewer rows than columns gram is L L^T, L (E, rank); cross lies in its span, L c.

        Then (L L^T + gamma)^-1 L c = L (L^T L + gamma)^-1 c, and what depends on gamma is of the size of the rank.
        """
        packed, order, rank, _ = dpstrf(self.gram.numpy().T, lower=1)
        order = torch.from_numpy(order - 1).long()
        lower = torch.from_numpy(np.tril(packed)[:, :rank])
        coefficients = torch.linalg.solve_triangular(lower[:rank], self.cross[order[:rank]], upper=False)
        inner = lower.T @ lower

        def solve(gamma):
            matrix = inner.clone()
            matrix.diagonal().add_(gamma)
            weights = torch.empty_like(self.cross)
            weights[order] = lower @ torch.cholesky_solve(coefficients, torch.linalg.cholesky(matrix))
            return weights

        return solve

    def state(self):
        return {"gram": self.gram, "cross": self.cross, "count": self.count}

    def load_state(self, state):
        device = self.gram.device
        self.gram, self.cross, self.count = state["gram"].to(device), state["cross"].to(device), state["count"]
