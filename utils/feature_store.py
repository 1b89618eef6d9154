"""The feature store: all clips of one sense in one array on disk, checked once, read at the speed of the disk.

``visual_store.json`` names ids, source and the files ``visual_store-<tag>.npy`` (clips, frames x positions, dims) and,
for visual features, ``visual_means-<tag>.npy`` (clips, dims), the mean token of each clip. The index is written last
and names its arrays: whoever finds it finds a whole store. Plain ``.npy``: any numpy reads it (``mmap_mode="r"``).
"""

import json
import os

import numpy as np

from utils.errors import InputError
from utils.features import FILES, Features, open_source, source_file
from utils.files import OpenFile

CURE = "remove it, or make it again (python utils/convert_features.py)"


def index_path(folder, sense):
    return os.path.join(folder, FILES[sense][0], f"{sense}_store.json")


def fingerprint(path):
    """What tells whether a source file is still the one that was converted."""
    status = os.stat(path)
    return {"name": os.path.basename(path), "bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def open_features(folder, sense):
    """Open the store of one sense if there is one and its source has not changed since, otherwise the source itself."""
    index, source = index_path(folder, sense), source_file(folder, sense)
    if not os.path.exists(index):
        return open_source(folder, sense)
    store = StoreFeatures(index)
    if source is None or fingerprint(source) == store.source:
        return store
    print(f"{index}: made from another {os.path.basename(source)} than is there now; not used. To use it, {CURE[14:]}")
    return open_source(folder, sense)


class StoreFeatures(Features):
    """A feature store. Values were checked when it was made; they are read from the file, never mapped.

    Reading into a given array is as fast as a map when the file is in the page cache, faster when it is not, and the
    memory of the process stays what it says.
    """

    def __init__(self, path):
        super().__init__(path)
        index = _read_index(path)
        self.source, self.attributes = index["source"], index["attributes"]
        self.row_of = {video: row for row, video in enumerate(index["ids"])}
        if len(self.row_of) != len(index["ids"]):
            raise InputError(f"{path}: an id stands in it twice; {CURE}")
        self.array = _open_array(path, index["array"], len(self.row_of))
        self.means = _open_array(path, index["means"], len(self.row_of)) if index["means"] else None
        self.file = OpenFile(self.array.filename)

    checked = True

    def all_ids(self):
        return list(self.row_of)

    def rows(self, videos):
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


def _read_index(path):
    try:
        with open(path, encoding="utf-8") as file:
            index = json.load(file)
        kinds = {"array": str, "means": (str, type(None)), "ids": list, "source": dict, "attributes": dict}
        fits = all(isinstance(index[name], kind) for name, kind in kinds.items())
        fits = fits and all(isinstance(video, str) for video in index["ids"])
    except (ValueError, KeyError, TypeError, RecursionError):
        fits = False
    if not fits:
        raise InputError(f"{path}: not the index of a feature store; {CURE}")
    return index


def _open_array(index, name, count):
    path = os.path.join(os.path.dirname(index), os.path.basename(name))
    try:
        array = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise InputError(f"{index}: its array {path} is missing; {CURE}") from None
    except Exception as error:  # numpy parses the header as Python source, which fails in many ways
        raise InputError(f"{path}: not a readable .npy array ({str(error)[:80]}); {CURE}") from None
    plain = isinstance(array, np.memmap) and array.flags.c_contiguous and array.dtype in (np.float16, np.float32)
    if not plain or array.ndim < 2 or len(array) != count:
        raise InputError(f"{path}: not the array that {index} describes; {CURE}")
    return array
