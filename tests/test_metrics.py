"""Metrics against numbers worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils import metrics

# After step 0: task 0 at 0.9. After step 1: 0.6 and 0.8. After step 2: 0.7, 0.5, 1.0.
MATRIX = [[0.9], [0.6, 0.8], [0.7, 0.5, 1.0]]


def test_by_hand():
    assert metrics.forgetting(MATRIX, 1) == pytest.approx(0.3)
    # Task 0: its best earlier accuracy is 0.9; task 1: 0.8.
    assert metrics.forgetting(MATRIX, 2) == pytest.approx(((0.9 - 0.7) + (0.8 - 0.5)) / 2)
    assert metrics.forgetting_per_step(MATRIX) == pytest.approx([0.3, 0.25])
    assert metrics.average_forgetting(MATRIX) == pytest.approx(0.275)
    assert metrics.backward_transfer(MATRIX) == pytest.approx(((0.7 - 0.9) + (0.5 - 0.8)) / 2)
    assert metrics.mean_accuracy([0.9, 0.7, 0.5]) == pytest.approx(0.7)


def test_what_gets_better_is_forgotten_less_than_nothing():
    assert metrics.forgetting([[0.5], [0.75, 0.5]], 1) == -0.25


def test_one_step_has_nothing_to_forget():
    assert metrics.forgetting_per_step([[0.9]]) == []
    assert metrics.average_forgetting([[0.9]]) is None
    assert metrics.backward_transfer([[0.9]]) is None


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_forgetting_is_at_least_minus_backward_transfer(values):
    # The best earlier accuracy is no less than the first one.
    matrix = [values[: step + 1] for step in range(len(values))]
    matrix[-1] = [value / 2 for value in matrix[-1]]
    assert metrics.forgetting(matrix, len(matrix) - 1) >= -metrics.backward_transfer(matrix) - 1e-12
