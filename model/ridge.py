"""Ridge regression from sums of whole numbers: exact to the last bit, whatever order, batches and shards."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.linalg.blas import dsymm, dsymv  # pyright: ignore[reportAttributeAccessIssue] (these are made at import)
from scipy.linalg.lapack import dposv, dpstrf, spotrf, spotrs  # pyright: ignore[reportAttributeAccessIssue]

from utils.devices import Group
from utils.errors import InputError

BLOCK = 32  # rows of the Gram matrix that are kept as one piece, up to its last column
TILE = 512  # rows of it that are computed at a time, a multiple of BLOCK
ROWS = 512  # clips that are multiplied at a time
EXACT = 2**24  # whole numbers up to this are exact in float32
LOW_RANK = 0.2  # share of the width below which few rows are solved in their own number
CLOSE = 1e-9  # residual of a solution, as a share of its right side
MOST_REFINEMENTS = 3


class RidgeSums:
    """Rows ``phi`` (n, E) of whole numbers and their classes enter two sums, sum phi phi^T and, by class, sum phi.

    ``gram`` is the lower triangle of the first, in blocks of rows one after another, ``cross`` (E, classes) the second:
    int32, or int64 from where 32 bits might not hold them. ``sizes`` (classes,) int64 counts the rows. ``solve`` gives
    ridge regression of one-hot classes on all rows, which is what ACIL (Zhuang et al., NeurIPS 2022) does recursively.
    The sums of two shards add up to those of all rows, and a row can be taken out again.
    """

    def __init__(self, width: int, device: torch.device | str = "cpu"):
        self.width = width
        size = sum((stop - start) * stop for start, stop in self._blocks())
        self.gram = torch.zeros(size, dtype=torch.int32, device=device)
        self.cross = torch.zeros(width, 0, dtype=torch.int32, device=device)
        self.sizes = torch.zeros(0, dtype=torch.int64, device=device)

    @property
    def count(self) -> int:
        """Rows in all."""
        return int(self.sizes.sum())

    def grow(self, num_classes: int) -> None:
        """Make room for ``num_classes`` classes in all."""
        more = self.cross.new_zeros(self.width, num_classes - self.cross.shape[1])
        self.cross = torch.cat((self.cross, more), 1)
        self.sizes = torch.cat((self.sizes, self.sizes.new_zeros(more.shape[1])))

    def add(self, phi: torch.Tensor, label: torch.Tensor, sign: int = 1) -> None:
        """Take in rows ``phi`` (n, E) int16 of classes ``label`` (n,) int64; ``sign=-1`` takes them out again."""
        one_hot = torch.nn.functional.one_hot(label, self.cross.shape[1])
        wide = phi.double()
        self._make_room(wide.square().sum(0).long())
        for rows in wide.split(ROWS):
            self._add_products(rows, sign)
        self.cross += sign * (wide.T @ one_hot.double()).to(self.cross.dtype)
        self.sizes += sign * one_hot.sum(0)

    def _add_products(self, phi, sign):
        """Take the products of whole numbers ``phi`` (n, E) float64 in, exactly; on a CPU in float32 where that is."""
        if phi.device.type == "cpu" and phi.square().sum(0).max() < EXACT:  # and so are all sums of products
            phi = phi.float()
        pieces = self._pieces()
        for first in range(0, self.width, TILE):
            last = min(first + TILE, self.width)
            tile = (phi[:, first:last].T @ phi[:, :last]).to(self.gram.dtype)
            for rows in tile.split(BLOCK):
                piece = next(pieces)
                piece.add_(rows[:, : piece.shape[1]], alpha=sign)

    def merge(self, other: "RidgeSums") -> None:
        """Take in all rows of another shard."""
        self.grow(max(self.cross.shape[1], other.cross.shape[1]))
        self._make_room(other.diagonal())
        self.gram += other.gram
        self.cross[:, : other.cross.shape[1]] += other.cross
        self.sizes[: len(other.sizes)] += other.sizes

    def all_reduce(self, group: Group) -> None:
        """Add the rows of all processes of ``group`` ."""
        # In 64 bits: each part may fit 32 where the whole does not.
        self.gram, self.cross = group.sum(self.gram.long()), group.sum(self.cross.long())
        self.sizes = group.sum(self.sizes)

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
        self, penalties: Sequence[float], class_weight: torch.Tensor | None = None, unit: float = 1.0
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Ridge regressions (P, E, classes) and discriminants (P, E, classes) with their offsets (P, classes), float64.

        Of each of the P penalties, times ``unit``, ridge regression W minimises |phi W - Y|^2 + penalty |W|^2 over all
        rows, Y one-hot.

        With N the rows of each class, G and Q the sums, Q N^-1 the means of classes and S = G - Q N^-1 Q^T the scatter
        within them, linear discriminants are D = (S + penalty)^-1 Q N^-1 with offsets -1/2 diag(N^-1 Q^T D). S differs
        from G in as many directions as there are classes, so that by Woodbury's identity D = W (N - Q^T W)^-1: no other
        factor than that of W = (G + penalty)^-1 Q.

        ``class_weight`` (classes,): what each class's column of Y is multiplied by, by default 1. Raises InputError if
        a penalty is too small for the rows there are.
        """
        target, sizes = self.cross.double(), self.sizes.double().clamp_min(1)  # a class without rows has zeros
        if class_weight is not None:
            weight = class_weight[: len(sizes)]
            target, sizes = target * weight, sizes * weight.square()
        gram, right, basis = self._lower_triangle(), target, None
        if gram.device.type == "cpu" and self.count < LOW_RANK * self.width and self.diagonal().any():
            gram, right, basis = _low_rank(gram, target)
        found = []
        for penalty in penalties:
            try:
                ridge = _solution(gram, penalty * unit, right)
                ridge = ridge if basis is None else basis @ ridge
                along = target.T @ ridge
                correction, failed = torch.linalg.inv_ex(torch.diag(sizes) - along)
                correction = _unless(failed, correction)
            except np.linalg.LinAlgError as error:
                reason = f"penalty {penalty:g}: too small for {self.count} clips; give a larger one"
                raise InputError(reason) from error
            found.append((ridge, ridge @ correction, -(along @ correction).diagonal() / (2 * sizes)))
        ridge, within, offsets = (torch.stack(each) for each in zip(*found, strict=True))
        # Means over the classes decide nothing.
        return ridge, within - within.mean(2, keepdim=True), offsets - offsets.mean(1, keepdim=True)

    def _lower_triangle(self):
        """The Gram matrix (E, E) float64; what stands above the diagonal means nothing."""
        lower = torch.empty(self.width, self.width, dtype=torch.float64, device=self.gram.device)
        for (start, stop), piece in zip(self._blocks(), self._pieces(), strict=True):
            lower[start:stop, :stop] = piece
        return lower

    def state(self) -> dict:
        return {"gram": self.gram, "cross": self.cross, "sizes": self.sizes}

    def load_state(self, state: dict) -> None:
        device = self.gram.device
        self.gram, self.cross, self.sizes = (state[name].to(device) for name in ("gram", "cross", "sizes"))


