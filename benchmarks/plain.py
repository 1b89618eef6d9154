"""Class-incremental training as research code usually writes it: what benchmarks/training.py compares with.

Every method with its own losses, exemplars and order of clips, but around them what one would write: a dataset object
with its own copy of the features per split, a DataLoader that collates clip by clip, attention written out and left to
autograd, the teacher asked about every batch of every epoch, a fresh torch.optim.Adam each step. Nothing is slower than
it need be: no pictures, no checkpoints, no worker processes on a CPU.
"""

import copy
import os
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from dataloader import Batch, IncrementalData
from engine.evaluate import accuracy
from engine.gradient import GradientLearner
from engine.learner import Learner
from engine.options import build_parser, parse, resolve
from engine.registry import find_method
from engine.tasks import Task, make_tasks
from features.tokens import FeatureSizes, Tokens
from methods.avcil import attention_distillation
from model.network import AudioVisualNet
from splits.formats import SPLITS, read_splits
from splits.select import choose_classes
from utils.datasets import MODALITIES
from utils.seeding import seed_everything

FRAMES, WORKERS_BESIDE_A_GPU = 8, 8


class Clips(Dataset):
    """All clips with their labels; the features are loaded for each such object, as scripts do."""

    def __init__(self, folder, modality, ids, label):
        self.ids, self.label, self.features = ids, label, {}
        for each in MODALITIES[modality]:
            path = os.path.join(folder, f"{each}_pretrained_feature", f"{each}_pretrained_feature_dict.npy")
            self.features[each] = np.load(path, allow_pickle=True).item()

    def __getitem__(self, number):
        return {each: torch.tensor(values[self.ids[number]]) for each, values in self.features.items()}, number


class PlainData(IncrementalData):
    """The data of a run on released files: a copy for each split and one for the exemplars."""

    def __init__(self, args, device):
        folder = os.path.join(args.data_root, args.dataset)
        super().__init__(*choose_classes(read_splits(folder), None, None), device)
        self.copies = [Clips(folder, args.modality, self.ids, self.label) for _ in (*SPLITS, "exemplars")]
        shapes = {each: next(iter(values.values())).shape for each, values in self.copies[0].features.items()}
        if "audio" in shapes:
            (self.audio_dim,) = shapes["audio"]
        if "visual" in shapes:
            self.visual_shape = (FRAMES, shapes["visual"][0] // FRAMES, shapes["visual"][1])

    def batches(self, plan):
        pairs = [entry if isinstance(entry, tuple) else (entry, 0) for entry in plan]
        new = self._loader(self.split[pairs[0][0][0]], [clips[: len(clips) - count] for clips, count in pairs])
        old = [None] * len(pairs)
        if any(count for _, count in pairs):
            old = self._loader(len(SPLITS), [clips[len(clips) - count :] for clips, count in pairs])
        for (features, clips), beside, (_, count) in zip(new, old, pairs, strict=True):
            if beside is not None:
                features = {each: torch.cat((values, beside[0][each])) for each, values in features.items()}
                clips = torch.cat((clips, beside[1]))
            on_device = {each: values.to(self.device) for each, values in features.items()}
            visual = on_device.get("visual")
            tokens = None if visual is None else Tokens.of(visual.unflatten(1, (FRAMES, -1)))
            label = self.labels[clips.to(self.device)]
            yield Batch(clips.numpy(), label, on_device.get("audio"), tokens, count)

    def _loader(self, which, batches):
        workers = WORKERS_BESIDE_A_GPU if self.device.type == "cuda" else 0
        return DataLoader(self.copies[which], batch_sampler=[clips.tolist() for clips in batches], num_workers=workers)


class PlainNetwork(AudioVisualNet):
    """The network, with attention as model.attention defines it, by autograd."""

    def attend(self, audio, tokens, old=None):
        self.attended = self.attention(audio, tokens.tensor())
        out = {"pooled": self.attended.pooled}
        if old is not None:
            for name, dim in (("spatial", 2), ("temporal", 1)):
                mine, theirs = (getattr(each, f"{name}_scores")[old.rows] for each in (self.attended, old.attended))
                out[f"{name}_distance"] = attention_distillation(mine, theirs, dim)
        return out


class PlainTraining(GradientLearner):
    """Of a GradientLearner: its network, teacher and epochs, written plainly."""

    network: Any
    data: Any
    teacher_attention = None

    def new_network(self, num_classes):
        self.sizes = [num_classes]
        data = self.data
        network = PlainNetwork(self.args.modality, num_classes, data.audio_dim, data.visual_dim, self.head)
        return network.to(self.device)

    @torch.no_grad()
    def cached_outputs(self, batch):
        return self.teacher_attention.outputs if self.teacher_attention else self.teacher_outputs(batch)

    def fit_task(self, task, log=None):
        args, best = self.args, -1.0
        if task.index and getattr(args, "attn_score_distil", False):
            self.teacher_attention = TeacherAttention(self)
        optimiser = torch.optim.Adam(self.trainable(), args.lr, weight_decay=args.weight_decay)
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, self.milestones(task), args.lr_decay)
        for _ in range(args.max_epochs):
            self.network.train()
            for batch in self.data.batches(self.epoch_plan(task)):
                loss = torch.stack(list(self.losses(batch, task).values())).sum()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                loss.item()
            schedule.step()
            self.prepare_scores(task)
            reached = accuracy(self, "val", task.seen)
            if reached > best:
                best, kept = reached, copy.deepcopy(self.snapshot())
        self.restore(kept)


