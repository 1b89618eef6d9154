"""The losses, as pure functions of logits and features. Logits are (batch, classes); every result is a scalar."""

import torch
from torch.nn import functional as F


def separated_cross_entropy(logits, batch, num_old):
    """Cross-entropy of new clips over new classes only, and of replayed clips over old classes only (SS-IL, ICCV 2021).

    ``batch`` is a dataloader.Batch, ``num_old`` the number of old classes. The mean over all clips of the batch.
    """
    new, replayed, label = batch.new, batch.replayed, batch.label
    loss_new = F.cross_entropy(logits[new, num_old:], label[new] - num_old, reduction="sum")
    loss_replayed = F.cross_entropy(logits[replayed, :num_old], label[replayed], reduction="sum")
    return (loss_new + loss_replayed) / len(label)


def distillation(logits, teacher_logits, temperature=2.0):
    """``T^2 KL(softmax(teacher/T) || softmax(student/T))``, mean over the batch (Hinton et al., 2015)."""
    student = F.log_softmax(logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def task_wise_distillation(logits, teacher_logits, past, temperature=2.0):
    """Distillation within the classes of each earlier task, summed over ``past``, their slices (SS-IL, ICCV 2021)."""
    return sum(distillation(logits[:, task], teacher_logits[:, task], temperature) for task in past)


def sigmoid_distillation(logits, teacher_logits, twice):
    """Binary cross-entropy of each class against ``sigmoid(teacher)``, mean over clips and classes (iCaRL, CVPR 2017).

    ``twice`` applies a second sigmoid to the student's probability, as the released code does.
    """
    student = torch.sigmoid(logits) if twice else logits
    return F.binary_cross_entropy_with_logits(student, torch.sigmoid(teacher_logits))


def nca(logits, label, scale, margin, released):
    """NCA loss of similarities, with a learnable ``scale`` (PODNet, ECCV 2020; AFC, CVPR 2022). Mean over the batch.

    ``-log(exp(scale (s_y - margin)) / sum_{c != y} exp(scale s_c))``. ``released`` subtracts the margin from every
    class, so that it cancels, and has the largest term of all, instead of nothing, in the place of y in the sum.
    """
    true = F.one_hot(label, logits.shape[1]).bool()
    scaled = scale * logits
    filler = scaled.amax(1, keepdim=True) if released else torch.full_like(scaled[:, :1], -torch.inf)
    others = torch.where(true, filler, scaled)
    margin = 0 if released else margin
    return (torch.logsumexp(others, 1) - (scaled[true] - scale * margin)).mean()


def similarity_log_probabilities(audio, visual, temperature):
    """``log p_ij`` (B, B): how much audio i prefers visual j, by cosine similarity over ``temperature``."""
    similarity = F.normalize(audio, dim=1) @ F.normalize(visual, dim=1).T
    return F.log_softmax(similarity / temperature, dim=1)


def instance_contrastive(audio, visual, temperature):
    """I-AVSC: each clip's audio should prefer its own visual feature (AV-CIL, ICCV 2023). Features are (B, D)."""
    return -similarity_log_probabilities(audio, visual, temperature).diagonal().mean()


def class_contrastive(audio, visual, label, temperature, per_positive):
    """C-AVSC: each clip's audio should prefer the visual features of its class.

    ``per_positive`` divides each row by its number of positives (AV-CIL, eq. 7); otherwise by the batch size, as the
    released code does, which makes the term smaller by about the number of classes in the batch.
    """
    log_p = similarity_log_probabilities(audio, visual, temperature)
    positive = (label[:, None] == label).to(log_p.dtype)
    count = positive.sum(1) if per_positive else len(label)
    return -((log_p * positive).sum(1) / count).mean()


def attention_distillation(scores, teacher_scores, dim):
    """VAD: ``KL(softmax(teacher) || softmax(student))`` over ``dim``, summed over all else, mean over clips (dim 0).

    The scores are those before the softmax. AV-CIL, ICCV 2023: ``dim`` holds positions (spatial) or frames (temporal).
    """
    log_student = torch.log_softmax(scores, dim)
    log_teacher = torch.log_softmax(teacher_scores, dim)
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


def class_token_distillation(logits, teacher_logits):
    """``KL(softmax(teacher) || softmax(student))`` of what each old class's token is taken for, mean over old classes.

    Both are (old classes, old classes), a row per token (CIGN, ICCV 2023).
    """
    return distillation(logits, teacher_logits, temperature=1.0)
