"""Ridge regression from sums of whole numbers: exact to the last bit, whatever order, batches and shards.

``RidgeSums`` holds one regression, ``RidgeMixture`` one for each part of the features, and mixes their solutions.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.linalg.lapack import dpotrf, dpotrs, dpstrf
from scipy.optimize import nnls

from utils.devices import Group
from utils.errors import InputError

BLOCK = 32  # rows of the Gram matrix that are kept as one piece, up to its last column
TILE = 512  # rows of it that are computed at a time, a multiple of BLOCK
ROWS = 512  # clips that are multiplied at a time
EXACT = 2**24  # whole numbers up to this are exact in float32
PRIOR = 0.1  # weight of all solutions counting the same, where 1 is that of the validation clips' scores of one class
LOW_RANK = 0.2  # share of the width below which few rows are solved in their own number


class RidgeSums:
    """Rows ``phi`` (n, E) of whole numbers and their classes enter two sums, sum phi phi^T and, by class, sum phi.

    ``gram`` is the lower triangle of the first, in blocks of rows one after another, ``cross`` (E, classes) the second:
    int32, or int64 from where 32 bits might not hold them. ``solve`` gives ridge regression of one-hot classes on all
    rows, which is what ACIL (Zhuang et al., NeurIPS 2022) does recursively. The sums of two shards add up to those of
    all rows, and a row can be taken out again.
    """

    def __init__(self, width: int, device: torch.device | str = "cpu"):
        self.width, self.count = width, 0
        size = sum((stop - start) * stop for start, stop in self._blocks())
        self.gram = torch.zeros(size, dtype=torch.int32, device=device)
        self.cross = torch.zeros(width, 0, dtype=torch.int32, device=device)

    def grow(self, num_classes: int) -> None:
        """Make room for ``num_classes`` classes in all."""
        more = self.cross.new_zeros(self.width, num_classes - self.cross.shape[1])
        self.cross = torch.cat((self.cross, more), 1)

    def add(self, phi: torch.Tensor, label: torch.Tensor, sign: int = 1) -> None:
        """Take in rows ``phi`` (n, E) int16 of classes ``label`` (n,) int64; ``sign=-1`` takes them out again."""
        phi = phi.double()
        self._make_room(phi.square().sum(0).long())
        pieces = self._pieces()
        for first in range(0, self.width, TILE):
            last = min(first + TILE, self.width)
            tile = sign * _product(phi[:, first:last], phi[:, :last]).to(self.gram.dtype)
            for rows in tile.split(BLOCK):
                piece = next(pieces)
                piece += rows[:, : piece.shape[1]]
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
        return torch.cat([piece.diagonal(piece.shape[1] - len(piece)) for piece in self._pieces()]).long()

    def _blocks(self):
        return [(start, min(start + BLOCK, self.width)) for start in range(0, self.width, BLOCK)]

    def _pieces(self):
        """The Gram matrix's blocks of rows, (rows, columns up to the last of them): views of ``gram``."""
        place = 0
        for start, stop in self._blocks():
            size = (stop - start) * stop
            yield self.gram[place : place + size].view(stop - start, stop)
            place += size

    def _make_room(self, squares):
        """Go over to 64 bits if the sums might outgrow 32 when rows with sums of squares ``squares`` (E,) come in."""
        if self.width and int((self.diagonal() + squares).max()) >= 2**31:
            self.gram, self.cross = self.gram.long(), self.cross.long()

    def solve(
        self, penalty: float, rounds: Sequence[int] = (1,), class_weight: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """Weights W (E, classes) float64 after each number of ``rounds``, which ascend.

        The first round minimises |phi W - Y|^2 + penalty |W|^2 over all rows, Y one-hot. A further one penalises the
        distance from the weights before it instead of that from 0, which fits the rows more closely at the cost of a
        solution with the same factor (iterated Tikhonov regularisation: Engl, Hanke, Neubauer, 1996, chapter 5).

        ``class_weight`` (classes,): what each class's column of Y is multiplied by, by default 1. Raises InputError if
        the penalty is too small for the rows there are.
        """
        target = self.cross.double()
        if class_weight is not None:
            target *= class_weight[: target.shape[1]]
        gram, basis = self._lower_triangle(), None
        if gram.device.type == "cpu" and self.count < LOW_RANK * self.width and self.diagonal().any():
            gram, target, basis = _low_rank(gram, target)
        inverse = _inverse(gram, penalty)
        if inverse is None:
            raise InputError(f"penalty {penalty:g}: too small for {self.count} clips; give a larger one")
        solutions, weights = [], torch.zeros_like(target)
        for number in range(1, max(rounds) + 1):
            weights = inverse(target + penalty * weights)
            if number in rounds:
                solutions.append(weights if basis is None else basis @ weights)
        return solutions

    def _lower_triangle(self):
        """The Gram matrix (E, E) float64; what stands above the diagonal means nothing."""
        lower = torch.empty(self.width, self.width, dtype=torch.float64, device=self.gram.device)
        for (start, stop), piece in zip(self._blocks(), self._pieces(), strict=True):
            lower[start:stop, :stop] = piece
        return lower

    def state(self) -> dict:
        return {"gram": self.gram, "cross": self.cross, "count": self.count}

    def load_state(self, state: dict) -> None:
        device = self.gram.device
        self.gram, self.cross, self.count = state["gram"].to(device), state["cross"].to(device), state["count"]


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


def _inverse(gram, penalty):
    """x -> (gram + penalty)^-1 x by Cholesky, or None if that fails; ``gram``, a lower triangle, is overwritten."""
    gram.diagonal().add_(penalty)
    if gram.device.type != "cpu":
        factor, failed = torch.linalg.cholesky_ex(gram)
        return None if failed else lambda x: torch.cholesky_solve(x, factor)
    # In place, and with SciPy's LAPACK, faster than PyTorch's here. In Fortran's order the lower triangle is the upper
    # one of the transpose.
    factor, failed = dpotrf(gram.numpy().T, lower=0, clean=0, overwrite_a=1)
    return None if failed else lambda x: torch.from_numpy(dpotrs(factor, x.numpy(), lower=0)[0])


def _low_rank(gram, cross):
    """With fewer rows than columns gram is L L^T, L (E, rank), and cross lies in its span, L c: L^T L, c and L.

    (L L^T + penalty)^-1 L c = L (L^T L + penalty)^-1 c, of which only the outer L is of the size of the width.
    """
    packed, order, rank, _ = dpstrf(gram.numpy().T, lower=0, overwrite_a=1)
    order, lower = torch.from_numpy(order - 1).long(), torch.from_numpy(packed.T)[:, :rank].contiguous()
    lower[:rank].tril_()
    basis = torch.empty_like(lower)
    basis[order] = lower
    return lower.T @ lower, torch.linalg.solve_triangular(lower[:rank], cross[order[:rank]], upper=False), basis


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
        penalties: Sequence[float],
        rounds: Sequence[int],
        features: torch.Tensor,
        label: torch.Tensor,
        class_weight: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights (E, classes) float64, and how much each solution counts, (parts, penalties x rounds) float64.

        Every part is solved for every penalty, in units of a squared entry of the features, and number of ``rounds``,
        and the solutions are mixed as does best on the validation clips' ``features`` (n, E) of classes ``label`` (n,).
        ``class_weight`` (all classes,): what the one-hot targets are multiplied by. Raises InputError if a penalty is
        too small.
        """
        solutions, scores = [], []
        for sums, part in zip(self.sums, features.split(self.widths, 1), strict=True):
            each = [sums.solve(penalty * sums.width, rounds, class_weight) for penalty in penalties]
            solutions.append(sum(each, []))
            scores += [(part.double() @ weights).cpu().numpy() for weights in solutions[-1]]
        mixture = mixture_weights(np.stack(scores), label.cpu().numpy()).reshape(len(self.sums), -1)
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
