"""Draw validation and test clips out of a pool, class by class, with a seed of its own for each class."""

import random
import re
from collections import Counter

_CLIP_OF_VIDEO = re.compile(r"(?P<video>.{11})_\d+(_\d+)?")


def source_video(clip):
    """The video that a clip was cut from: the YouTube id of ``<11 characters>_<start>[_<end>]``, else the clip's id."""
    match = _CLIP_OF_VIDEO.fullmatch(clip)
    return match["video"] if match else clip


def draw(pool, quota, seed, source=None):
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
            side.update(dict.fromkeys(that_fit(videos, content, room, label), split))
    drawn = {"train": [], "val": [], "test": []}
    for clip in pool:
        drawn[side.get(source(clip), "train")].append(clip)
    return drawn


def that_fit(videos, content, room, label):
    """Yield the first ``videos`` that fit into the ``room`` left of every class they hold, until ``label`` is full."""
    for video in videos:
        if room[label] <= 0:
            return
        if all(count <= room[other] for other, count in content[video].items()):
            room.update({other: room[other] - count for other, count in content[video].items()})
            yield video


def shares(val, test):
    """A quota for ``draw``: these shares of each class, one clip at least where the share is not 0 and two remain."""

    def quota(size):
        counts = [max(round(part * size), int(part > 0)) for part in (val, test)]
        return counts if sum(counts) < size else [0, 0]

    return quota
