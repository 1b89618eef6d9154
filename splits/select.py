"""What must hold before training: classes, clips and features that fit together."""

import numpy as np

from features.sources import Features
from splits.formats import SPLITS, Splits
from utils.errors import InputError, say


def choose_classes(
    splits: Splits, num_classes: int | None, class_order_seed: int | None
) -> tuple[list[str], dict[str, dict[str, int]]]:
    """Names and clips of the first ``num_classes`` classes (None: all), in the order that ``class_order_seed`` draws.

    None keeps the order of the splits. The class order is applied here and nowhere else."""
    available = len(splits.classes)
    if not available:
        raise InputError(f"{splits.source}: no clip in split train; add some")
    count = available if num_classes is None else num_classes
    if not 1 <= count <= available:
        raise InputError(f"--num_classes {count}: {splits.source} has {available} classes")
    order = np.arange(count)
    if class_order_seed is not None:
        order = np.random.default_rng(class_order_seed).permutation(count)
    new_label = {int(old): new for new, old in enumerate(order)}
    clips = {
        split: {video: new_label[label] for video, label in part.items() if label in new_label}
        for split, part in splits.clips.items()
    }
    return [splits.classes[label] for label in order], clips


def drop_missing(feature: Features, clips: dict, allow_missing: bool) -> dict:
    """``clips`` without those that ``feature`` lacks; InputError for those unless ``allow_missing``."""
    missing = [video for split in SPLITS for video in clips[split] if video not in feature]
    if not missing:
        return clips
    some = f"{feature.path}: no feature for {len(missing)} clips of the splits: {', '.join(missing[:5])}"
    if not allow_missing:
        raise InputError(f"{some}; extract them, or pass --allow_missing to leave them out of every split")
    say(f"{some}; left out of every split (--allow_missing)")
    gone = set(missing)
    return {split: {v: label for v, label in part.items() if v not in gone} for split, part in clips.items()}


def check_classes(source: str, classes: list[str], clips: dict):
    """InputError for a split without clips, or a class without clips in one of them."""
    present = {split: set(part.values()) for split, part in clips.items()}
    for split in SPLITS:
        if not present[split]:
            raise InputError(f"{source}: no clip in split {split}; add some")
    for label, name in enumerate(classes):
        lacking = [split for split in SPLITS if label not in present[split]]
        if lacking:
            raise InputError(
                f"{source}: class {name!r} has no {' and no '.join(lacking)} clip; add some, or remove the class"
            )