class TeacherAttention:
    """What the teacher says of a batch, logits and attention in one pass."""

    def __init__(self, learner):
        self.learner = learner

    @torch.no_grad()
    def of(self, batch):
        teacher = self.learner.teacher
        self.outputs = self.learner.forward(teacher, batch)
        return SimpleNamespace(rows=batch.replayed, attended=teacher.attended)


def plain(method: type[Learner]) -> Any:
    """The learner class ``method``, trained plainly."""
    return type(f"Plain{method.__name__}", (PlainTraining, method), {})


def run(flags: list[str], device: torch.device) -> list[float]:
    """Train and test by the flags of train_incremental.py; the test accuracy after each step."""
    args, method = parse(flags)
    seed_everything(args.seed)
    args = resolve(args, len(choose_classes(read_splits(os.path.join(args.data_root, args.dataset)), None, None)[0]))
    data = PlainData(args, device)
    return fit(plain(method)(args, data, device), make_tasks(data.num_classes, args.classes_per_step))


def fit(learner, tasks: list[Task]) -> list[float]:
    """Learn ``tasks``; the test accuracy after each."""
    reached = []
    for task in tasks:
        learner.begin_task(task)
        learner.fit_task(task)
        learner.end_task(task)
        reached.append(accuracy(learner, "test", task.seen))
    return reached


def resident_update(clips, replayed, positions=196, classes=14, width=768, times=5):
    """Seconds of one update of AV-CIL on ``clips`` that are on the GPU already; with a teacher if some are replayed."""
    method, device = find_method("avcil"), torch.device("cuda")
    args = resolve(build_parser(method).parse_args(["--dataset", "AVE", "--modality", "audio-visual"]), classes)
    learner = plain(method)(args, FeatureSizes(width, (FRAMES, positions, width)), device)
    task = make_tasks(classes, [classes // 2])[bool(replayed)]
    learner.network, learner.teacher = (learner.new_network(count) for count in (task.stop, classes // 2))
    learner.teacher_attention = TeacherAttention(learner)
    audio = torch.randn(clips, width, device=device)
    visual = torch.randn(clips, FRAMES, positions, width, device=device)
    label = torch.arange(clips, device=device) % (classes // 2)
    label[: clips - replayed] += task.start
    batch = Batch(np.arange(clips), label, audio, Tokens.of(visual), replayed)
    optimiser = torch.optim.Adam(learner.trainable(), args.lr, weight_decay=args.weight_decay)
    for number in range(times + 1):
        if number == 1:  # the first warms up
            torch.cuda.synchronize()
            started = time.perf_counter()
        loss = torch.stack(list(learner.losses(batch, task).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / times
