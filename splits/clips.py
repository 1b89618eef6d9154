"""A user's video files: which id each has, and which ids to work on."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from splits.formats import SPLITS, name_problem, read_splits
from utils.datasets import find_dataset
from utils.errors import InputError
from utils.files import read_lines

_START_AND_END = re.compile(r"(?P<video>.{11})_(?P<start>\d+)_(?P<end>\d+)")
_SUFFIXES = """
.3g2 .3gp .asf .avi .divx .f4v .flv .gif .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogg .ogm .ogv .rm .rmvb
.ts .vob .webm .wmv
"""
VIDEO_SUFFIXES = frozenset(_SUFFIXES.split())
_BAD_NAME = "the file name cannot be an id, "


@dataclass
class Videos:
    """``paths``: id -> files (more than one: the id is ambiguous); ``labels``: id -> name of its folder, '' at the top.

    ``aliases``: ids that files named in the ways of Kinetics and VGGSound may also stand for, likewise. ``unusable``:
    path below the folder -> why this video file stands for no clip. ``ignored`` counts files whose suffix is of no
    video.
    """

    folder: str
    paths: dict[str, list[str]] = field(default_factory=dict)
    aliases: dict[str, list[str]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    ignored: int = 0

    def files_of(self, video: str) -> list[str]:
        """The files of an id: those of that name, else those that stand for it; normally one."""
        return self.paths.get(video) or self.aliases.get(video, [])

    def problem_of(self, video: str) -> str | None:
        """Why there is not exactly one file to read for an id, or None."""
        paths = self.files_of(video)
        if not paths:
            return f"no video file of this id in {self.folder}"
        if len(paths) > 1:
            return f"several files of one id, rename or remove all but one: {', '.join(map(os.path.basename, paths))}"
        return None


def find_videos(folder: str) -> Videos:
    """The video files in ``folder`` and in its subfolders, one level down (a folder per class), hidden ones left out.

    The id of a clip is its file name without the suffix; a name that stands in several folders is preceded by the
    folder's: ``dog_1`` and ``cat_1``. Video files that cannot be used are listed as such: further down, links to
    nothing, pipes, names that cannot be ids. InputError if there is no such folder or no video in it.
    """
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: no such folder; put the videos there, or name theirs by --videos FOLDER")
    videos = Videos(folder)
    files = sorted(_video_files(folder, videos))
    folders_of = {}
    for label, stem, _ in files:
        folders_of.setdefault(stem, set()).add(label)
    for label, stem, path in files:
        video = stem if len(folders_of[stem]) == 1 or not label else f"{label}_{stem}"
        problem = id_problem(video)
        if problem:
            videos.unusable[os.path.relpath(path, folder)] = _BAD_NAME + problem
            continue
        videos.paths.setdefault(video, []).append(path)
        videos.labels[video] = label
        for alias in _other_ids(stem):
            videos.aliases.setdefault(alias, []).append(path)
    if not videos.paths:
        name, problem = next(iter(videos.unusable.items()), ("", ""))
        unusable = f"; {name!r}: {problem}" if name else ""
        raise InputError(
            f"{folder}: no video files in it or in its subfolders ({videos.ignored} other files){unusable}"
        )
    return videos


def _video_files(folder, videos):
    """Yield (name of the subfolder or '', stem, path) of the video files that can be read; note those that cannot."""
    waiting = [("", folder)]
    while waiting:
        label, parent = waiting.pop()
        for entry in os.scandir(parent):
            name, place = entry.name, os.path.join(label, entry.name)
            stem, suffix = os.path.splitext(name)
            if name.startswith("."):
                continue
            if entry.is_dir() and label and entry.is_symlink():
                videos.unusable[place] = "a link to a folder, two folders down; move its clips up"
            elif entry.is_dir():
                waiting.append((place, entry.path))
            elif suffix.lower() not in VIDEO_SUFFIXES:
                videos.ignored += 1
            elif problem := _file_problem(label, entry):
                videos.unusable[place] = problem
            else:
                yield label, stem, os.path.abspath(entry.path)


def _file_problem(label, entry):
    if not os.path.exists(entry.path):
        return "a link to nothing"
    if not entry.is_file():
        return "not a regular file"
    if os.sep in label:
        return "two folders down, where no clips are looked for; move it up"
    problem = label and name_problem(label)
    return f"the name of its folder cannot be that of a class, {problem}" if problem else None


def _other_ids(stem):
    """What ``<YouTube id>_<start>_<end>`` may be called in splits: the YouTube id, or that and the start in seconds."""
    match = _START_AND_END.fullmatch(stem)
    if not match:
        return []
    start, end = int(match["start"]), int(match["end"])
    # No clip lasts 1000 seconds: such numbers are milliseconds.
    start = start // 1000 if end - start >= 1000 else start
    return [match["video"], f"{match['video']}_{start:06d}"]


def read_ids(path: str) -> list[str]:
    """The ids in a text file, one a line; InputError if there are none or one cannot name a file."""
    ids = list(dict.fromkeys(read_lines(path)))
    if not ids:
        raise InputError(f"{path}: no ids in it; give one video id a line")
    return checked_ids(ids, path)


def checked_ids(ids: Iterable[str], source: str) -> list[str]:
    """``ids`` as a list; InputError naming ``source`` for one that cannot be used as a name."""
    ids = list(ids)
    for video in ids:
        problem = id_problem(video)
        if problem:
            raise InputError(f"{source}: {video[:60]!r} cannot be a video id: {problem}")
    return ids


def id_problem(video: str) -> str | None:
    """Why ``video`` cannot name a file, an HDF5 data set and a row of a table; None if it can."""
    if video in ("", ".", ".."):
        return "it names a folder"
    if "/" in video or "\\" in video:
        return "it holds a path separator"
    if problem := name_problem(video):
        return problem
    # Room for ".partial-" and a suffix within the 255 bytes of common file systems.
    return "it is longer than 230 bytes" if len(video.encode()) > 230 else None


def wanted_ids(dataset: str, data_root: str, id_file: str | None, all_clips: bool) -> list[str] | None:
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
    unknown = sorted(set(listed) - set(ids))
    if unknown:
        raise InputError(
            f"{id_file}: {unknown[0]!r} ({len(unknown)} in all) is not in {splits.source}; remove it, or pass --all"
        )
    return listed


def has_splits(folder: str) -> bool:
    return any(os.path.exists(os.path.join(folder, name)) for name in ("splits.csv", "all_classId_vid_dict.npy"))
