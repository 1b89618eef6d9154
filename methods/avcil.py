"""AV-CIL: Audio-Visual Class-Incremental Learning (Pian, Mo, Guo, Tian; ICCV 2023).

Beyond separated cross-entropy and task-wise distillation, it keeps what ties the senses together: the similarity of a
clip's sound and sight, by instance and by class (I-AVSC, C-AVSC), and where the sound makes the network look (VAD).
"""

from argparse import BooleanOptionalAction

import torch
from torch.nn import functional as F

from engine.gradient import GradientLearner, Lessons
from utils.losses import (
    class_contrastive,
    class_token_distillation,
    instance_contrastive,
    separated_cross_entropy,
    task_wise_distillation,
)


class AVCIL(GradientLearner):
    modalities = ("audio-visual",)
    replay = "paired"
    has_teacher = True

    @classmethod
    def add_options(cls, group):
        def switch(name, what):
            group.add_argument(f"--{name}", action=BooleanOptionalAction, default=True, help=what)

        def number(name, default, what):
            group.add_argument(f"--{name}", type=float, default=default, help=what)

        switch("task_distil", "task-wise distillation of the logits")
        switch("instance_contrastive", "I-AVSC: similarity of a clip's sound to its own sight")
        switch("class_contrastive", "C-AVSC: similarity of a clip's sound to the sight of its class")
        switch("attn_score_distil", "VAD: distillation of the attention maps on exemplars")
        number("lam_KD", 1.0, "weight of the task-wise distillation")
        number("lam_I", None, "weight of I-AVSC (default: the data set's preset, else 0.5)")
        number("lam_C", 1.0, "weight of C-AVSC")
        number("lam", 0.5, "share of spatial against temporal attention distillation, 0 to 1")
        number("class_token_distillation", 0.0, "weight of the class-token distillation of classifier rows (CIGN)")
        number("class_token_temperature", 1.0, "temperature of the similarities of classifier rows")
        number("instance_contrastive_temperature", 0.05, "temperature of I-AVSC")
        number("class_contrastive_temperature", 0.05, "temperature of C-AVSC")

    def losses(self, batch, task):
        if task.index == 0:
            return super().losses(batch, task)
        old = self.old_attention.of(batch) if self.args.attn_score_distil else None
        out = self.network(batch.audio, batch.visual, old)
        terms = {"cross_entropy": separated_cross_entropy(out["logits"], batch, task.start)}
        return terms | self._similarity(out, batch) | self._distillation(out, batch, task)

    def take_lessons(self, task):
        super().take_lessons(task)
        if self.args.attn_score_distil:
            self.old_attention = OldAttentionMaps(self.teacher)
            self.old_attention.keep(self.data, self.exemplars(), self.batches)

    def end_task(self, task):
        self.old_attention = None  # the next step's clips need the memory
        super().end_task(task)

    def _similarity(self, out, batch):
        args, terms = self.args, {}
        senses = out["audio"], out["visual"]
        if args.instance_contrastive:
            terms["I-AVSC"] = args.lam_I * instance_contrastive(*senses, args.instance_contrastive_temperature)
        if args.class_contrastive:
            terms["C-AVSC"] = args.lam_C * class_contrastive(
                *senses, batch.label, args.class_contrastive_temperature, per_positive=args.variant == "corrected"
            )
        return terms

    def _distillation(self, out, batch, task):
        args, terms = self.args, {}
        if args.task_distil:
            old_logits = self.taught(batch)["logits"]
            terms["distillation"] = args.lam_KD * task_wise_distillation(out["logits"], old_logits, task.past)
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


class OldAttentionMaps:
    """The attention maps of the network ``teacher``: kept where memory allows, else made as they are needed."""

    def __init__(self, teacher):
        self.teacher, self.kept = teacher, None

    def keep(self, data, exemplars, batches):
        """Keep the maps of ``exemplars`` if ``data`` (dataloader.IncrementalData) has the memory.

        ``batches(clips)`` brings clips in inference batches.
        """
        mine = data.owned(exemplars)
        if len(mine) and data.tokens.has_room_for(len(mine) * self._bytes_per_clip(data.visual_shape)):
            self.kept = Lessons(mine, self._maps_of(mine, batches), data.device)

    def of(self, batch):
        """OldAttention of one batch."""
        return OldAttention(batch.replayed, lambda rows, tokens: self._maps(batch, rows, tokens))

    @torch.no_grad()
    def _maps(self, batch, rows, tokens):
        if self.kept is not None:
            kept = self.kept(batch.clip[rows])
            return kept["spatial"], kept["temporal"]
        return self._ask(batch.audio[rows], tokens)

    def _ask(self, audio, tokens):
        attended = self.teacher.attention(audio, tokens)
        return attended.spatial_scores.softmax(2), attended.temporal_scores.softmax(1)

    @torch.no_grad()
    def _maps_of(self, clips, batches):
        found = []
        for batch in batches(clips):
            for piece in batch.visual.pieces(batch.audio.device.type):
                found.append(self._ask(batch.audio[batch.visual.batch_rows(piece)], batch.visual.take(piece)))
        spatial, temporal = zip(*found, strict=True)
        return {"spatial": torch.cat(spatial), "temporal": torch.cat(temporal)}

    @staticmethod
    def _bytes_per_clip(shape):
        frames, positions, width = shape
        return 4 * frames * (positions + 1) * width


class OldAttention:
    """Old attention in one batch. ``maps(rows, tokens)`` gives spatial (n, F, S, D) and temporal (n, F, D) maps.

    ``replayed`` are the rows of the batch that are distilled. The forward pass asks for the spatial maps piece by piece
    (model.fast_attention); the temporal ones are collected on the way.
    """

    def __init__(self, replayed, maps):
        self.replayed, self.maps, self.temporal = replayed, maps, []

    @property
    def count(self):
        return self.replayed.stop - self.replayed.start

    def __call__(self, rows, tokens):
        spatial, temporal = self.maps(rows, tokens)
        self.temporal.append(temporal)
        return spatial

    def temporal_distance(self, scores):
        """KL from the old temporal maps to softmax of ``scores`` (n, F, D), summed over clips and channels."""
        if not self.temporal:
            return scores.sum()  # of no clip: 0
        return F.kl_div(torch.log_softmax(scores, 1), torch.cat(self.temporal), reduction="sum")
