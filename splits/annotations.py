"""Splits from the official annotation files of AVE, VGGSound and Kinetics, and from a user's table or folders."""

import os
import random
from collections import Counter

from features.npy_dict import load_npy_dict
from splits.clips import Videos, checked_ids
from splits.draw import by_share, draw, source_video
from splits.formats import SPLITS, Splits
from utils.errors import InputError
from utils.files import read_lines, read_rows, read_table

AVE_FILES = {"train": "trainSet.txt", "val": "valSet.txt", "test": "testSet.txt"}


def from_ave(folder: str) -> Splits:
    """The official split of AVE (Tian et al., ECCV 2018): lines ``Category&id&quality&start&end`` in three files."""
    rows = [
        (fields[1], fields[0], split)
        for split, name in AVE_FILES.items()
        for fields in _fields(os.path.join(folder, name), "&", (5,))
    ]
    return _by_side(rows, AVE_CLASSES, folder)


def from_kinetics(
    train_paths: list[str], held_out_paths: list[str], classes: list[str] | None = None, seed: int = 0
) -> Splits:
    """Kinetics-Sounds: training clips from Kinetics' train; the clips of its val and test, half val and half test."""
    classes = classes or KSOUNDS_CLASSES
    rows = [(*clip, "train") for path in train_paths for clip in _kinetics_clips(path, classes)]
    rows += [(*clip, "held out") for path in held_out_paths for clip in _kinetics_clips(path, classes)]
    label, side = _one_class_and_side(rows)
    held_out = {clip: label[clip] for clip in label if side[clip] == "held out"}
    drawn = draw(held_out, lambda size: (size // 2, 0), seed)
    clips = {"train": [clip for clip in label if side[clip] == "train"], "val": drawn["val"], "test": drawn["train"]}
    return _splits(classes, clips, label, train_paths[0])


def from_vggsound(
    path: str,
    classes: list[str] | None = None,
    num_classes: int = 100,
    counts: tuple[int, int] = (50, 50),
    seed: int = 0,
    group_by_video: bool = False,
) -> Splits:
    """VGGSound: the official clips of each class pooled, ``counts`` drawn for val and test, the rest for training.

    ``path``: the official csv, ``id,start,label,split`` or ``file,label`` a row. ``classes``: names in their order; if
    None, ``num_classes`` are drawn from those with enough clips.
    """
    rows = [_vggsound_clip(fields) for fields in _fields(path, ",", (2, 4))]
    sizes = Counter(label for _, label in rows)
    enough = [label for label in sorted(sizes) if sizes[label] > sum(counts)]
    if classes is None:
        if len(enough) < num_classes:
            raise InputError(
                f"{path}: {len(enough)} classes have more than {sum(counts)} clips, {num_classes} are wanted; give"
                " --num_classes, or fewer --val_clips and --test_clips"
            )
        classes = sorted(random.Random(f"{seed}/classes").sample(enough, num_classes))
    else:
        classes = [_official_name(name, sizes, path) for name in classes]
    small = [label for label in classes if label not in set(enough)]
    if small:
        raise InputError(
            f"{path}: class {small[0]!r} has {sizes[small[0]]} clips, too few for {counts[0]} val and {counts[1]} test"
        )
    pool = {clip: label for clip, label in rows if label in set(classes)}
    drawn = draw(pool, lambda size: counts, seed, source_video if group_by_video else None)
    return _splits(classes, drawn, pool, path)


def from_table(path: str, val: float, test: float, seed: int = 0, group_by_video: bool = False) -> Splits:
    """A user's csv with the columns video_id and label, without split: shares of each class are drawn.

    A column ``source`` names the video that a clip was cut from, for ``group_by_video``.
    """
    pool, videos = {}, {}
    for number, row in read_table(path, ("video_id", "label")):
        clip, label = (row[column].strip() for column in ("video_id", "label"))
        if not clip or not label:
            raise InputError(f"{path}, line {number}: empty video_id or label; fill it in or remove the line")
        if clip in pool:
            raise InputError(f"{path}, line {number}: {clip!r} stands above already; keep one of the two")
        pool[clip], videos[clip] = label, (row.get("source") or "").strip() or source_video(clip)
    drawn = draw(pool, by_share(val, test), seed, videos.get if group_by_video else None)
    return _splits(list(dict.fromkeys(pool.values())), drawn, pool, path)


def from_folders(videos: Videos, val: float, test: float, seed: int = 0, group_by_video: bool = False) -> Splits:
    """A folder per class (``videos``: see splits.clips.find_videos), classes in alphabetical order, shares drawn."""
    at_top = [clip for clip, label in videos.labels.items() if not label]
    if at_top:
        raise InputError(
            f"{videos.folder}: {at_top[0]!r} is in no class's folder ({len(at_top)} clips do); put them into a folder"
            " per class, or list them in a csv: splits/build.py csv --help"
        )
    if val + test >= 1:
        raise InputError(f"--val {val} and --test {test} leave nothing for training")
    pool = dict(sorted(videos.labels.items()))
    drawn = draw(pool, by_share(val, test), seed, source_video if group_by_video else None)
    return _splits(sorted(set(pool.values())), drawn, pool, videos.folder)


def read_class_names(path: str) -> list[str]:
    """Names in class order from a text file, one a line, or from the released ``category_encode_dict.npy``."""
    if path.endswith(".npy"):
        names = load_npy_dict(path)
        if not all(isinstance(name, str) and isinstance(index, int) for name, index in names.items()):
            raise InputError(f"{path}: expected a dict of class name -> number")
        return sorted(names, key=lambda name: names[name])
    names = read_lines(path)
    if not names or len(set(names)) != len(names):
        raise InputError(f"{path}: expected class names, each once, one a line")
    return names


def _by_side(rows, classes, where):
    """Splits of rows (clip, class, split)."""
    label, side = _one_class_and_side(rows)
    clips = {split: [clip for clip in label if side[clip] == split] for split in SPLITS}
    return _splits(classes, clips, label, where)


def _one_class_and_side(rows):
    """{clip: class} and {clip: side}. A clip annotated on two sides is dropped; annotated twice, its last class counts.

    Checked against the released split of AVE: 18 clips of the 45 annotated twice are dropped by this rule.
    """
    label, sides = {}, {}
    for clip, name, side in rows:
        label[clip] = name
        sides.setdefault(clip, set()).add(side)
    kept = {clip: label[clip] for clip in label if len(sides[clip]) == 1}
    return kept, {clip: next(iter(sides[clip])) for clip in kept}


def _splits(classes, clips, label, where):
    index = {name: number for number, name in enumerate(classes)}
    unknown = [name for name in label.values() if name not in index]
    if unknown:
        raise InputError(f"{where}: class {unknown[0]!r} is not among the {len(index)} known; is it another release?")
    if not clips["train"]:
        raise InputError(f"{where}: no clips for training; are these the right files?")
    checked_ids(label, where)
    return Splits(
        list(classes), {split: {clip: index[label[clip]] for clip in clips[split]} for split in SPLITS}, where
    )


def _fields(path, separator, widths):
    """Yield the fields of each line; InputError for one with another number of them."""
    for number, fields in read_rows(path, "annotation file", "download it again", separator):
        if len(fields) not in widths:
            expected = " or ".join(map(str, widths))
            raise InputError(f"{path}, line {number}: {len(fields)} fields between {separator!r}, not {expected}")
        yield [field.strip() for field in fields]


def _vggsound_clip(fields):
    if len(fields) == 2:
        return os.path.splitext(fields[0])[0], fields[1]
    video, start, label, _ = fields
    if not start.isdecimal():
        raise InputError(f"start {start!r} of {video} is not a number of seconds; expected rows id,start,label,split")
    return f"{video}_{int(start):06d}", label


def _official_name(name, official, path):
    """The class that ``name`` means: itself, or the only one that it begins (the released list cuts one name short)."""
    if name in official:
        return name
    begun = [label for label in official if label.startswith(name)]
    if len(begun) != 1:
        raise InputError(f"{path}: no class {name!r}; check the spelling in the list of classes")
    return begun[0]


def _kinetics_clips(path, classes):
    """Yield (YouTube id, class) of the clips of ``classes`` in one of Kinetics' csv files, those that have labels."""
    chosen = set(classes)
    for _, row in read_table(path, ("label", "youtube_id"), cure="take Kinetics' csv files that have labels"):
        if row["label"] in chosen:
            yield row["youtube_id"], row["label"]


AVE_CLASSES = [
    "Acoustic guitar",
    "Cat",
    "Fixed-wing aircraft, airplane",
    "Frying (food)",
    "Ukulele",
    "Helicopter",
    "Mandolin",
    "Bus",
    "Train horn",
    "Male speech, man speaking",
    "Clock",
    "Race car, auto racing",
    "Toilet flush",
    "Female speech, woman speaking",
    "Violin, fiddle",
    "Chainsaw",
    "Flute",
    "Church bell",
    "Motorcycle",
    "Banjo",
    "Rodents, rats, mice",
    "Truck",
    "Bark",
    "Baby cry, infant cry",
    "Horse",
    "Accordion",
    "Shofar",
    "Goat",
]
KSOUNDS_CLASSES = [
    "playing drums",
    "bowling",
    "shoveling snow",
    "playing harmonica",
    "tickling",
    "chopping wood",
    "dribbling basketball",
    "laughing",
    "playing organ",
    "playing xylophone",
    "playing keyboard",
    "playing accordion",
    "ripping paper",
    "tapping pen",
    "playing piano",
    "playing saxophone",
    "blowing out candles",
    "playing trumpet",
    "tap dancing",
    "playing trombone",
    "singing",
    "playing bass guitar",
    "shuffling cards",
    "blowing nose",
    "playing guitar",
    "playing violin",
    "playing bagpipes",
    "stomping grapes",
    "playing clarinet",
    "tapping guitar",
]
