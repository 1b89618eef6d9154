"""The feature store: all clips of one modality in one array on disk, checked once, read at the speed of the disk.

``visual_store.json`` names ids, source and the files ``visual_store-<tag>.npy`` (clips, frames x positions, dims) and,
for visual features, ``visual_means-<tag>.npy`` (clips, dims), the mean token of each clip. The index is written last
and names its arrays: whoever finds it finds a whole store. Plain ``.npy``: any numpy reads it (``mmap_mode="r"``).
"""

import json
import math
import os

import numpy as np

from features.pickled_arrays import ArrayInFile
from features.sources import FILES, Features, open_source, source_file
from utils.errors import InputError
from utils.files import RandomAccessFile

CURE = "remove it, or make it again (python features/convert.py)"


def index_path(folder, modality):
    return os.path.join(folder, FILES[modality][0], f"{modality}_store.json")


def fingerprint(path):
    """What tells whether a source file is still the one that was converted."""
    status = os.stat(path)
    return {"name": os.path.basename(path), "bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def open_features(folder, modality):
    """Open the store of one modality if there is one and its source has not changed since, else the source itself."""
    index, source = index_path(folder, modality), source_file(folder, modality)
    if not os.path.exists(index):
        return open_source(folder, modality)
    store = StoreFeatures(index)
    if source is None or fingerprint(source) == store.source:
        return store
    print(f"{index}: made from another {os.path.basename(source)} than is there now; not used. To use it, {CURE[14:]}")
    return open_source(folder, modality)


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
        array, self.array = _open_array(path, index["array"], len(self.row_of))
        self.file = RandomAccessFile(array)
        if index["means"]:
            means, _ = _open_array(path, index["means"], len(self.row_of))
            self.means = np.load(means, mmap_mode="r")

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
    """Where the values of an array of ``count`` rows lie in its file: an ArrayInFile with its path."""
    path = os.path.join(os.path.dirname(index), os.path.basename(name))
    try:
        array = read_header(path)
    except FileNotFoundError:
        raise InputError(f"{index}: its array {path} is missing; {CURE}") from None
    except Exception as error:  # numpy parses the header as Python source, which fails in many ways
        raise InputError(f"{path}: not a readable .npy array ({str(error)[:80]}); {CURE}") from None
    plain = array.order == "C" and array.dtype in (np.float16, np.float32) and len(array.shape) >= 2
    size = math.prod(array.shape) * array.dtype.itemsize
    if not plain or array.shape[0] != count or os.path.getsize(path) != array.offset + size:
        raise InputError(f"{path}: not the array that {index} describes; {CURE}")
    return path, array


def read_header(path):
    """The ArrayInFile of a ``.npy`` file; ValueError or OSError if it is none."""
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(file)
        return ArrayInFile(file.tell(), dtype, shape, "F" if fortran else "C")
