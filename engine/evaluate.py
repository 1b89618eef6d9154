"""One evaluation for all methods: the class with the highest score among those seen."""

import numpy as np
import torch

from utils.random_order import start_pass


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
