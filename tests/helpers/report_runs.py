"""Folders of finished runs with the files that a run writes, made of random predictions: much quicker than training."""

import contextlib
import csv
import io
import json

import numpy as np

import report
from engine.scores import write_scores
from utils import metrics

CLASSES, PER_STEP, CLIPS, EPOCHS = 6, 2, 8, 3
TERMS = ("train_loss", "val_res", "lr", "cross_entropy", "distillation")


def make(folder, seed=1, method="avcil", confusion=True, classes=CLASSES, names=None, kept=False, **options):
    """Write a run to ``folder`` and return its results; ``kept``: with scores. Further options go to its arguments."""
    rng = np.random.default_rng([seed, sum(str(folder).encode())])
    rows, counts = [], []
    for stop in range(PER_STEP, classes + 1, PER_STEP):
        label = np.repeat(np.arange(stop), CLIPS)
        prediction = np.where(rng.random(len(label)) < 0.6, label, rng.integers(0, stop, len(label)))
        hit = (label == prediction).reshape(-1, PER_STEP * CLIPS)
        rows.append({"step": len(rows), "accuracy": float(hit.mean()), "accuracy_by_task": hit.mean(1).tolist()})
        counts.append(metrics.confusion(label, prediction, stop))
        if kept:
            _write_scores(folder, len(counts) - 1, label, prediction, stop)
    matrix = [row["accuracy_by_task"] for row in rows]
    accuracy = [row["accuracy"] for row in rows]
    results = {
        "accuracy_per_step": accuracy,
        "accuracy_matrix": matrix,
        "mean_accuracy": metrics.mean_accuracy(accuracy),
        "last_accuracy": accuracy[-1],
        "average_forgetting": metrics.average_forgetting(matrix),
        "arguments": arguments(seed, method, classes, options),
    }
    if confusion:
        results |= {"class_names": names or [f"class {label}" for label in range(classes)], "confusion": counts}
    folder.mkdir(parents=True, exist_ok=kept)
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _write_epochs(folder / "epochs.csv", rng, len(rows))
    return results


def arguments(seed, method, classes, options):
    usual = {
        "method": method,
        "dataset": "tiny",
        "modality": "audio-visual",
        "classifier": "linear",
        "variant": "released",
        "seed": seed,
        "num_classes": classes,
        "classes_per_step": [PER_STEP],
        "memory_size": 18,
    }
    return usual | options


def several(root):
    """Runs of methods, modalities, an ablation and a sweep, seeds 1 to 3, under ``root``."""
    for seed in (1, 2, 3):
        for modality in ("audio", "audio-visual"):
            for method in ("lwf", "fine_tuning", "upper_bound"):
                make(root / f"{method}-{modality}-{seed}", seed, method, modality=modality)
        for terms in (True, False):
            make(root / f"avcil-{terms}-{seed}", seed, attn_score_distil=terms, task_distil=True)
        make(root / f"avcil-no-distil-{seed}", seed, attn_score_distil=True, task_distil=False)
        for size in (6, 18, 60):
            make(root / f"icarl-{size}-{seed}", seed, "icarl", classifier="NME", memory_size=size)
    return root


def printed(*arguments):
    """What report.py prints to stdout and to stderr."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        report.main([str(argument) for argument in arguments])
    return out.getvalue(), errors.getvalue()


def _write_scores(folder, step, label, prediction, classes):
    rng = np.random.default_rng(step)
    scores = rng.standard_normal((len(label), classes)).astype(np.float32)
    scores[np.arange(len(label)), prediction] = scores.max(1) + 0.1
    path = folder / "scores" / f"step_{step}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_scores(str(path), [f"clip {number}" for number in range(len(label))], label, scores)


def _write_epochs(path, rng, steps):
    with open(path, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["step", "epoch", "name", "value"])
        for step in range(steps):
            for epoch in range(EPOCHS):
                for term in TERMS[: 5 if step else 4]:
                    rows.writerow([step, epoch, term, repr(float(rng.random()))])
