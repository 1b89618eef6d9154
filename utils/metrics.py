"""Metrics of class-incremental learning, as pure functions of the accuracy matrix.

``matrix[t][j]`` is the accuracy on the test clips of task j after step t, j <= t; rows grow by one entry a step.
All values are fractions. Where there is nothing to average (a single step) the value is None.
"""

import numpy as np


def mean_accuracy(accuracy_per_step: list[float]) -> float | None:
    """Mean over steps of the accuracy on all classes seen (Rebuffi et al., iCaRL, 2017)."""
    return _mean(accuracy_per_step)


def forgetting(matrix: list[list[float]], step: int) -> float | None:
    """Mean over tasks j < step of the best earlier accuracy minus today's: ``max_{j<=l<t} a_lj - a_tj``.

    Chaudhry et al., Riemannian Walk, 2018. Negative when earlier tasks got better.
    """
    drops = [max(matrix[past][task] for past in range(task, step)) - matrix[step][task] for task in range(step)]
    return _mean(drops)


def forgetting_per_step(matrix: list[list[float]]) -> list[float | None]:
    """Forgetting after steps 1 to T-1."""
    return [forgetting(matrix, step) for step in range(1, len(matrix))]


def average_forgetting(matrix: list[list[float]]) -> float | None:
    """Mean of the forgetting over steps 1 to T-1 (AV-CIL, section 4.1)."""
    return _mean(forgetting_per_step(matrix))


def backward_transfer(matrix: list[list[float]]) -> float | None:
    """Mean over tasks j < T-1 of ``a_{T-1,j} - a_jj`` (Lopez-Paz and Ranzato, GEM, 2017)."""
    last = matrix[-1]
    return _mean([last[task] - matrix[task][task] for task in range(len(matrix) - 1)])


def confusion(label: np.ndarray, prediction: np.ndarray, num_classes: int) -> list[list[int]]:
    """Counts of test clips as a list of rows: row true class, column predicted class (num_classes, num_classes)."""
    counts = np.zeros((num_classes, num_classes), int)
    np.add.at(counts, (label, prediction), 1)
    return counts.tolist()


def _mean(values):
    return sum(values) / len(values) if values else None
