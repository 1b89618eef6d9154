"""Backward transfer: what later steps did to earlier tasks, on average (Lopez-Paz and Ranzato, GEM, 2017)."""

from engine.run_files import RunResults
from utils.metrics import backward_transfer

HEAD, HIGHER_IS_BETTER = "bwt", True


def measure(run: RunResults) -> float | None:
    """A fraction; None where there is a single step."""
    return backward_transfer(run.accuracy_matrix) if run.finished else None
