"""Losses against small cases worked out by hand or by the plainest formula."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dataloader import Batch
from engine.registry import find_method
from engine.tasks import make_tasks
from methods.avcil import attention_distillation, class_contrastive, instance_contrastive
from utils import losses


def test_separated_cross_entropy_of_unequal_tasks():
    # Old classes 0 to 2, new ones 3 and 4. All logits equal: log(2) for each new clip, log(3) for each old one.
    batch = Batch(np.arange(3), torch.tensor([3, 4, 1]), None, None, num_replayed=1)
    value = losses.separated_cross_entropy(torch.zeros(3, 5), batch, 3)
    assert value.item() == pytest.approx((2 * math.log(2) + math.log(3)) / 3)
    # What the other side's logits are does not matter.
    logits = torch.tensor([[9.0, 5, 3, 0, 0], [7, 7, 7, 0, 0], [0, 0, 0, 8, 8]])
    assert losses.separated_cross_entropy(logits, batch, 3).item() == pytest.approx(value.item())


def test_distillation_by_hand():
    # Teacher (3/4, 1/4) at temperature 2, student (1/2, 1/2): 4 (3/4 log 3/2 + 1/4 log 1/2).
    teacher = torch.tensor([[2 * math.log(3), 0.0]])
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert losses.distillation(torch.zeros(1, 2), teacher).item() == pytest.approx(expected, rel=1e-5)
    assert losses.distillation(teacher, teacher).item() == pytest.approx(0, abs=1e-6)


def test_distillation_is_within_each_task():
    past = make_tasks(6, [3, 2, 1])[2].past
    teacher, student = torch.randn(4, 5), torch.randn(4, 6)
    ours = losses.task_wise_distillation(student, teacher, past)
    parts = [losses.distillation(student[:, a:b], teacher[:, a:b]) for a, b in ((0, 3), (3, 5))]
    assert ours.item() == pytest.approx(sum(parts).item(), rel=1e-6)
    # A constant added to one task's logits changes nothing.
    shifted = student + torch.tensor([5.0, 5, 5, 0, 0, 0])
    assert losses.task_wise_distillation(shifted, teacher, past).item() == pytest.approx(ours.item(), rel=1e-4)


def test_sigmoid_distillation_both_forms():
    student, teacher = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, -1.0]])

    def naive(inputs):
        target, p = torch.sigmoid(teacher), torch.sigmoid(inputs)
        return -(target * p.log() + (1 - target) * (1 - p).log()).mean().item()

    assert losses.sigmoid_distillation(student, teacher, twice=False).item() == pytest.approx(naive(student))
    assert losses.sigmoid_distillation(student, teacher, twice=True).item() == pytest.approx(
        naive(torch.sigmoid(student))
    )


def naive_nca(logits, label, scale, margin):
    terms = []
    for row, y in zip(logits.tolist(), label.tolist(), strict=True):
        others = sum(math.exp(scale * s) for c, s in enumerate(row) if c != y)
        terms.append(-math.log(math.exp(scale * (row[y] - margin)) / others))
    return sum(terms) / len(terms)


def test_nca_margin():
    logits, label = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    scale = torch.tensor(1.5)
    for margin in (0.0, 0.6):
        ours = losses.nca(logits, label, scale, margin, released=False)
        assert ours.item() == pytest.approx(naive_nca(logits, label, 1.5, margin), rel=1e-5)
    without, with_margin = (losses.nca(logits, label, scale, margin, released=True) for margin in (0.0, 0.6))
    assert torch.equal(without, with_margin)
    corrected = [losses.nca(logits, label, scale, margin, released=False).item() for margin in (0.0, 0.6)]
    assert corrected[1] - corrected[0] == pytest.approx(1.5 * 0.6, rel=1e-5)


def test_contrastive_losses_by_hand():
    # Orthogonal features, temperature 1: similarity 1 to oneself, 0 to others.
    features = torch.eye(3) * torch.tensor([[1.0], [5.0], [0.1]])
    log_sum = math.log(math.e + 2)
    assert instance_contrastive(features, features, 1.0).item() == pytest.approx(log_sum - 1, rel=1e-5)
    # Clips 0 and 1 share a class: their rows hold (1 - L) + (0 - L), the row of clip 2 holds 1 - L.
    label = torch.tensor([4, 4, 7])
    pair, single = 2 * log_sum - 1, log_sum - 1
    released = class_contrastive(features, features, label, 1.0, per_positive=False)
    corrected = class_contrastive(features, features, label, 1.0, per_positive=True)
    assert released.item() == pytest.approx((pair + pair + single) / 9, rel=1e-5)
    assert corrected.item() == pytest.approx((pair / 2 + pair / 2 + single) / 3, rel=1e-5)


@pytest.mark.parametrize("dim", [1, 2])
def test_attention_distillation_is_the_divergence_of_the_maps(dim):
    student, teacher = torch.randn(3, 4, 5, 2, dtype=torch.float64), torch.randn(3, 4, 5, 2, dtype=torch.float64)
    p, q = teacher.softmax(dim), student.softmax(dim)
    naive = (p * (p / q).log()).sum() / 3
    assert attention_distillation(student, teacher, dim).item() == pytest.approx(naive.item())


def cross_entropy(method, logits, batch, task, variant="released", dataset="AVE"):
    learner = find_method(method).__new__(find_method(method))
    learner.args = SimpleNamespace(variant=variant, dataset=dataset)
    return learner._cross_entropy(logits, batch, task).item()


@pytest.mark.parametrize("method", ["ssil", "avcil"])
def test_released_cross_entropy_on_ave_with_four_classes_a_step(method):
    """In step 1 it is not separated but over all 8 classes, and SS-IL takes new clips for classes 0 to 3."""
    batch = Batch(np.arange(3), torch.tensor([4, 7, 2]), None, None, num_replayed=1)
    logits = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    task = make_tasks(12, [4])[1]
    label = torch.tensor([0, 3, 2] if method == "ssil" else [4, 7, 2])
    assert cross_entropy(method, logits, batch, task) == pytest.approx(F.cross_entropy(logits, label).item())
    separated = pytest.approx(losses.separated_cross_entropy(logits, batch, 4).item())
    assert cross_entropy(method, logits, batch, task, variant="corrected") == separated
    assert cross_entropy(method, logits, batch, task, dataset="pets") == separated
    # Elsewhere the released code separates too: in step 2, and with other numbers of classes a step.
    for task, label in ((make_tasks(12, [4])[2], [8, 11, 2]), (make_tasks(14, [7])[1], [7, 13, 2])):
        batch = Batch(np.arange(3), torch.tensor(label), None, None, num_replayed=1)
        logits = torch.randn(3, task.stop, generator=torch.Generator().manual_seed(1))
        separated = losses.separated_cross_entropy(logits, batch, task.start).item()
        assert cross_entropy(method, logits, batch, task) == pytest.approx(separated)
