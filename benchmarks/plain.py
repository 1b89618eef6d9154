"""Class-incremental training as research code usually writes it: what benchmarks/training.py compares with.

A dataset object and a copy of the features per split, a DataLoader that collates clip by clip, attention written out,
and the teacher asked about every batch of every epoch. SS-IL for one modality, AV-CIL for both, with the losses and
settings of the project, so that only the way of computing differs.
"""

import copy
import itertools
import os
import time
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from methods.avcil import attention_distillation, class_contrastive, instance_contrastive
from utils.losses import separated_cross_entropy, task_wise_distillation


class Clips(Dataset):
    """Clips of some classes; the features are loaded for each such object, as scripts do."""

    def __init__(self, folder, split, modality):
        self.ids = np.load(os.path.join(folder, "all_classId_vid_dict.npy"), allow_pickle=True).item()[split]
        self.features = {
            modality: np.load(
                os.path.join(folder, f"{modality}_pretrained_feature", f"{modality}_pretrained_feature_dict.npy"),
                allow_pickle=True,
            ).item()
            for modality in ("audio", "visual")
            if modality in modality
        }
        self.chosen = []

    def choose(self, classes):
        self.chosen = [(video, label) for label in classes for video in self.ids[label]]

    def __len__(self):
        return len(self.chosen)

    def __getitem__(self, number):
        video, label = self.chosen[number]
        audio = torch.tensor(self.features["audio"][video]) if "audio" in self.features else torch.zeros(1)
        visual = torch.tensor(self.features["visual"][video]) if "visual" in self.features else torch.zeros(1)
        return audio, visual, label


class Network(nn.Module):
    def __init__(self, modality, classes, frames=8, width=768):
        super().__init__()
        self.modality, self.frames = modality, frames
        self.audio_proj, self.visual_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.attn_audio_proj, self.attn_visual_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, audio, visual):
        if self.modality == "audio":
            return {"logits": self.classifier(torch.relu(self.audio_proj(audio)))}
        if self.modality == "visual":
            return {"logits": self.classifier(torch.relu(self.visual_proj(visual.mean(1))))}
        visual = visual.unflatten(1, (self.frames, -1))
        audio_key = torch.tanh(self.attn_audio_proj(audio))
        visual_key = torch.tanh(self.attn_visual_proj(visual))
        spatial_scores = visual_key * audio_key[:, None, None]
        spatial = torch.softmax(spatial_scores, dim=2)
        temporal_scores = (spatial * visual_key).sum(2) * audio_key[:, None]
        pooled = (torch.softmax(temporal_scores, dim=1) * (spatial * visual).sum(2)).sum(1)
        audio, visual = torch.relu(self.audio_proj(audio)), torch.relu(self.visual_proj(pooled))
        logits = self.classifier(audio + visual)
        return {
            "logits": logits,
            "audio": audio,
            "visual": visual,
            "spatial": spatial_scores,
            "temporal": temporal_scores,
        }


class Pair:
    """What the losses want to know of a batch: new clips first, then replayed ones."""

    def __init__(self, label, num_new):
        self.label, self.new, self.replayed = label, slice(0, num_new), slice(num_new, len(label))


def loader(clips, size, shuffle, workers):
    return DataLoader(clips, min(size, len(clips)), shuffle=shuffle, drop_last=shuffle, num_workers=workers)


