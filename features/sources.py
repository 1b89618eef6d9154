"""Feature files: id -> array, in the released ``.npy`` dictionaries or in HDF5 (one data set per id)."""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np

from features.hdf5 import DAMAGED, explain, names_in, open_hdf5, own_dataset, plain_attributes
from features.npy_dict import map_npy_dict
from features.pickled_arrays import ArrayInFile
from utils.datasets import cure
from utils.errors import InputError
from utils.files import RandomAccessFile, retried

FILES = {
    "audio": ("audio_pretrained_feature", ("audio_features.h5", "audio_pretrained_feature_dict.npy")),
    "visual": ("visual_pretrained_feature", ("visual_features.h5", "visual_pretrained_feature_dict.npy")),
}


# What the extraction records that tells one kind of features from another.
ORIGIN = ("encoder", "checkpoint_sha256", "sample_rate", "normalize_fbank", "frame_rate", "from", "pooling")


class Features(ABC):
    """The features of one modality: ``features[id]`` is an array; ``attributes`` say how they were made, if known.

    ``checked``: whether every value is known to be finite; ``means``: the mean token of each clip, if it is stored.
    """

    checked = False
    means: np.ndarray | None = None

    def __init__(self, path: str):
        self.path = path
        self.attributes: dict[str, str | int | float | bool] = {}

    def read(self, videos: Iterable[str], out: np.ndarray):
        """Read the features of ``videos`` into the array ``out`` (n, values), in its type."""
        for row, video in zip(out, videos, strict=True):
            row[:] = self[video].reshape(-1)

    @abstractmethod
    def all_ids(self) -> list[str]:
        """The ids of all clips in the file."""

    @abstractmethod
    def __contains__(self, video: str) -> bool: ...

    @abstractmethod
    def __getitem__(self, video: str) -> np.ndarray: ...

    @abstractmethod
    def describe(self, video: str) -> tuple[tuple[int, ...], np.dtype]:
        """The shape and the type of ``features[video]``, without its values."""

    def describe_origin(self) -> str:
        """The file, and for features of our own extraction the encoder and its options."""
        provenance = ", ".join(f"{key} {self.attributes[key]}" for key in ORIGIN if key in self.attributes)
        return os.path.relpath(self.path) + (f" ({provenance})" if provenance else "")


class DictFeatures(Features):
    """A released ``.npy`` dictionary. Its arrays stay in the file and are read as they are needed."""

    def __init__(self, path: str):
        super().__init__(path)
        self.arrays = map_npy_dict(path)
        self.file = RandomAccessFile(path)

    def all_ids(self):
        return list(self.arrays)

    def __contains__(self, video):
        return video in self.arrays

    def __getitem__(self, video):
        array = self.arrays[video]
        if isinstance(array, ArrayInFile):
            values = np.empty(math.prod(array.shape), array.dtype)
            self.file.read_into(values, array.offset)
            return values.reshape(array.shape, order=array.order)
        try:
            return np.asarray(array)
        except (ValueError, RecursionError):
            raise InputError(f"{self.path}: {video!r} holds lists of unequal lengths, expected an array") from None

    def describe(self, video):
        array = self.arrays[video]
        array = array if isinstance(array, ArrayInFile) else self[video]
        return tuple(array.shape), array.dtype


class HDF5Features(Features):
    """An HDF5 file with one data set per id, read as it is needed; only what lies in the file itself is read."""

    def __init__(self, path: str):
        super().__init__(path)
        self.file = open_hdf5(path, "make it again")
        self.ids = names_in(self.file, "make it again")
        self.attributes = plain_attributes(self.file, "make it again")

    def all_ids(self) -> list[str]:
        return sorted(self.ids)

    def __contains__(self, video):
        return video in self.ids

    def __getitem__(self, video):
        return self._read(video, lambda entry: entry[()])

    def describe(self, video):
        # A data set without a dataspace has no shape; it holds as much as a scalar would.
        return self._read(video, lambda entry: (entry.shape or (), entry.dtype))

    def _read(self, video, what):
        try:
            return retried(lambda: what(own_dataset(self.file, video)), self.path)
        except DAMAGED as error:
            raise explain(error, self.path, "make it again", video) from None


def source_file(folder: str, modality: str) -> str | None:
    """The path of the features of one modality, HDF5 before ``.npy``; None if there is none.

    They lie in the modality's folder within the data set's ``folder``, or in this itself.
    """
    subfolder, names = FILES[modality]
    paths = (os.path.join(place, name) for place in (os.path.join(folder, subfolder), folder) for name in names)
    return next(filter(os.path.exists, paths), None)


def open_source(folder: str, modality: str) -> Features:
    """Open the features of one modality ("audio" or "visual") under a data set's folder; nothing else is touched."""
    path = source_file(folder, modality)
    if path is None:
        subfolder, names = FILES[modality]
        raise InputError(
            f"{os.path.join(folder, subfolder)}: no {' or '.join(names)}, which have the {modality} features;"
            f" {cure(folder)}"
        )
    return HDF5Features(path) if path.endswith(".h5") else DictFeatures(path)
