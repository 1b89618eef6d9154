"""The feature store: all clips of one modality in one array on disk, checked once, read at the speed of the disk.

``visual_store.json`` names ids, source and the files ``visual_store-<tag>.npy`` (clips, frames x positions, dims) and,
for visual features, ``visual_means-<tag>.npy`` (clips, dims), the mean token of each clip. The index is written last
and names its arrays: whoever finds it finds a whole store. Where clips failed or are being added there are more rows
than ids, and ``rows`` says which is whose. Plain ``.npy``: any numpy reads it (``mmap_mode="r"``).
"""

import math
import os
from collections.abc import Iterable

import numpy as np

from features.row_file import read_header
from features.sources import FILES, Features, open_source, source_file
from utils.errors import InputError, first_line, say
from utils.files import RandomAccessFile, read_json

HINT = "remove it, or make it again (python features/convert.py)"


def index_path(folder: str, modality: str) -> str:
    return os.path.join(folder, FILES[modality][0], f"{modality}_store.json")


def plan_path(folder: str, modality: str) -> str:
    """The plan of a store that is being written (features.store_writer)."""
    return os.path.join(folder, FILES[modality][0], f"{modality}_store.unfinished.json")


def fingerprint(path: str) -> dict:
    """What tells whether a source file is still the one that was converted."""
    status = os.stat(path)
    return {"name": os.path.basename(path), "bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def feature_files(folder: str, modality: str) -> list[dict]:
    """Fingerprints of the files of one modality that are there: the index of the store, and the source."""
    paths = index_path(folder, modality), source_file(folder, modality)
    return [fingerprint(path) for path in paths if path and os.path.exists(path)]


def open_features(folder: str, modality: str) -> Features:
    """Open the store of one modality if there is one and its source has not changed since, else the source itself."""
    index, source = index_path(folder, modality), source_file(folder, modality)
    if not os.path.exists(index):
        if source is None:
            refuse_unfinished(folder, modality)
        return open_source(folder, modality)
    store = StoreFeatures(index)
    if source is None or fingerprint(source) == store.source:
        return store
    say(f"{index}: made from another {os.path.basename(source)} than is there now; not used. To use it, {HINT[14:]}")
    return open_source(folder, modality)


def refuse_unfinished(folder: str, modality: str) -> None:
    """InputError with the command that goes on if an extraction to the store of one modality was broken off."""
    path = plan_path(folder, modality)
    plan = read_plan(path)
    if plan and plan["command"]:
        raise InputError(f"{path}: the extraction of {modality} features is not finished; go on by {plan['command']}")


class StoreFeatures(Features):
    """A feature store. Values were checked when it was made; they are read from the file, never mapped.

    Reading into a given array is as fast as a map when the file is in the page cache, faster when it is not, and the
    memory of the process stays what it says.
    """

    def __init__(self, path: str):
        super().__init__(path)
        index = read_index(path)
        self.source, self.attributes = index["source"], index["attributes"]
        self.row_of = dict(zip(index["ids"], index["rows"], strict=True))
        if len(self.row_of) != len(index["ids"]):
            raise InputError(f"{path}: an id stands in it twice; {HINT}")
        count = max(index["rows"], default=-1) + 1
        array, self.array = _open_array(path, index["array"], count, (2, 3, 4))
        self.file = RandomAccessFile(array)
        if index["means"]:
            means, _ = _open_array(path, index["means"], count, (2,))
            self.means = np.load(means, mmap_mode="r")

    checked = True

    def all_ids(self) -> list[str]:
        return list(self.row_of)

    def rows(self, videos: Iterable[str]) -> np.ndarray:
        return np.array([self.row_of[video] for video in videos])

    def __contains__(self, video):
        return video in self.row_of

    def __getitem__(self, video):
        out = np.empty(self.array.shape[1:], self.array.dtype)
        self._read_row(self.row_of[video], out)
        return out

    def describe(self, video):
        return self.array.shape[1:], self.array.dtype

    def read(self, videos, out):
        if out.dtype == self.array.dtype:
            for row, video in zip(out, videos, strict=True):
                self._read_row(self.row_of[video], row)
        else:
            super().read(videos, out)

    def _read_row(self, row, out):
        self.file.read_into(out, self.array.offset + row * out.nbytes)


def read_index(path: str) -> dict:
    """What the index of a store says: array, means, ids, rows, crc32, source, attributes; InputError if it is none."""
    index = read_json(path, "index of a feature store", HINT)
    kinds = {"array": str, "means": (str, type(None)), "ids": list, "source": dict, "attributes": dict}
    fits = isinstance(index, dict) and all(isinstance(index.get(name, 0), kind) for name, kind in kinds.items())
    fits = fits and all(isinstance(video, str) for video in index["ids"])
    fits = fits and all(isinstance(value, str | int | float) for value in index["attributes"].values())
    if fits:
        count = len(index["ids"])
        index = {"rows": list(range(count)), "crc32": [None] * count} | index
        fits = _are_rows(index["rows"], count) and isinstance(index["crc32"], list) and len(index["crc32"]) == count
    if not fits:
        raise InputError(f"{path}: not the index of a feature store; {HINT}")
    return index


def read_plan(path: str) -> dict | None:
    """The plan of a store that is being written: array, means, rows {id: row}, attributes, command (goes on).

    None if there is none; InputError if it cannot be read.
    """
    if not os.path.exists(path):
        return None
    cure = "remove it to begin anew"
    plan = read_json(path, "plan of a feature store", cure)
    kinds = {"array": str, "means": (str, type(None)), "rows": dict, "attributes": dict, "command": (str, type(None))}
    fits = isinstance(plan, dict) and all(isinstance(plan.get(name, 0), kind) for name, kind in kinds.items())
    if not fits or not _are_rows(list(plan["rows"].values()), len(plan["rows"])):
        raise InputError(f"{path}: not the plan of a feature store; {cure}")
    return plan


def _are_rows(rows, count):
    """Whether ``rows`` are the rows of ``count`` clips in an array that can be on a disk, each another."""
    fits = isinstance(rows, list) and all(type(row) is int and 0 <= row < 2**40 for row in rows)
    return fits and len(set(rows)) == len(rows) == count


def _open_array(index, name, count, axes):
    """Where the values of an array of ``count`` rows or more lie in its file: an ArrayInFile with its path."""
    path = os.path.join(os.path.dirname(index), os.path.basename(name))
    try:
        array = read_header(path)
    except FileNotFoundError:
        raise InputError(f"{index}: its array {path} is missing; {HINT}") from None
    except (InputError, OSError):
        raise
    except Exception as error:  # numpy parses the header as Python source, which fails in many ways
        raise InputError(f"{path}: not a readable .npy array ({first_line(error, 80)}); {HINT}") from None
    plain = array.order == "C" and array.dtype in (np.float16, np.float32) and len(array.shape) in axes
    size = math.prod(array.shape) * array.dtype.itemsize
    if not plain or array.shape[0] < count or os.path.getsize(path) < array.offset + size:
        raise InputError(f"{path}: not the array that {index} describes; {HINT}")
    return path, array
