"""One evaluation for all methods: the class with the highest score among those seen."""

import numpy as np
import torch

from utils import metrics
from utils.seeding import start_pass


@torch.no_grad()
def predict(learner, split, classes):
    """Predict the clips of ``split`` in the slice ``classes``. Returns (clip indices, labels, predictions)."""
    start_pass()
    clips = learner.data.clips(split, classes)
    size = learner.args.infer_batch_size
    plan = [clips[start : start + size] for start in range(0, len(clips), size)]
    predictions = [learner.scores(batch).argmax(1) for batch in learner.data.batches(plan)]
    return clips, learner.data.label[clips], torch.cat(predictions).cpu().numpy()


def accuracy(learner, split, classes):
    """Top-1 over the pooled clips of ``split`` in ``classes``, a fraction."""
    _, label, prediction = predict(learner, split, classes)
    return float(np.mean(label == prediction))


def accuracy_by_task(label, prediction, tasks):
    """Top-1 on the clips of each of ``tasks``, as a list of fractions."""
    correct = label == prediction
    return [float(np.mean(correct[(label >= task.start) & (label < task.stop)])) for task in tasks]


def evaluate(learner, task, tasks, step):
    """Test on all classes seen. Returns the step's row of results."""
    _, label, prediction = predict(learner, "test", task.seen)
    return {
        "step": task.index,
        "classes_seen": task.stop,
        "accuracy": float((label == prediction).mean()),
        "accuracy_by_task": accuracy_by_task(label, prediction, tasks[: task.index + 1]),
        "best_epoch": step.best_epoch,
        "confusion": metrics.confusion(label, prediction, task.stop),
    }


def summarise(history, data):
    """All figures of a run, as fractions or seconds."""
    rows, matrix = history.rows, history.matrix
    accuracy = [row["accuracy"] for row in rows]
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
