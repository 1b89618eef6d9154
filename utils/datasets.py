"""The data sets we know by name: their folders, and the protocol the paper uses on each (ICCV 2023, section 4)."""

import os
from dataclasses import dataclass

from utils.errors import InputError, did_you_mean

MODALITIES = {"audio": ("audio",), "visual": ("visual",), "audio-visual": ("audio", "visual")}


@dataclass(frozen=True)
class Dataset:
    """Where a data set lies under ``data/`` and ``raw_data/``, and its published protocol (None: up to the data).

    ``workers``: the published scripts read its visual features with worker processes (utils.seeding.paired_pass).
    """

    name: str
    folder: str
    raw_folder: str
    frames_per_second: int = 8
    num_classes: int | None = None
    classes_per_step: int | None = None
    memory_size: int | None = None
    clips: tuple[int, int, int] | None = None  # for training, validation and test
    archive: str | None = None  # of the released features: this zip, or this and .aa, .ab ...
    workers: bool = False


KNOWN = {
    "AVE": Dataset("AVE", "AVE", "AVE", 10, 28, 7, 340, (3294, 391, 394), "AVE_features.zip"),
    "ksounds": Dataset(
        "ksounds", "kinetics-sounds", "kinetics-sounds", 8, 30, 6, 500, (19220, 1947, 1958), "KS_features.zip", True
    ),
    "VGGSound_100": Dataset(
        "VGGSound_100", "VGGSound_100", "VGGSound", 8, 100, 10, 1500, (51195, 5000, 5000), "VS100_features.zip", True
    ),
}


def find_dataset(name: str) -> Dataset:
    """The data set of that name: one of the three of the paper, or a user's own, whose folders bear its name."""
    if not name or name in (".", "..") or os.path.basename(name) != name:
        raise InputError(f"--dataset {name!r}: give the name of a folder under the data root, not a path")
    return KNOWN.get(name, Dataset(name, name, name))


def existing_datasets(data_root: str) -> list[str]:
    """Names to pass as ``--dataset`` for the folders present under ``data_root``."""
    by_folder = {dataset.folder: dataset.name for dataset in KNOWN.values()}
    try:
        entries = [entry.name for entry in os.scandir(data_root) if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return []
    return sorted(by_folder.get(entry, entry) for entry in entries)


def dataset_folder(data_root: str, name: str) -> str:
    """``data_root/<folder of the data set>``; InputError if there is none, with the command that makes it."""
    folder = os.path.join(data_root, find_dataset(name).folder)
    if not os.path.isdir(folder):
        existing = existing_datasets(data_root)
        meant = "" if name in KNOWN else did_you_mean(name, [*existing, *KNOWN])
        names = ", ".join(existing) or "none"
        raise InputError(
            f"--dataset {name}: no folder {folder}{meant}; data sets in {data_root}: {names}; {cure(folder)}"
        )
    return folder


def cure(folder: str) -> str:
    """The command that fills a data set's folder: the download, or what makes features of one's own clips."""
    name = os.path.basename(os.path.normpath(folder))
    published = next((dataset.name for dataset in KNOWN.values() if dataset.folder == name), None)
    if published:
        return f"get it by sh download.sh '{published}'"
    return f"make it of a folder of clips by sh extract_audios_frames.sh '{name}' --videos FOLDER (README, Data)"
