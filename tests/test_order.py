"""Batches come as torch's DataLoader would give them, and tasks as the classes are cut."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from tqdm.contrib import tzip

from engine.tasks import make_tasks
from utils.errors import InputError
from utils.seeding import paired_pass, plain_pass, seed_everything, shuffled_pass


def loader(clips, size, shuffle=True, workers=0):
    return DataLoader(clips.tolist(), min(size, len(clips)), shuffle=shuffle, drop_last=shuffle, num_workers=workers)


@pytest.mark.parametrize("workers", [0, 1])
def test_plain_and_shuffled_passes_are_those_of_a_data_loader(workers):
    clips = np.arange(100, 123)
    seed_everything(5)
    train, validation = loader(clips, 4, workers=workers), loader(clips, 5, shuffle=False, workers=workers)
    theirs = [[batch.tolist() for batch in batches] for _ in range(2) for batches in (train, validation)]
    seed_everything(5)
    ours = []
    for _ in range(2):
        for batches in (shuffled_pass(clips, 4), plain_pass(clips, 5)):
            ours.append([batch.tolist() for batch, _ in batches])
    assert ours == theirs


def test_a_batch_is_never_larger_than_the_data():
    assert [len(batch) for batch, _ in shuffled_pass(np.arange(5), 256)] == [5]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("new", "kept", "sizes"), [(50, 7, (8, 3)), (9, 40, (4, 8)), (5, 3, (256, 128))])
def test_paired_passes_are_two_data_loaders_under_a_progress_bar(workers, new, kept, sizes):
    """As the published loop reads them: the exemplars repeated, and the length of the new clips' loader shown."""
    new, kept = np.arange(new), np.arange(100, 100 + kept)
    seed_everything(9)
    train, exemplars = loader(new, sizes[0], workers=workers), loader(kept, sizes[1], workers=workers)
    theirs = []
    for _ in range(2):
        pairs = tzip(train, itertools.cycle(exemplars), disable=True)
        theirs.append([(a.tolist(), b.tolist()) for a, b in pairs])
    next_of_theirs = torch.rand(1)
    seed_everything(9)
    ours = []
    for _ in range(2):
        pairs = paired_pass(new, kept, *sizes, workers=workers > 0)
        ours.append([(batch[:-count].tolist(), batch[-count:].tolist()) for batch, count in pairs])
    assert ours == theirs and torch.rand(1) == next_of_theirs


def test_reshuffled_exemplars_come_in_a_new_order():
    seed_everything(1)
    pairs = paired_pass(np.arange(80), np.arange(100, 140), 8, 10, reshuffle=True)
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
