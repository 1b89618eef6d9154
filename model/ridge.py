"""Ridge regression from sums of whole numbers: exact to the last bit, whatever order, batches and shards.

``RidgeSums`` holds one regression, ``RidgeMixture`` one for each part of the features, and mixes their solutions.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.linalg.lapack import dpstrf
from scipy.optimize import nnls

from utils.devices import Group
from utils.errors import InputError

TILE = 512  # columns of the Gram matrix that are computed at a time
ROWS = 512  # rows that are multiplied at a time
EXACT = 2**24  # whole numbers up to this are exact in float32
PRIOR = 0.1  # weight of all solutions counting the same, where 1 is that of the validation clips' scores of one class
LOW_RANK = 0.4  # share of the width below which few rows are solved in their own number


class RidgeSums:
    """Rows ``phi`` (n, E) of whole numbers and their classes enter two sums, sum phi phi^T and, by class, sum phi.

    ``gram`` is the lower triangle of the first, row by row, ``cross`` (E, classes) the second: int32, or int64 from
    where 32 bits might not hold them. ``solver()`` minimises |phi W - Y|^2 + penalty |W|^2 over all rows, Y one-hot,
    which is what ACIL (Zhuang et al., NeurIPS 2022) does recursively. The sums of two shards add up to those of all
    rows, and a row can be taken out again.
    """

    def __init__(self, width: int, device: torch.device | str = "cpu"):
        self.width, self.count = width, 0
        self.gram = torch.zeros(width * (width + 1) // 2, dtype=torch.int32, device=device)
        self.cross = torch.zeros(width, 0, dtype=torch.int32, device=device)

    def grow(self, num_classes: int) -> None:
        """Make room for ``num_classes`` classes in all."""
        more = self.cross.new_zeros(self.width, num_classes - self.cross.shape[1])
        self.cross = torch.cat((self.cross, more), 1)

    def add(self, phi: torch.Tensor, label: torch.Tensor, sign: int = 1) -> None:
        """Take in rows ``phi`` (n, E) int16 of classes ``label`` (n,) int64; ``sign=-1`` takes them out again."""
        phi = phi.double()
        self._make_room(phi.square().sum(0).long())
        for start in range(0, self.width, TILE):
            stop = min(start + TILE, self.width)
            block = sign * _product(phi[:, start:stop], phi[:, :stop]).to(self.gram.dtype)
            for row in range(start, stop):
                self.gram[_row(row) : _row(row + 1)] += block[row - start, : row + 1]
        one_hot = torch.nn.functional.one_hot(label, self.cross.shape[1]).double()
        self.cross += sign * (phi.T @ one_hot).to(self.cross.dtype)
        self.count += sign * len(phi)

    def merge(self, other: "RidgeSums") -> None:
        """Take in all rows of another shard."""
        self.grow(max(self.cross.shape[1], other.cross.shape[1]))
        self._make_room(other.diagonal())
        self.gram += other.gram
        self.cross[:, : other.cross.shape[1]] += other.cross
        self.count += other.count

    def all_reduce(self, group: Group) -> None:
        """Add the rows of all processes of ``group`` ."""
        # In 64 bits: each part may fit 32 where the whole does not.
        self.gram, self.cross = group.sum(self.gram.long()), group.sum(self.cross.long())
        self.count = int(group.sum(torch.tensor(self.count)))

    def diagonal(self) -> torch.Tensor:
        """Sums of the squares of each column, (E,) int64. No entry of either sum is larger than the largest."""
        rows = torch.arange(self.width, device=self.gram.device)
        return self.gram[_row(rows) + rows].long()

    def _make_room(self, squares):
        """Go over to 64 bits if the sums might outgrow 32 when rows with sums of squares ``squares`` (E,) come in."""
        if self.width and int((self.diagonal() + squares).max()) >= 2**31:
            self.gram, self.cross = self.gram.long(), self.cross.long()

    def solver(self, class_weight: torch.Tensor | None = None) -> Callable[[float], torch.Tensor]:
        """A function from a penalty to the weights W (E, classes) float64, for several penalties.

        ``class_weight`` (classes,): what each class's column of Y is multiplied by, by default 1. The function raises
        InputError if the penalty is too small for the rows there are.
        """
        cross = self.cross.double()
        if class_weight is not None:
            cross *= class_weight[: cross.shape[1]]
        gram = self._lower_triangle()
        if gram.device.type == "cpu" and self.count < LOW_RANK * self.width:
            return _solver_of_low_rank(gram, cross)

        def solve(penalty):
            matrix = gram.clone()
            matrix.diagonal().add_(penalty)
            factor, failed = torch.linalg.cholesky_ex(matrix)
            if failed:
                raise InputError(f"penalty {penalty:g}: too small for {self.count} clips; give a larger one")
            return torch.cholesky_solve(cross, factor)

        return solve

    def _lower_triangle(self):
        """The Gram matrix (E, E) float64 with zeros above the diagonal."""
        lower = torch.zeros(self.width, self.width, dtype=torch.float64, device=self.gram.device)
        for row in range(self.width):
            lower[row, : row + 1] = self.gram[_row(row) : _row(row + 1)]
        return lower

    def state(self) -> dict:
        return {"gram": self.gram, "cross": self.cross, "count": self.count}

    def load_state(self, state: dict) -> None:
        device = self.gram.device
        self.gram, self.cross, self.count = state["gram"].to(device), state["cross"].to(device), state["count"]


def _row(number):
    """Where row ``number`` of a lower triangle begins when the rows lie one after another."""
    return number * (number + 1) // 2


def _product(left, right):
    """left^T right of whole numbers (n, a) and (n, b) float64, exactly; on a CPU in single precision where that is."""
    total = torch.zeros(left.shape[1], right.shape[1], dtype=torch.float64, device=left.device)
    for rows in range(0, len(left), ROWS):
        a, b = left[rows : rows + ROWS], right[rows : rows + ROWS]
        # No sum of products of a few of the rows is larger than this.
        bound = max(float(a.square().sum(0).max()), float(b.square().sum(0).max()))
        if a.device.type == "cpu" and bound < EXACT:
            a, b = a.float(), b.float()
        total += a.T @ b
    return total


def _solver_of_low_rank(gram, cross):  # gram: its lower triangle
    """With fewer rows than columns gram is L L^T, L (E, rank); cross lies in its span, L c.

    Then (L L^T + penalty)^-1 L c = L (L^T L + penalty)^-1 c; what depends on the penalty is of the size of the rank.
    """
    # In Fortran's order the lower triangle is the upper one of the transpose, and the factor that of L^T.
    packed, order, rank, _ = dpstrf(gram.numpy().T, lower=0, overwrite_a=1)
    order, lower = torch.from_numpy(order - 1).long(), torch.from_numpy(packed.T)[:, :rank].contiguous()
    lower[:rank].tril_()
    coefficients = torch.linalg.solve_triangular(lower[:rank], cross[order[:rank]], upper=False)
    inner = lower.T @ lower

    def solve(penalty):
        matrix = inner.clone()
        matrix.diagonal().add_(penalty)
        weights = torch.empty_like(cross)
        weights[order] = lower @ torch.cholesky_solve(coefficients, torch.linalg.cholesky(matrix))
        return weights

    return solve


class RidgeMixture:
    """Features (n, E) are cut into parts of ``widths``; each part has its own sums and its own regressions."""

    def __init__(self, widths: list[int], device: torch.device | str = "cpu"):
        self.widths = list(widths)
        self.sums = [RidgeSums(width, device) for width in self.widths]

    def grow(self, num_classes: int) -> None:
        """Make room for ``num_classes`` classes in all."""
        for sums in self.sums:
            sums.grow(num_classes)

    def add(self, features: torch.Tensor, label: torch.Tensor, sign: int = 1) -> None:
        """Take in rows (n, E) int16 of classes ``label`` (n,), or with ``sign=-1`` take them out again."""
        for sums, part in zip(self.sums, features.split(self.widths, 1), strict=True):
            sums.add(part, label, sign)

    def merge(self, other: "RidgeMixture") -> None:
        """Take in all rows of another shard."""
        for sums, more in zip(self.sums, other.sums, strict=True):
            sums.merge(more)

    def all_reduce(self, group: Group) -> None:
        """Add the rows of all processes of ``group`` ."""
        for sums in self.sums:
            sums.all_reduce(group)

    def solve(
        self,
        penalties: list[float],
        features: torch.Tensor,
        label: torch.Tensor,
        class_weight: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights (E, classes) float64, and how much each solution counts, (parts, penalties) float64.

        Every part is solved for every penalty, in units of a squared entry of the features, and the solutions are mixed
        as does best on the validation clips' ``features`` (n, E) of classes ``label`` (n,). ``class_weight`` (all
        classes,): what the one-hot targets are multiplied by. Raises InputError if a penalty is too small.
        """
        solutions, scores = [], []
        for sums, part in zip(self.sums, features.split(self.widths, 1), strict=True):
            solve, part = sums.solver(class_weight), part.double()
            solutions.append([solve(penalty * sums.width) for penalty in penalties])
            scores += [(part @ weights).cpu().numpy() for weights in solutions[-1]]
        mixture = mixture_weights(np.stack(scores), label.cpu().numpy()).reshape(len(self.sums), len(penalties))
        mixed = [
            sum(float(share) * weights for share, weights in zip(shares, each, strict=True))
            for shares, each in zip(mixture, solutions, strict=True)
        ]
        return torch.cat(mixed), torch.from_numpy(mixture)

    def state(self) -> dict:
        return {"sums": [sums.state() for sums in self.sums]}

    def load_state(self, state: dict) -> None:
        for sums, saved in zip(self.sums, state["sums"], strict=True):
            sums.load_state(saved)


def mixture_weights(scores: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Weights (K,) float64, none negative, with which ``scores`` (K, n, classes) add up nearest to one-hot ``label``.

    Least squares (Breiman, Stacked Regressions, 1996) with a penalty on the distance from equal weights of sum 1, so
    that few clips do not decide alone.
    """
    count, clips, classes = scores.shape
    columns = scores.reshape(count, -1)
    products = columns @ columns.T
    penalty = max(PRIOR * np.trace(products) / (count * classes), np.finfo(float).tiny)
    target = scores[:, np.arange(clips), label].sum(1)
    # |A w - b|^2 + penalty |w - 1/K|^2 by the Cholesky factor of its normal equations.
    factor = np.linalg.cholesky(products + penalty * np.eye(count))
    return nnls(factor.T, np.linalg.solve(factor, target + penalty / count))[0]
