"""Damaged files of every kind end in the error that users are told, never in a traceback, a hang or a crash."""

import pytest

from tests.helpers.hostile import ATTACKS, attack
from tests.helpers.mutations import READERS, mutate

QUICK = ("hostile JSON", "few open files")


@pytest.mark.parametrize("reader", READERS)
def test_damaged_files(reader):
    assert mutate(reader, 12, seed=1) == 0


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_many_damaged_files(reader):
    assert mutate(reader, 150, seed=2) == 0


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ATTACKS]
)
def test_hostile_files(name):
    assert attack(name) == 0
