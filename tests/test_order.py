"""Batches come as torch's DataLoader would give them, and tasks as the classes are cut."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from engine.tasks import make_tasks
from utils.errors import InputError
from utils.exemplars import paired_pass, shuffled_pass
from utils.seeding import seed_everything, start_pass


def loader(clips, size, shuffle=True):
    return DataLoader(clips.tolist(), min(size, len(clips)), shuffle=shuffle, drop_last=shuffle)


def test_passes_are_those_of_a_data_loader():
    clips = np.arange(100, 123)
    seed_everything(5)
    train, validation = loader(clips, 4), loader(clips, 5, shuffle=False)
    theirs = []
    for _ in range(3):
        theirs += [batch.tolist() for batch in train]
        list(validation)
    seed_everything(5)
    ours = []
    for _ in range(3):
        ours += [batch.tolist() for batch, _ in shuffled_pass(clips, 4)]
        start_pass()
    assert ours == theirs
    assert torch.rand(1) != torch.rand(1)


def test_a_batch_is_never_larger_than_the_data():
    assert [len(batch) for batch, _ in shuffled_pass(np.arange(5), 256)] == [5]


def test_paired_passes_are_two_data_loaders_side_by_side():
    new, kept = np.arange(50), np.arange(100, 107)
    seed_everything(9)
    train, exemplars = loader(new, 8), loader(kept, 3)
    theirs = [(a.tolist(), b.tolist()) for _ in range(2) for a, b in cycled(train, exemplars)]
    seed_everything(9)
    ours = []
    for _ in range(2):
        for batch, replayed in paired_pass(new, 8, kept, 3, reshuffle=False):
            ours.append((batch[:-replayed].tolist(), batch[-replayed:].tolist()))
    assert ours == theirs


def cycled(train, exemplars):
    """One pass over the training loader beside the exemplars, repeated when they run out."""
    # zip starts its last argument last; cycle starts its loader when it is first asked.
    exemplars = iter(exemplars)
    train = iter(train)
    first = next(train)
    return zip(itertools.chain([first], train), itertools.cycle(exemplars), strict=False)


def test_reshuffled_exemplars_come_in_a_new_order():
    seed_everything(1)
    pairs = paired_pass(np.arange(80), 8, np.arange(100, 140), 10, reshuffle=True)
    rounds = [np.concatenate([batch[-10:] for batch, _ in pairs[start : start + 4]]) for start in (0, 4)]
    assert sorted(rounds[0]) == sorted(rounds[1]) == list(range(100, 140))
    assert rounds[0].tolist() != rounds[1].tolist()


@given(st.lists(st.integers(1, 5), min_size=2, max_size=6))
def test_tasks_cover_the_classes_once(sizes):
    tasks = make_tasks(sum(sizes), sizes)
    assert [c for task in tasks for c in range(task.start, task.stop)] == list(range(sum(sizes)))
    for task in tasks:
        assert task.past == tuple(earlier.new for earlier in tasks[: task.index])
        assert task.seen == slice(0, task.stop) and task.old == slice(0, task.start)


def test_a_remainder_is_never_dropped_in_silence():
    with pytest.raises(InputError, match="remainder of 1"):
        make_tasks(10, [3])
    assert [task.num_new for task in make_tasks(10, [3], last_step_remainder=True)] == [3, 3, 3, 1]
    assert [task.num_new for task in make_tasks(9, [3], last_step_remainder=True)] == [3, 3, 3]
