"""AV-CIL: Audio-Visual Class-Incremental Learning (Pian, Mo, Guo, Tian; ICCV 2023).

From top to bottom: the loss of a step; its terms, which are separated cross-entropy with task-wise distillation as in
SS-IL, the dual audio-visual similarity constraint (D-AVSC: I-AVSC by instance, C-AVSC by class) and visual attention
distillation (VAD); and where the teacher's attention maps come from.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from dataloader import Batch, IncrementalData
from engine.gradient import GradientLearner, TeacherCache
from engine.tasks import Task
from model.network import AudioVisualNet
from utils.command_line import fraction, not_negative_number, positive_number
from utils.losses import (
    class_token_distillation,
    released_joint_cross_entropy,
    separated_cross_entropy,
    task_wise_distillation,
)

# What only one term of the loss uses, by the option that switches it off.
OPTIONS_OF_TERMS = {
    "task_distil": ("lam_KD",),
    "instance_contrastive": ("lam_I", "instance_contrastive_temperature"),
    "class_contrastive": ("lam_C", "class_contrastive_temperature"),
    "attn_score_distil": ("lam",),
    "class_token_distillation": ("class_token_temperature",),
}


class AVCIL(GradientLearner):
    modalities = ("audio-visual",)
    replay = "paired"
    has_teacher = True
    tf32_holds = True
    teacher_attention: Any = None  # TeacherAttention, while a step is learned

    @classmethod
    def add_options(cls, group: Any) -> None:
        def switch(name, help_text):
            group.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=True, help=help_text)

        def number(name, default, help_text, kind=not_negative_number):
            group.add_argument(f"--{name}", type=kind, default=default, help=help_text)

        switch("task_distil", "task-wise distillation of the logits")
        switch("instance_contrastive", "I-AVSC: similarity of a clip's audio to its own visual feature")
        switch("class_contrastive", "C-AVSC: similarity of a clip's audio to the visual features of its class")
        switch("attn_score_distil", "VAD: distillation of the attention maps on exemplars")
        number("lam_KD", 1.0, "weight of the task-wise distillation")
        number("lam_I", None, "weight of I-AVSC (default: the data set's preset, else 0.5)")
        number("lam_C", 1.0, "weight of C-AVSC")
        number("lam", 0.5, "share of spatial against temporal attention distillation, 0 to 1", fraction)
        number("class_token_distillation", 0.0, "weight of the class-token distillation of classifier rows (CIGN)")
        number("class_token_temperature", 1.0, "temperature of the similarities of classifier rows", positive_number)
        number("instance_contrastive_temperature", 0.05, "temperature of I-AVSC", positive_number)
        number("class_contrastive_temperature", 0.05, "temperature of C-AVSC", positive_number)

    @classmethod
    def without_effect(cls, args: Any) -> dict[str, str]:
        reasons = super().without_effect(args)
        for switch, options in OPTIONS_OF_TERMS.items():
            if not getattr(args, switch):
                reasons |= dict.fromkeys(options, f"without --{switch} nothing uses it")
        return reasons

    @classmethod
    def needs_of_network(cls, args: Any) -> set[str]:
        needs = {"logits"}
        if args.instance_contrastive or args.class_contrastive:
            needs |= {"audio", "visual"}
        if args.attn_score_distil:
            needs |= {"spatial_distance", "temporal_distance", "frozen_attention"}
        return needs

    def losses(self, batch: Batch, task: Task) -> dict[str, torch.Tensor]:
        if task.index == 0:
            return super().losses(batch, task)
        attention = self.teacher_attention.of(batch) if self.args.attn_score_distil else None
        out = self.network(batch.audio, batch.visual, attention)
        terms = {"cross_entropy": self._cross_entropy(out["logits"], batch, task)}
        return terms | self._similarity_constraint(out, batch) | self._distillation(out, batch, task)

    def milestones(self, task: Task) -> list[int]:
        # The released code lets the learning rate fall from step 1 on.
        return [] if self.args.variant == "released" and task.index == 0 else super().milestones(task)

    def _cross_entropy(self, logits, batch, task):
        if released_joint_cross_entropy(self.args, task):
            return F.cross_entropy(logits, batch.label)
        return separated_cross_entropy(logits, batch, task.start)

    def _similarity_constraint(self, out, batch):
        args, terms = self.args, {}
        audio, visual = out["audio"], out["visual"]
        if args.instance_contrastive:
            value = instance_contrastive(audio, visual, args.instance_contrastive_temperature)
            terms["I-AVSC"] = args.lam_I * value
        if args.class_contrastive:
            per_positive = args.variant == "corrected"
            value = class_contrastive(audio, visual, batch.label, args.class_contrastive_temperature, per_positive)
            terms["C-AVSC"] = args.lam_C * value
        return terms

    def _distillation(self, out, batch, task):
        args, terms = self.args, {}
        if args.task_distil:
            teacher_logits = self.cached_outputs(batch)["logits"]
            terms["distillation"] = args.lam_KD * task_wise_distillation(out["logits"], teacher_logits, task.past)
        if args.class_token_distillation:
            terms["token_distillation"] = args.class_token_distillation * self._token_distillation(task.start)
        if args.attn_score_distil:
            terms["VAD_spatial"] = args.lam * out["spatial_distance"]
            terms["VAD_temporal"] = (1 - args.lam) * out["temporal_distance"]
        return terms

    def _token_distillation(self, num_old):
        """A class's token is its row of the classifier, known by its likeness to the rows of all old classes."""
        new, old = (F.normalize(each.classifier.weight[:num_old]) for each in (self.network, self.teacher))
        temperature = self.args.class_token_temperature
        return class_token_distillation(new @ new.T / temperature, old @ old.T / temperature)

    def cache_teacher(self, task: Task) -> None:
        super().cache_teacher(task)
        if self.args.attn_score_distil:
            self.teacher_attention = TeacherAttention(self.teacher)
            self.teacher_attention.cache(self.data, self.exemplars(), self.batches)

    def end_task(self, task: Task) -> None:
        self.teacher_attention = None  # the next step's clips need the memory
        super().end_task(task)


