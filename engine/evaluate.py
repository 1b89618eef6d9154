"""One evaluation for all methods: the class with the highest score among those seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from dataloader import Batch
from engine.learner import Learner
from engine.tasks import Task
from utils import metrics
from utils.seeding import plain_pass


def evaluate(learner: Learner, task: Task, tasks: list[Task]) -> dict:
    """Test on all classes seen: what the step reached, and what it keeps for later ones, by name.

    ``scores``: ids of the test clips, their labels, and their scores (clips, classes seen), float64; ``features``: of
    the same, what the network makes of them, by name (clips, D), or nothing if they are not to be saved.
    """
    scores, features = [], []

    def keep(batch, of_batch):
        scores.append(of_batch.double().cpu())
        if learner.args.save_features:
            features.append({name: values.cpu() for name, values in learner.features(batch).items()})

    clips, label, prediction = predict(learner, "test", task.seen, keep)
    ids = [learner.data.ids[clip] for clip in clips]
    by_name = {name: torch.cat([each[name] for each in features]).float().numpy() for name in (features or [{}])[0]}
    return {
        "scores": (ids, label, torch.cat(scores).numpy()),
        "features": (ids, label, by_name),
        "step": task.index,
        "classes_seen": task.stop,
        "accuracy": float((label == prediction).mean()),
        "accuracy_by_task": accuracy_by_task(label, prediction, tasks[: task.index + 1]),
        "confusion": metrics.confusion(label, prediction, task.stop),
        "kept_bytes": memory_bytes(learner, task),
    }


@torch.no_grad()
def predict(
    learner: Learner, split: str, classes: slice, keep: Callable[[Batch, torch.Tensor], None] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predict the clips of ``split`` in the slice ``classes``. Returns (clip indices, labels, predictions).

    ``keep`` is called with each batch and its scores.
    """
    clips = learner.data.clips(split, classes)
    plan = plain_pass(clips, learner.args.infer_batch_size)
    predictions = []
    for batch in learner.data.batches(plan):
        of_batch = learner.scores(batch)
        predictions.append(of_batch.argmax(1))
        if keep is not None:
            keep(batch, of_batch)
    return clips, learner.data.label[clips], torch.cat(predictions).cpu().numpy()


def accuracy(learner: Learner, split: str, classes: slice) -> float:
    """Top-1 over the pooled clips of ``split`` in ``classes``, a fraction."""
    _, label, prediction = predict(learner, split, classes)
    return float(np.mean(label == prediction))


def accuracy_by_task(label: np.ndarray, prediction: np.ndarray, tasks: list[Task]) -> list[float]:
    """Top-1 on the clips of each of ``tasks``, as fractions."""
    correct = label == prediction
    return [float(np.mean(correct[(label >= task.start) & (label < task.stop)])) for task in tasks]


def memory_bytes(learner: Learner, task: Task) -> int:
    """What a learner takes along into later steps: its tensors, and the features of the clips it may see again."""
    tensors = [learner.state(), learner.resume_state()]
    return _tensor_bytes(tensors) + len(learner.replayable_clips(task)) * learner.data.clip_bytes


def summarise(rows: list[dict], data: Any) -> dict:
    """All figures of a run from its steps' ``rows``, as fractions, bytes or seconds."""
    accuracy = [row["accuracy"] for row in rows]
    matrix = [row["accuracy_by_task"] for row in rows]
    return {
        "accuracy_per_step": accuracy,
        "accuracy_matrix": matrix,
        "mean_accuracy": metrics.mean_accuracy(accuracy),
        "last_accuracy": accuracy[-1],
        "forgetting_per_step": metrics.forgetting_per_step(matrix),
        "average_forgetting": metrics.average_forgetting(matrix),
        "backward_transfer": metrics.backward_transfer(matrix),
        "best_epoch_per_step": [row["best_epoch"] for row in rows],
        "seconds_per_step": [row["seconds"] for row in rows],
        "kept_bytes_per_step": [row["kept_bytes"] for row in rows],
        "class_names": list(data.classes),
        "test_clips_sharing_videos": data.shared_with_training(),
        "confusion": [row["confusion"] for row in rows],
    }


def _tensor_bytes(content):
    """Bytes of all tensors in ``content``, nested dicts and lists."""
    if isinstance(content, torch.Tensor):
        return content.nbytes
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, (list, tuple)) else ()
    return sum(map(_tensor_bytes, parts))