def run(folder, case, device, picture=None):
    """Train and test; return the seconds of each step. ``picture(losses)`` is called after each epoch."""
    train, replay, val, test = (Clips(folder, split, case.modality) for split in ("train", "train", "val", "test"))
    workers = 8 if device.type == "cuda" else 0
    network, teacher, seconds = None, None, []
    for step in range(case.steps):
        started = time.perf_counter()
        start, stop = step * case.classes_per_step, (step + 1) * case.classes_per_step
        fresh = Network(case.modality, stop).to(device)
        if network is not None:
            teacher = copy.deepcopy(network).eval()
            copy_old(network, fresh, start)
        network = fresh
        train.choose(range(start, stop))
        val.choose(range(stop))
        test.choose(range(stop))
        if step:
            quota = case.memory // start
            replay.chosen = [(video, label) for label in range(start) for video in replay.ids[label][:quota]]
        optimiser = torch.optim.Adam(network.parameters(), 1e-3, weight_decay=1e-4)
        best, losses = 0.0, []
        for _ in range(case.epochs):
            new = loader(train, case.batch, True, workers)
            old = itertools.cycle(loader(replay, case.batch // 2, True, workers)) if step else None
            network.train()
            for audio, visual, label in new:
                num_new = len(label)
                if old is not None:
                    more = next(old)
                    audio, visual = torch.cat((audio, more[0])), torch.cat((visual, more[1]))
                    label = torch.cat((label, more[2]))
                audio, visual, label = audio.to(device), visual.to(device), label.to(device)
                loss = compute_loss(network, teacher, audio, visual, Pair(label, num_new), start, case)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.item())
            accuracy = evaluate(network, val, device, workers)
            if accuracy > best:
                best, kept = accuracy, copy.deepcopy(network.state_dict())
            if picture:
                picture(losses)
        evaluate(network, test, device, workers)
        seconds.append(time.perf_counter() - started)
        if best:
            network.load_state_dict(kept)
    return seconds


def copy_old(network, fresh, num_old):
    """Let the ``fresh`` network, with a wider classifier, begin where ``network`` ended."""
    state, grown = network.state_dict(), fresh.state_dict()
    for name in ("classifier.weight", "classifier.bias"):
        grown[name][:num_old] = state[name]
        state[name] = grown[name]
    fresh.load_state_dict(state)


def compute_loss(network, teacher, audio, visual, batch, start, case):
    out = network(audio, visual)
    if teacher is None:
        return nn.functional.cross_entropy(out["logits"], batch.label)
    with torch.no_grad():
        old = teacher(audio, visual)
    past = [slice(first, first + case.classes_per_step) for first in range(0, start, case.classes_per_step)]
    loss = separated_cross_entropy(out["logits"], batch, start)
    loss = loss + task_wise_distillation(out["logits"], old["logits"], past)
    if case.modality == "audio-visual":
        loss = loss + 0.5 * instance_contrastive(out["audio"], out["visual"], 0.05)
        loss = loss + class_contrastive(out["audio"], out["visual"], batch.label, 0.05, per_positive=False)
        rows = batch.replayed
        for name, dim in (("spatial", 2), ("temporal", 1)):
            loss = loss + 0.5 * attention_distillation(out[name][rows], old[name][rows], dim)
    return loss


def resident_update(clips, replayed, positions=196, classes=14, width=768, times=5):
    """Seconds of one update of AV-CIL on ``clips`` that are on the GPU already; with a teacher if some are replayed."""
    audio = torch.randn(clips, width, device="cuda")
    visual = torch.randn(clips, 8 * positions, width, device="cuda")
    label = torch.arange(clips, device="cuda") % (classes // 2)
    label[: clips - replayed] += classes // 2
    network, teacher = (Network("audio-visual", count).cuda() for count in (classes, classes // 2))
    optimiser = torch.optim.Adam(network.parameters(), 1e-3, weight_decay=1e-4)
    case = SimpleNamespace(modality="audio-visual", classes_per_step=classes // 2)
    for number in range(times + 1):
        if number == 1:  # the first warms up
            torch.cuda.synchronize()
            started = time.perf_counter()
        batch = Pair(label, clips - replayed)
        loss = compute_loss(network, teacher if replayed else None, audio, visual, batch, classes // 2, case)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / times


@torch.no_grad()
def evaluate(network, clips, device, workers):
    network.eval()
    correct = 0
    for audio, visual, label in loader(clips, 128, False, workers):
        correct += (network(audio.to(device), visual.to(device))["logits"].argmax(1).cpu() == label).sum().item()
    return correct / len(clips)
