"""What to know about splits before training on them."""

from collections import Counter

from utils.split_drawing import source_video
from utils.splits import SPLITS


def describe(splits, source=source_video):
    """Counts per split and class, and how many clips share their source video with clips of another split."""
    lines = [f"{len(splits.classes)} classes"]
    for split in SPLITS:
        counts = Counter(splits.clips[split].values())
        per_class = [counts[label] for label in range(len(splits.classes))]
        low, high = min(per_class, default=0), max(per_class, default=0)
        lines.append(f"{split}: {len(splits.clips[split])} clips, {low} to {high} a class")
    videos = {split: {source(clip) for clip in splits.clips[split]} for split in SPLITS}
    for split in ("val", "test"):
        shared = sum(source(clip) in videos["train"] for clip in splits.clips[split])
        part = f"{100 * shared / max(len(splits.clips[split]), 1):.1f} %"
        lines.append(f"{split} clips cut from a video that train has clips of too: {shared} ({part})")
    shared = sum(source(clip) in videos["val"] for clip in splits.clips["test"])
    lines.append(f"test clips cut from a video that val has clips of too: {shared}")
    return "\n".join(lines)
