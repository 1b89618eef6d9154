"""Splits in which no source video has clips on two sides, as near as may be to splits in which some have."""

import random
from collections import Counter

from utils.split_drawing import source_video, that_fit
from utils.splits import SPLITS, Splits


def separated(splits, seed=0, source=source_video):
    """Splits in which all clips of a video are on one side, and each class has as many on each side as it can.

    A video with clips on two sides goes to training; validation and test then get from training, up to the numbers
    they had of each class, videos drawn with ``seed``, whole ones only. No clip is dropped.
    """
    pool = {clip: (label, split) for split in SPLITS for clip, label in splits.clips[split].items()}
    groups = {}
    for clip in pool:
        groups.setdefault(source(clip), []).append(clip)
    sides = {video: {pool[clip][1] for clip in clips} for video, clips in groups.items()}
    side = {video: found.copy().pop() if len(found) == 1 else "train" for video, found in sides.items()}
    content = {video: Counter(pool[clip][0] for clip in clips) for video, clips in groups.items()}
    for split in ("test", "val"):
        room = Counter(splits.clips[split].values())
        for video in (video for video, where in side.items() if where == split):
            room.subtract(content[video])
        room = dict(room)  # a Counter's update would add
        for label in range(len(splits.classes)):
            videos = [video for video, where in side.items() if where == "train" and content[video][label]]
            random.Random(f"{seed}/{split}/{label}").shuffle(videos)
            side.update(dict.fromkeys(that_fit(videos, content, room, label), split))
    clips = {split: {} for split in SPLITS}
    for clip, (label, _) in pool.items():
        clips[side[source(clip)]][clip] = label
    return Splits(splits.classes, clips, splits.source)


def changes(before, after):
    """A line on how many clips went from where to where."""
    side = {clip: split for split in SPLITS for clip in before.clips[split]}
    moves = Counter((side[clip], split) for split in SPLITS for clip in after.clips[split] if side[clip] != split)
    told = [f"{count} from {old} to {new}" for (old, new), count in sorted(moves.items())]
    return f"moved {sum(moves.values())} clips so that no video is on two sides: {', '.join(told) or 'none'}"
