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
        features: torch.Tensor,
        label: torch.Tensor,
        class_weight: torch.Tensor | None = None,
        unit: float = 1.0,
    ) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Weights (E, classes) and offsets (classes,), float64, and how much each solution counts in them.

        Every part is solved for every penalty, by ridge regression and by linear discriminants; a penalty of 1 is that
        of a row of the part whose entries have the mean square ``unit``. The solutions are mixed as does best on the
        validation clips' ``features`` (n, E) of classes ``label`` (n,). ``class_weight`` (all classes,): what the
        one-hot targets are multiplied by. Raises InputError if a penalty is too small.

        The shares: (parts, penalties) of ridge regressions and as many of discriminants, float64.
        """
        solved = [sums.solve(penalties, class_weight, unit * sums.width) for sums in self.sums]
        parts = [part.double() for part in features.split(self.widths, 1)]
        ridge = torch.stack([part @ each for part, (each, _, _) in zip(parts, solved, strict=True)])
        within = torch.stack([part @ each + o[:, None] for part, (_, each, o) in zip(parts, solved, strict=True)])
        shares = mixture_of_both(ridge.cpu().numpy(), within.cpu().numpy(), label.cpu().numpy())
        of_ridge, of_discriminants = (torch.from_numpy(each).to(label.device) for each in shares)
        weights, offsets = [], torch.zeros(ridge.shape[-1], dtype=torch.float64, device=label.device)
        for part, (regressions, discriminants, offset) in enumerate(solved):
            mixed = torch.tensordot(of_ridge[part], regressions, 1)
            weights.append(mixed + torch.tensordot(of_discriminants[part], discriminants, 1))
            offsets += of_discriminants[part] @ offset
        return torch.cat(weights), offsets, [of_ridge, of_discriminants]

    def state(self) -> dict:
        return {"sums": [sums.state() for sums in self.sums]}

    def load_state(self, state: dict) -> None:
        for sums, saved in zip(self.sums, state["sums"], strict=True):
            sums.load_state(saved)


def mixture_of_both(ridge: np.ndarray, discriminants: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (parts, penalties) of scores (parts, penalties, n, classes) of clips of ``label`` (n,), of each kind.

    All ridge regressions are mixed by squares, and likewise the parts' discriminants of each penalty. Which penalty
    discriminants are taken from, and how much these count beside ridge regression, is what gives the least
    cross-entropy, of scores brought to one deviation.
    """
    regression, mixed = _mixed(ridge, np.ones(ridge.shape[:2]), label)
    # (loss, share of discriminants, their weights), for each penalty and share.
    options = [(_cross_entropy(mixed, label), 0.0, np.zeros(discriminants.shape[:2]))]
    for number in range(discriminants.shape[1]):
        own = discriminants[:, number : number + 1]
        weights = np.zeros(discriminants.shape[:2])
        weights[:, [number]], scores = _mixed(own, _sizes_nearest_to_one_hot(own, label), label)
        options += [(_cross_entropy((1 - s) * mixed + s * scores, label), s, weights) for s in SHARES[1:]]
    _, share, weights = min(options, key=lambda option: option[0])
    return (1 - share) * regression, share * weights


def _mixed(scores, sizes, label):
    """Weights, of the shape of ``sizes``, of ``scores`` (*that, n, classes), and the mixture, of deviation 1."""
    sized = sizes[..., None, None] * scores
    shares = sizes * mixture_weights(sized.reshape(-1, *scores.shape[-2:]), label).reshape(sizes.shape)
    total = np.tensordot(shares, scores, shares.ndim)
    total -= total.mean(1, keepdims=True)
    deviation = total.std() or 1.0
    return shares / deviation, total / deviation


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


def _sizes_nearest_to_one_hot(scores, label):
    """What brings each of ``scores`` (.., n, classes) to the size nearest to one-hot; 0 if they point away."""
    agreement = scores[..., np.arange(len(label)), label].sum(-1).clip(min=0)
    squares = np.square(scores).sum((-2, -1))
    return np.divide(agreement, squares, out=np.zeros_like(squares), where=squares > 0)


def _cross_entropy(scores, label):
    """Mean loss of ``scores`` (n, classes) of deviation 1 at the best of the sharpnesses of softmax."""
    clips = np.arange(len(label))
    return min(-log_softmax(factor * scores, 1)[clips, label].mean() for factor in SHARPNESS)
