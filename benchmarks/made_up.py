"""Made-up data sets for benchmarks on a GPU: the sizes of a real one, values that mean nothing, next to no disk."""

import json
import pathlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Size:
    """A made-up data set: clips per class for training, validation and test, shape of a clip's tokens, options."""

    classes: int
    counts: tuple
    tokens: tuple
    flags: tuple = ()


SIZES = {
    "ave": Size(28, (118, 14, 14), (8 * 196, 768), ("--classes_per_step", "7", "--memory_size", "340")),
    "tiny": Size(6, (9, 3, 4), (8 * 2, 12), ("--classes_per_step", "2", "--memory_size", "18")),
}


def make_data(root: pathlib.Path, size: Size) -> None:
    """Write ``root/counted``: splits, audio (all 1), and a visual store whose array is a hole in its file (all 0)."""
    folder, width = root / "counted", size.tokens[-1]
    for modality in ("audio", "visual"):
        (folder / f"{modality}_pretrained_feature").mkdir(parents=True)
    clips = [
        (split, label, f"{split}{label}_{number}")
        for split, count in zip(("train", "val", "test"), size.counts, strict=True)
        for label in range(size.classes)
        for number in range(count)
    ]
    rows = [f"{clip},class {label:02d},{split}\n" for split, label, clip in clips]
    (folder / "splits.csv").write_text("video_id,label,split\n" + "".join(rows))
    ids = [clip for *_, clip in clips]
    audio = {clip: np.ones(width, np.float32) for clip in ids}
    np.save(folder / "audio_pretrained_feature" / "audio_pretrained_feature_dict.npy", np.array(audio, object))
    visual = folder / "visual_pretrained_feature"
    arrays = {"array": "visual_store-0.npy", "means": "visual_means-0.npy"}
    write_hole(visual / arrays["array"], (len(ids), *size.tokens))
    write_hole(visual / arrays["means"], (len(ids), width))
    (visual / "visual_store.json").write_text(json.dumps({"ids": ids, "source": {}, "attributes": {}, **arrays}))


def write_hole(path, shape):
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + 4 * int(np.prod(shape)))


def peak_resident():
    """Bytes. The system's own count begins at the start of the program: getrusage's also has what its parent used."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