# Dual audio-visual similarity constraint.


def similarity_log_probabilities(audio: torch.Tensor, visual: torch.Tensor, temperature: float) -> torch.Tensor:
    """``log p_ij`` (B, B): how much audio i prefers visual j, by cosine similarity over ``temperature``."""
    similarity = F.normalize(audio, dim=1) @ F.normalize(visual, dim=1).T
    return F.log_softmax(similarity / temperature, dim=1)


def instance_contrastive(audio: torch.Tensor, visual: torch.Tensor, temperature: float) -> torch.Tensor:
    """I-AVSC: each clip's audio should prefer its own visual feature. Features are (B, D)."""
    return -similarity_log_probabilities(audio, visual, temperature).diagonal().mean()


def class_contrastive(
    audio: torch.Tensor, visual: torch.Tensor, label: torch.Tensor, temperature: float, per_positive: bool
) -> torch.Tensor:
    """C-AVSC: each clip's audio should prefer the visual features of its class. Features are (B, D), ``label`` (B,).

    ``per_positive`` divides each row by its number of positives (the paper's eq. 7); otherwise by the batch size, as
    the released code does, which makes the term smaller by about the number of classes in the batch.
    """
    log_p = similarity_log_probabilities(audio, visual, temperature)
    positive = (label[:, None] == label).to(log_p.dtype)
    count = positive.sum(1) if per_positive else len(label)
    return -((log_p * positive).sum(1) / count).mean()


# Visual attention distillation.


def attention_distillation(scores: torch.Tensor, teacher_scores: torch.Tensor, dim: int) -> torch.Tensor:
    """VAD: ``KL(softmax(teacher) || softmax(student))`` over ``dim``, summed over all else, mean over clips (dim 0).

    The scores are those before the softmax; ``dim`` holds positions (spatial) or frames (temporal). This is the
    definition: training adds up the same distances piece by piece (model.fast_attention, ``BatchAttention``).
    """
    log_student = torch.log_softmax(scores, dim)
    log_teacher = torch.log_softmax(teacher_scores, dim)
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


class TeacherAttention:
    """The attention maps of the network ``teacher``: cached where memory allows, else computed as they are needed.

    Maps are a dict with a row per clip, in the form that suits the device (model.fast_attention, ``frozen_attention``).
    """

    def __init__(self, teacher: AudioVisualNet):
        self.teacher, self.cached = teacher, None

    @torch.no_grad()
    def cache(
        self, data: IncrementalData, exemplars: np.ndarray, batches: Callable[[np.ndarray], Iterator[Batch]]
    ) -> None:
        """Cache the maps of ``exemplars`` (indices) if ``data`` has the memory.

        ``batches(clips)`` brings clips in inference batches.
        """
        clips = data.local(exemplars)
        if not len(clips):
            return
        parts = self._parts(batches(clips))
        first = next(parts)
        bytes_per_clip = sum(values[0].nbytes for values in first.values())
        assert data.tokens is not None  # the method looks at single tokens
        if data.tokens.has_room_for(len(clips) * bytes_per_clip):
            # Filled part by part: a list of parts and all of them in one would be twice the memory.
            maps = {name: values.new_empty(len(clips), *values.shape[1:]) for name, values in first.items()}
            start = 0
            for part in itertools.chain([first], parts):
                stop = start + len(part["temporal"])
                for name, values in part.items():
                    maps[name][start:stop] = values
                start = stop
            self.cached = TeacherCache(clips, maps, data.device)

    def of(self, batch: Batch) -> "BatchAttention":
        """The maps of the replayed clips of ``batch``."""
        return BatchAttention(batch.replayed, lambda rows, tokens: self._maps(batch, rows, tokens))

    @torch.no_grad()
    def _maps(self, batch, rows, tokens):
        if self.cached is not None:
            return self.cached.rows(batch.index[rows])
        return self.teacher.frozen_attention(batch.audio[rows], tokens)

    def _parts(self, batches):
        for batch in batches:
            for piece in batch.visual.pieces(batch.audio.device.type):
                audio = batch.audio[batch.visual.batch_rows(piece)]
                yield self.teacher.frozen_attention(audio, batch.visual.take(piece))


class BatchAttention:
    """The teacher's attention in one batch, which the network compares its own with as it computes it.

    ``replayed`` are the rows of the batch that are distilled; ``maps(rows, tokens)`` gives their maps. The forward pass
    takes the spatial maps, on a CPU piece by piece (model.fast_attention); the temporal ones are collected on the way.
    """

    def __init__(self, replayed: slice, maps: Callable[[np.ndarray, torch.Tensor], dict[str, torch.Tensor]]):
        self.replayed, self.maps, self.temporal = replayed, maps, []

    @property
    def count(self) -> int:
        """How many clips are distilled."""
        return self.replayed.stop - self.replayed.start

    def __call__(self, rows: np.ndarray, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = self.maps(rows, tokens)
        self.temporal.append(maps["temporal"])
        return maps

    def temporal_distance(self, scores: torch.Tensor) -> torch.Tensor:
        """KL from the teacher's temporal maps to softmax of ``scores`` (n, F, D), summed over clips and channels."""
        if not self.temporal:
            return scores.sum()  # of no clip: 0
        return F.kl_div(torch.log_softmax(scores, 1), torch.cat(self.temporal), reduction="sum")
