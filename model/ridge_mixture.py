"""Ridge regressions on several parts of the features, and their mixture that does best on validation clips."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import nnls
from scipy.special import log_softmax

from model.ridge import RidgeSums
from utils.devices import Group

PRIOR = 0.1  # weight of all solutions counting the same, where 1 is that of the validation clips' scores of one class
SHARES = np.linspace(0, 1, 5)  # of discriminants, to choose from
SHARPNESS = np.geomspace(0.5, 8, 12)  # of a softmax of scores of deviation 1


class RidgeMixture:
    """Features (n, E) are cut into parts, one for each of ``sums``, which has its own regressions."""

    def __init__(self, sums: Sequence[RidgeSums]):
        self.sums = list(sums)
        self.widths = [each.width for each in self.sums]

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
        rounds: int,
        features: torch.Tensor,
        label: torch.Tensor,
        class_weight: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Weights (E, classes) and offsets (classes,), float64, and how much each solution counts in them.

        Every part is solved for every penalty, in units of a squared entry of the features: by 1, 2, .. ``rounds`` of
        ridge regression, and by the linear discriminants that follow from the first. They are mixed as does best on the
        validation clips' ``features`` (n, E) of classes ``label`` (n,). ``class_weight`` (all classes,): what the
        one-hot targets are multiplied by. Raises InputError if a penalty is too small.

        The shares: (parts, penalties x rounds) of ridge regressions and (parts, penalties) of discriminants, float64.
        """
        ridge, discriminants, offsets = [], [], []  # of each part: (solutions, E, classes), and (penalties, classes)
        for sums in self.sums:
            solutions = [sums.solve(penalty * sums.width, rounds, class_weight) for penalty in penalties]
            ridge.append(torch.cat([torch.stack(each) for each in solutions]))
            pairs = [sums.discriminants(first, class_weight) for first, *_ in solutions]
            discriminants.append(torch.stack([directions for directions, _ in pairs]))
            offsets.append(torch.stack([offset for _, offset in pairs]))
        parts = [part.double() for part in features.split(self.widths, 1)]
        along = [
            part @ each + offset[:, None] for part, each, offset in zip(parts, discriminants, offsets, strict=True)
        ]
        shares = mixture_of_both(
            torch.cat([part @ each for part, each in zip(parts, ridge, strict=True)]).cpu().numpy(),
            torch.cat(along).cpu().numpy(),
            label.cpu().numpy(),
        )
        of_ridge, of_discriminants = (torch.from_numpy(each).view(len(parts), -1).to(label.device) for each in shares)
        weights = [
            torch.tensordot(of_ridge[part], ridge[part], 1) + torch.tensordot(of_discriminants[part], each, 1)
            for part, each in enumerate(discriminants)
        ]
        mixed = torch.tensordot(of_discriminants, torch.stack(offsets), 2)
        return torch.cat(weights), mixed, [of_ridge, of_discriminants]

    def state(self) -> dict:
        return {"sums": [sums.state() for sums in self.sums]}

    def load_state(self, state: dict) -> None:
        for sums, saved in zip(self.sums, state["sums"], strict=True):
            sums.load_state(saved)


def mixture_of_both(ridge: np.ndarray, discriminants: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights of ``ridge`` (K, n, classes) and of ``discriminants`` (L, n, classes), scores of clips of ``label`` (n,).

    Each kind is mixed on its own by squares, and then the two by cross-entropy, of scores brought to one deviation.
    """
    weights, mixed = [], []
    sizes = np.array([_size_nearest_to_one_hot(scores, label) for scores in discriminants])
    for scores, size in ((ridge, np.ones(len(ridge))), (discriminants, sizes)):
        shares = size * mixture_weights(size[:, None, None] * scores, label)
        total = np.tensordot(shares, scores, 1)
        total -= total.mean(1, keepdims=True)
        deviation = total.std() or 1.0
        weights.append(shares / deviation)
        mixed.append(total / deviation)
    losses = [_cross_entropy((1 - share) * mixed[0] + share * mixed[1], label) for share in SHARES]
    share = SHARES[int(np.argmin(losses))]
    return (1 - share) * weights[0], share * weights[1]


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


def _size_nearest_to_one_hot(scores, label):
    """What brings ``scores`` (n, classes) to the size at which they come nearest to one-hot; 0 if they point away."""
    agreement, squares = scores[np.arange(len(label)), label].sum(), np.square(scores).sum()
    return max(agreement, 0.0) / squares if squares else 0.0


def _cross_entropy(scores, label):
    """Mean loss of ``scores`` (n, classes) of deviation 1 at the best of the sharpnesses of softmax."""
    clips = np.arange(len(label))
    return min(-log_softmax(factor * scores, 1)[clips, label].mean() for factor in SHARPNESS)
