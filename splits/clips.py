"""A user's video files: which id each has, and which ids to work on."""

import os
import re
from dataclasses import dataclass, field

from splits.formats import SPLITS, read_splits
from utils.datasets import find_dataset
from utils.errors import InputError

_START_AND_END = re.compile(r"(?P<video>.{11})_(?P<start>\d+)_(?P<end>\d+)")
_SUFFIXES = """
.3g2 .3gp .asf .avi .divx .f4v .flv .gif .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogg .ogm .ogv .rm .rmvb
.ts .vob .webm .wmv
"""
VIDEO_SUFFIXES = frozenset(_SUFFIXES.split())


@dataclass
class Videos:
    """``paths``: id -> files (more than one: the id is ambiguous); ``labels``: id -> name of its folder, '' at the top.

    ``aliases``: ids that files named in the ways of Kinetics and VGGSound may also stand for, likewise. ``ignored``
    counts files whose suffix is of no video.
    """

    folder: str
    paths: dict = field(default_factory=dict)
    aliases: dict = field(default_factory=dict)
    labels: dict = field(default_factory=dict)
    ignored: int = 0

    def files_of(self, video):
        """The files of an id: those of that name, else those that stand for it; normally one."""
        return self.paths.get(video) or self.aliases.get(video, [])


def find_videos(folder):
    """The video files in ``folder`` and in its subfolders, one level down (a folder per class), hidden ones left out.

    The id of a clip is its file name without the suffix; a name that stands in several folders is preceded by the
    folder's: ``dog_1`` and ``cat_1``. InputError if there is no such folder or no video in it.
    """
    found = Videos(folder)
    files = sorted(_video_files(folder, found))
    stems = {}
    for label, stem, _ in files:
        stems.setdefault(stem, set()).add(label)
    for label, stem, path in files:
        video = stem if len(stems[stem]) == 1 or not label else f"{label}_{stem}"
        found.paths.setdefault(video, []).append(path)
        found.labels[video] = label
        for alias in _other_ids(stem):
            found.aliases.setdefault(alias, []).append(path)
    if not found.paths:
        raise InputError(f"{folder}: no video files in it or in its subfolders ({found.ignored} other files)")
    return found


def _video_files(folder, found):
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            inner = [(entry.name, item) for item in os.scandir(entry.path) if item.is_file()]
        else:
            inner = [("", entry)]
        for label, item in inner:
            stem, suffix = os.path.splitext(item.name)
            if suffix.lower() in VIDEO_SUFFIXES and not stem.startswith("."):
                yield label, stem, os.path.abspath(item.path)
            else:
                found.ignored += 1


def _other_ids(stem):
    """What ``<YouTube id>_<start>_<end>`` may be called in splits: the YouTube id, or that and the start in seconds."""
    match = _START_AND_END.fullmatch(stem)
    if not match:
        return []
    start, end = int(match["start"]), int(match["end"])
    # No clip lasts 1000 seconds: such numbers are milliseconds.
    start = start // 1000 if end - start >= 1000 else start
    return [match["video"], f"{match['video']}_{start:06d}"]


def read_ids(path):
    """The ids in a text file, one a line; InputError if there are none or one cannot name a file."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            ids = list(dict.fromkeys(line.strip() for line in file if line.strip()))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a readable UTF-8 text file ({error})") from None
    if not ids:
        raise InputError(f"{path}: no ids in it; give one video id a line")
    return checked_ids(ids, path)


def checked_ids(ids, source):
    """``ids`` as a list; InputError naming ``source`` for one that cannot be used as a name."""
    ids = list(ids)
    for video in ids:
        problem = id_problem(video)
        if problem:
            raise InputError(f"{source}: {video[:60]!r} cannot be a video id: {problem}")
    return ids


def id_problem(video):
    """Why ``video`` cannot name a file, an HDF5 data set and a row of a table; None if it can."""
    if video in ("", ".", ".."):
        return "it names a folder"
    if "/" in video or "\\" in video:
        return "it holds a path separator"
    if video != video.strip() or any(ord(sign) < 32 or 0xD800 <= ord(sign) < 0xE000 for sign in video):
        return "it begins or ends with a space, or holds a control sign or a byte that is not UTF-8"
    # Room for ".partial-" and a suffix within the 255 bytes of common file systems.
    return "it is longer than 230 bytes" if len(video.encode()) > 230 else None


def wanted_ids(dataset, data_root, id_file, all_clips):
    """The ids that the user asks for, or None for every clip there is.

    Those of the data set's splits if it has any, unless ``all_clips``; of these, those in ``id_file`` if given.
    """
    folder = os.path.join(data_root, find_dataset(dataset).folder)
    listed = read_ids(id_file) if id_file else None
    if all_clips or not has_splits(folder):
        return listed
    splits = read_splits(folder)
    ids = checked_ids((video for split in SPLITS for video in splits.clips[split]), splits.source)
    if listed is None:
        return ids
    known = set(ids)
    unknown = [video for video in listed if video not in known]
    if unknown:
        raise InputError(
            f"{id_file}: {unknown[0]!r} ({len(unknown)} in all) is not in {splits.source}; remove it, or pass --all"
        )
    return listed


def has_splits(folder):
    return any(os.path.exists(os.path.join(folder, name)) for name in ("splits.csv", "all_classId_vid_dict.npy"))
