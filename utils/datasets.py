"""The data sets we know by name, each by a file of presets/: folders, and protocol (of the paper's, ICCV 2023, 4)."""

import functools
import json
import os
from dataclasses import dataclass, field, fields

from utils.errors import InputError, did_you_mean, first_line

MODALITIES = {"audio": ("audio",), "visual": ("visual",), "audio-visual": ("audio", "visual")}


PRESETS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "presets")


@dataclass(frozen=True)
class Dataset:
    """Where a data set lies under ``data/`` and ``raw_data/``, and its protocol (None: up to the data).

    ``sample_rate`` (Hz) and ``normalize_fbank``: what AudioMAE hears, by default as it was trained. ``clips``: for
    training, validation and test. ``archive``: of the released features, this zip, or this and .aa, .ab ...
    ``workers``: the published scripts read its visual features with worker processes (utils.seeding.paired_pass).
    ``max_epochs``: method -> modality -> epochs a step. ``options``: method -> its own options by name.
    """

    name: str
    folder: str
    raw_folder: str
    frames_per_second: int = 8
    sample_rate: int = 16000
    normalize_fbank: bool = True
    num_classes: int | None = None
    classes_per_step: int | None = None
    memory_size: int | None = None
    clips: tuple[int, int, int] | None = None
    archive: str | None = None
    workers: bool = False
    max_epochs: dict[str, dict[str, int]] = field(default_factory=dict)
    options: dict[str, dict] = field(default_factory=dict)


@functools.cache
def known_datasets() -> dict[str, Dataset]:
    """The data sets that have a file ``presets/<name>.json``, by name; InputError if one is not as it should be."""
    names = sorted((name[:-5] for name in os.listdir(PRESETS) if name.endswith(".json")), key=str.lower)
    return {name: _read_preset(name) for name in names}


def _read_preset(name):
    path = os.path.join(PRESETS, f"{name}.json")
    try:
        with open(path, encoding="utf-8") as file:
            values = {"folder": name, "raw_folder": name} | json.load(file)
        if "clips" in values:
            values["clips"] = tuple(values["clips"])
        return Dataset(**values, name=name)
    except (ValueError, TypeError, RecursionError) as error:
        keys = ", ".join(each.name for each in fields(Dataset) if each.name != "name")
        raise InputError(f"{path}: not a preset ({first_line(error)}); its keys are {keys}") from None


def published_datasets() -> list[str]:
    """Those whose features can be downloaded."""
    return [dataset.name for dataset in known_datasets().values() if dataset.archive]


def find_dataset(name: str) -> Dataset:
    """The data set of that name: one with a preset, or a user's own, whose folders bear its name."""
    if not name or name in (".", "..") or os.path.basename(name) != name:
        raise InputError(f"--dataset {name!r}: give the name of a folder under the data root, not a path")
    return known_datasets().get(name, Dataset(name, name, name))


def existing_datasets(data_root: str) -> list[str]:
    """Names to pass as ``--dataset`` for the folders present under ``data_root``."""
    by_folder = {dataset.folder: dataset.name for dataset in known_datasets().values()}
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
        known = known_datasets()
        meant = "" if name in known else did_you_mean(name, [*existing, *known])
        names = ", ".join(existing) or "none"
        raise InputError(
            f"--dataset {name}: no folder {folder}{meant}; data sets in {data_root}: {names}; {cure(folder)}"
        )
    return folder


def cure(folder: str) -> str:
    """The command that fills a data set's folder: the download, or what makes features of one's own clips."""
    name = os.path.basename(os.path.normpath(folder))
    published = next((each for each in published_datasets() if known_datasets()[each].folder == name), None)
    if published:
        return f"get it by sh download.sh '{published}'"
    return f"make it of a folder of clips by sh extract_audios_frames.sh '{name}' --videos FOLDER (README, Data)"
