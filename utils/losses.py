"""The losses, as pure functions of logits and features. Logits are (batch, classes); every result is a scalar."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.nn import functional as F


def separated_cross_entropy(logits: torch.Tensor, batch: Any, num_old: int) -> torch.Tensor:
    """Cross-entropy of new clips over new classes only, and of replayed clips over old classes only (SS-IL, ICCV 2021).

    ``batch`` is a dataloader.Batch, ``num_old`` the number of old classes. The mean over all clips of the batch.
    """
    new, replayed, label = batch.new, batch.replayed, batch.label
    loss_new = F.cross_entropy(logits[new, num_old:], label[new] - num_old, reduction="sum")
    loss_replayed = F.cross_entropy(logits[replayed, :num_old], label[replayed], reduction="sum")
    return (loss_new + loss_replayed) / len(label)


def released_joint_cross_entropy(args: Any, task: Any) -> bool:
    """Whether released SS-IL and AV-CIL do not separate cross-entropy: on AVE with 4 classes a step, in step 1."""
    four_a_step = task.index == 1 and (task.start, task.stop) == (4, 8)
    return args.variant == "released" and args.dataset == "AVE" and four_a_step


def total(terms: Iterable[torch.Tensor]) -> torch.Tensor:
    """The sum of ``terms``, at least one, in their order."""
    value = sum(terms)
    assert isinstance(value, torch.Tensor)
    return value


def distillation(logits: torch.Tensor, teacher_logits: torch.Tensor, temperature: float = 2.0) -> torch.Tensor:
    """``T^2 KL(softmax(teacher/T) || softmax(student/T))``, mean over the batch (Hinton et al., 2015)."""
    student = F.log_softmax(logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def task_wise_distillation(
    logits: torch.Tensor, teacher_logits: torch.Tensor, past: Sequence[slice], temperature: float = 2.0
) -> torch.Tensor:
    """Distillation within the classes of each earlier task, summed over ``past``, their slices (SS-IL, ICCV 2021)."""
    return total(distillation(logits[:, task], teacher_logits[:, task], temperature) for task in past)


def sigmoid_distillation(logits: torch.Tensor, teacher_logits: torch.Tensor, twice: bool) -> torch.Tensor:
    """Binary cross-entropy of each class against ``sigmoid(teacher)``, mean over clips and classes (iCaRL, CVPR 2017).

    ``twice`` applies a second sigmoid to the student's probability, as the released code does.
    """
    student = torch.sigmoid(logits) if twice else logits
    return F.binary_cross_entropy_with_logits(student, torch.sigmoid(teacher_logits))


def nca(logits: torch.Tensor, label: torch.Tensor, scale: torch.Tensor, margin: float, released: bool) -> torch.Tensor:
    """NCA loss of similarities, with a learnable ``scale`` (PODNet, ECCV 2020; AFC, CVPR 2022). Mean over the batch.

    ``-log(exp(scale (s_y - margin)) / sum_{c != y} exp(scale s_c))``. ``released`` subtracts the margin from every
    class, so that it cancels, and has the largest term of all, instead of nothing, in the place of y in the sum.
    """
    true = F.one_hot(label, logits.shape[1]).bool()
    scaled = scale * logits
    filler = scaled.amax(1, keepdim=True) if released else torch.full_like(scaled[:, :1], -torch.inf)
    others = torch.where(true, filler, scaled)
    margin = 0 if released else margin
    return (torch.logsumexp(others, 1) - (torch.where(true, scaled, 0).sum(1) - scale * margin)).mean()


def class_token_distillation(logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    """``KL(softmax(teacher) || softmax(student))`` of what each old class's token is taken for, mean over old classes.

    Both are (old classes, old classes), a row per token (CIGN, ICCV 2023).
    """
    return distillation(logits, teacher_logits, temperature=1.0)
