"""Draw validation and test clips out of a pool, class by class, with a seed of its own for each class."""

import random
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

from splits.formats import SPLITS, Splits

_CLIP_OF_VIDEO = re.compile(r"(?P<video>.{11})_\d+(_\d+)?")


def source_video(clip: str) -> str:
    """The video that a clip was cut from: the YouTube id of ``<11 characters>_<start>[_<end>]``, else the clip's id."""
    match = _CLIP_OF_VIDEO.fullmatch(clip)
    return match["video"] if match else clip


def draw(
    pool: Mapping[str, Hashable],
    quota: Callable[[int], Sequence[int]],
    seed: int,
    source: Callable[[str], str | None] | None = None,
) -> dict[str, list[str]]:
    """Divide ``pool`` {clip: class} into {"train": [...], "val": [...], "test": [...]}, clips in the pool's order.

    ``quota(n)`` gives the numbers of val and test clips for a class of n clips; the rest is for training. ``source``
    gives the video of a clip: then all clips of a video, in whatever class, go to the same side, and a class may get
    fewer val or test clips than its quota where its videos do not add up to it. Otherwise quotas are met exactly.
    """
    source = source or (lambda clip: clip)
    groups, by_class = {}, {}
    for clip, label in pool.items():
        groups.setdefault(source(clip), []).append(clip)
        by_class.setdefault(label, {})[source(clip)] = None
    sizes = Counter(pool.values())
    side = {}
    for place, split in enumerate(("val", "test")):
        room = {label: quota(size)[place] for label, size in sizes.items()}
        for label in by_class:
            videos = [video for video in by_class[label] if video not in side]
            random.Random(f"{seed}/{split}/{label}").shuffle(videos)
            content = {video: Counter(pool[clip] for clip in groups[video]) for video in videos}
            side.update(dict.fromkeys(take_until_full(videos, content, room, label), split))
    drawn = {"train": [], "val": [], "test": []}
    for clip in pool:
        drawn[side.get(source(clip), "train")].append(clip)
    return drawn


def take_until_full(videos: list[str], content: dict[str, Counter], room: dict, label: Hashable) -> Iterator[str]:
    """Yield the first ``videos`` that fit into the ``room`` left of every class they hold, until ``label`` is full."""
    for video in videos:
        if room[label] <= 0:
            return
        if all(count <= room[other] for other, count in content[video].items()):
            room.update({other: room[other] - count for other, count in content[video].items()})
            yield video


def by_share(val: float, test: float) -> Callable[[int], Sequence[int]]:
    """A quota for ``draw``: these shares of each class, one clip at least where the share is not 0 and two remain."""

    def quota(size):
        counts = [max(round(part * size), int(part > 0)) for part in (val, test)]
        return counts if sum(counts) < size else [0, 0]

    return quota


def separate_by_video(splits: Splits, seed: int = 0, source: Callable[[str], str] = source_video) -> Splits:
    """Splits in which all clips of a video are on one side, and each class has as many on each side as it can.

    A video with clips on two sides goes to training; validation and test then get from training, up to the numbers
    they had of each class, videos drawn with ``seed``, whole ones only. No clip is dropped.
    """
    pool = {clip: (label, split) for split in SPLITS for clip, label in splits.clips[split].items()}
    groups = {}
    for clip in pool:
        groups.setdefault(source(clip), []).append(clip)
    sides = {video: {pool[clip][1] for clip in clips} for video, clips in groups.items()}
    side = {video: next(iter(each)) if len(each) == 1 else "train" for video, each in sides.items()}
    content = {video: Counter(pool[clip][0] for clip in clips) for video, clips in groups.items()}
    for split in ("test", "val"):
        room = Counter(splits.clips[split].values())
        for video in (video for video, where in side.items() if where == split):
            room.subtract(content[video])
        room = dict(room)  # a Counter's update would add
        for label in range(len(splits.classes)):
            videos = [video for video, where in side.items() if where == "train" and content[video][label]]
            random.Random(f"{seed}/{split}/{label}").shuffle(videos)
            side.update(dict.fromkeys(take_until_full(videos, content, room, label), split))
    clips = {split: {} for split in SPLITS}
    for clip, (label, _) in pool.items():
        clips[side[source(clip)]][clip] = label
    return Splits(splits.classes, clips, splits.source)


def changes(before: Splits, after: Splits) -> str:
    """A line on how many clips went from where to where."""
    side = {clip: split for split in SPLITS for clip in before.clips[split]}
    moves = Counter((side[clip], split) for split in SPLITS for clip in after.clips[split] if side[clip] != split)
    counts = [f"{count} from {old} to {new}" for (old, new), count in sorted(moves.items())]
    return f"moved {sum(moves.values())} clips so that no video is on two sides: {', '.join(counts) or 'none'}"


def describe(splits: Splits, source: Callable[[str], str] = source_video) -> str:
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