def _solution(gram, penalty, right):
    """(gram + penalty)^-1 right of a lower triangle ``gram`` (E, E); LinAlgError if there is no Cholesky factor."""
    if gram.device.type != "cpu":
        factor, failed = torch.linalg.cholesky_ex(gram + penalty * torch.eye(len(gram)).to(gram))
        return torch.cholesky_solve(right, _unless(failed, factor))
    solution = _refined_solution(gram, penalty, right)
    if solution is not None:
        return solution
    shifted = gram.clone()
    shifted.diagonal().add_(penalty)
    # SciPy's LAPACK is faster than PyTorch's here. In Fortran's order the lower triangle is the transpose's upper one.
    _, solution, failed = dposv(shifted.numpy().T, right.numpy(), lower=0, overwrite_a=1)
    return torch.from_numpy(_unless(failed, solution))


def _unless(failed, result):
    if failed:
        raise np.linalg.LinAlgError("singular, or not positive definite")
    return result


def _refined_solution(gram, penalty, right):
    """The same to ``CLOSE`` by a factor in single precision, which is half the work; None if that does not get there.

    Each refinement solves for the residual in double precision (Wilkinson, Rounding Errors in Algebraic Processes,
    1963). How long it is, a random sum of its columns says, which costs little (Freivalds, 1977).
    """
    single = gram.float()
    single.diagonal().add_(penalty)
    factor, failed = spotrf(single.numpy().T, lower=0, clean=0, overwrite_a=1)
    if failed:
        return None
    gram, right = gram.numpy().T, right.numpy()
    signs = np.random.default_rng(0).choice([-1.0, 1.0], right.shape[1])
    goal, residual, solution = CLOSE * np.linalg.norm(right @ signs), right, np.zeros_like(right)
    for refinements in range(MOST_REFINEMENTS + 1):
        solution = solution + spotrs(factor, residual.astype(np.float32), lower=0)[0]
        along = solution @ signs
        if refinements and np.linalg.norm(right @ signs - dsymv(1, gram, along, lower=0) - penalty * along) <= goal:
            return torch.from_numpy(solution)
        residual = right - dsymm(1, gram, solution, lower=0) - penalty * solution
    return None


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
