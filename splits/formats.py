"""Which clip belongs to which class and split, from ``splits.csv`` or the released ``.npy`` triple."""

import csv
import os
import reprlib
import unicodedata
from collections import Counter
from dataclasses import dataclass

from features.npy_dict import load_npy_dict
from utils.datasets import cure
from utils.errors import InputError, printable
from utils.files import atomic_path, read_lines, read_table

SPLITS = ("train", "val", "test")


@dataclass
class Splits:
    """``classes``: names in class order. ``clips``: split -> {video id: class index}, in the file's own order.

    InputError naming ``source`` for names and ids that could not be written and read again, or two spellings of a name.
    """

    classes: list[str]
    clips: dict[str, dict[str, int]]
    source: str

    def __post_init__(self):
        for video in (video for part in self.clips.values() for video in part):
            if problem := name_problem(video):
                raise InputError(f"{self.source}: {video[:60]!r} cannot be a video id: {problem}")
        spellings = {}
        for name in self.classes:
            if problem := name_problem(name):
                raise InputError(f"{self.source}: class {name[:60]!r} cannot have this name: {problem}")
            first = spellings.setdefault(unicodedata.normalize("NFC", name), name)
            if first != name:
                raise InputError(
                    f"{self.source}: classes {ascii(first)} and {ascii(name)} are two spellings of {name!r}; use one"
                )


def name_problem(name: str) -> str | None:
    """Why ``name`` cannot stand in a line of its own and be read again; None if it can."""
    if printable(name) != name:
        return "it holds a line break, another control character, or a byte that is not UTF-8"
    if name != name.strip() or not name:
        return "it is empty, or begins or ends with a space"
    return None


def read_splits(folder: str | os.PathLike) -> Splits:
    """The splits in ``folder``: ``splits.csv`` if it is there, else the released triple. Or those in a csv file."""
    folder = os.fspath(folder)
    if folder.endswith(".csv"):
        return read_splits_csv(folder, os.path.join(os.path.dirname(folder), "classes.txt"))
    table = os.path.join(folder, "splits.csv")
    if os.path.exists(table):
        return read_splits_csv(table, os.path.join(folder, "classes.txt"))
    if os.path.exists(os.path.join(folder, "all_classId_vid_dict.npy")):
        return read_released_splits(folder)
    raise InputError(
        f"{folder}: no splits.csv (video_id,label,split) and no all_classId_vid_dict.npy; add one of them, or"
        f" {cure(folder)}"
    )


def read_splits_csv(path: str, classes_path: str) -> Splits:
    """Rows ``video_id,label,split``; class order from ``classes.txt`` (a name a line), else of first appearance."""
    clips = {split: {} for split in SPLITS}
    seen, order = {}, {}
    for number, row in read_table(path, ("video_id", "label", "split")):
        video, label, split = (row[column].strip() for column in ("video_id", "label", "split"))
        if split not in clips:
            raise InputError(f"{path}, line {number}: split {split!r} is not one of {', '.join(SPLITS)}")
        if not video or not label:
            raise InputError(f"{path}, line {number}: empty video_id or label; fill it in or remove the line")
        if video in seen:
            raise InputError(f"{path}, line {number}: {video!r} is already on line {seen[video]}; keep one of the two")
        seen[video] = number
        order.setdefault(label, len(order))
        clips[split][video] = label
    classes = _class_names(classes_path, order) if os.path.exists(classes_path) else list(order)
    index = {name: position for position, name in enumerate(classes)}
    return Splits(classes, {split: {v: index[c] for v, c in part.items()} for split, part in clips.items()}, path)


def _class_names(path, used):
    names = read_lines(path)
    known = set(names)
    unknown = [name for name in used if name not in known]
    if unknown:
        raise InputError(f"{path}: label {unknown[0]!r} of splits.csv is not in it; add it, or remove the file")
    counts = Counter(names)
    repeated = next((name for name in names if counts[name] > 1), None)
    if repeated is not None:
        raise InputError(f"{path}: class {repeated!r} stands in it twice; keep one of the two")
    return names


def read_released_splits(folder: str) -> Splits:
    """The released triple of 0-d object arrays; clips keep the order of ``all_classId_vid_dict.npy``."""
    path = os.path.join(folder, "all_classId_vid_dict.npy")
    names = _read_class_names(os.path.join(folder, "category_encode_dict.npy"))
    by_class = load_npy_dict(path)
    if sorted(names.values()) != list(range(len(names))):
        raise InputError(f"{folder}/category_encode_dict.npy: class ids are not 0..{len(names) - 1}")
    if set(by_class) != set(SPLITS) or not all(isinstance(part, dict) for part in by_class.values()):
        raise InputError(f"{path}: expected the splits {', '.join(SPLITS)}, each a dict of class id -> video ids")
    clips = {split: {} for split in SPLITS}
    for split in SPLITS:
        for label in sorted(by_class[split], key=str):
            _add_class(path, clips, split, label, by_class[split][label], len(names))
    _check_categories(folder, clips, names)
    return Splits(sorted(names, key=lambda name: names[name]), clips, path)


def _class_id(label):
    """A class id, which some splits have as text; anything else as it is."""
    return int(label) if isinstance(label, str) and label.isascii() and label.isdigit() and len(label) < 10 else label


def _add_class(path, clips, split, label, videos, num_classes):
    label = _class_id(label)
    if not isinstance(label, int) or not 0 <= label < num_classes:
        raise InputError(f"{path}: class id {reprlib.repr(label)} in split {split} is not in category_encode_dict.npy")
    if not isinstance(videos, list) or not all(isinstance(video, str) for video in videos):
        raise InputError(f"{path}: class {label} of split {split} is not a list of video ids")
    for video in videos:
        other = next((name for name, part in clips.items() if video in part), None)
        if other:
            raise InputError(f"{path}: {reprlib.repr(video)} stands twice, in {other} and {split}; keep one of the two")
        clips[split][video] = label


def _check_categories(folder, clips, names):
    path = os.path.join(folder, "all_id_category_dict.npy")
    if not os.path.exists(path):
        return
    categories = load_npy_dict(path)
    for split, part in clips.items():
        for video, label in part.items():
            category = categories.get(split, {}).get(video) if isinstance(categories.get(split), dict) else None
            if not isinstance(category, str) or names.get(category) != label:
                raise InputError(
                    f"{path}: {reprlib.repr(video)} in {split} is {reprlib.repr(category)}, but class {label} in"
                    " all_classId_vid_dict.npy; take the three files from one release"
                )


def _read_class_names(path):
    content = {name: _class_id(label) for name, label in load_npy_dict(path).items()}
    if not content or not all(isinstance(name, str) and isinstance(label, int) for name, label in content.items()):
        raise InputError(f"{path}: expected a dict of class name -> class id")
    return content


def write_splits(folder: str, splits: Splits):
    """Write ``splits.csv`` and ``classes.txt`` to ``folder``; read back they give ``splits`` again."""
    os.makedirs(folder, exist_ok=True)
    # Both are on disk before one takes its place: the classes of one and the clips of another are no splits.
    with (
        atomic_path(os.path.join(folder, "splits.csv")) as aside,
        atomic_path(os.path.join(folder, "classes.txt")) as classes,
        open(classes, "w", encoding="utf-8") as names,
        open(aside, "w", newline="", encoding="utf-8") as file,
    ):
        names.writelines(f"{name}\n" for name in splits.classes)
        writer = csv.writer(file)
        writer.writerow(("video_id", "label", "split"))
        for split in SPLITS:
            for video, label in splits.clips[split].items():
                writer.writerow((video, splits.classes[label], split))
