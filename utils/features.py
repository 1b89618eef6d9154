"""Feature files: id -> array, in the released ``.npy`` dictionaries or in HDF5 (one data set per id)."""

import os

import h5py
import numpy as np

from utils.errors import InputError
from utils.pickles import load_npy_dict

FILES = {
    "audio": ("audio_pretrained_feature", ("audio_features.h5", "audio_pretrained_feature_dict.npy")),
    "visual": ("visual_pretrained_feature", ("visual_features.h5", "visual_pretrained_feature_dict.npy")),
}

# What the extraction records that tells one kind of features from another.
ORIGIN = ("encoder", "checkpoint_sha256", "sample_rate", "normalize_fbank", "frame_rate", "pooling")

# What h5py raises on files and entries that are damaged, or point to nowhere.
DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError)


class Features:
    """The features of one sense: ``features[id]`` is an array; ``attributes`` say how they were made, if known."""

    def __init__(self, path):
        self.path = path
        self.attributes = {}

    def describe_origin(self):
        """The file, and for features of our own extraction the encoder and its options."""
        made = ", ".join(f"{key} {self.attributes[key]}" for key in ORIGIN if key in self.attributes)
        return os.path.relpath(self.path) + (f" ({made})" if made else "")


class DictFeatures(Features):
    """A released ``.npy`` dictionary, held in memory once."""

    def __init__(self, path):
        super().__init__(path)
        self.arrays = load_npy_dict(path)

    def __contains__(self, video):
        return video in self.arrays

    def __getitem__(self, video):
        try:
            return np.asarray(self.arrays[video])
        except (ValueError, RecursionError):
            raise InputError(f"{self.path}: {video!r} holds lists of unequal lengths, expected an array") from None

    def describe(self, video):
        array = self[video]
        return array.shape, array.dtype


class HDF5Features(Features):
    """An HDF5 file with one data set per id, read as it is needed."""

    def __init__(self, path):
        super().__init__(path)
        try:
            self.file = h5py.File(path, "r")
            self.ids = set(self.file)
            self.attributes = {key: _plain(value) for key, value in self.file.attrs.items()}
        except DAMAGED as error:
            raise InputError(f"{path}: no readable HDF5 file ({str(error)[:80]}); make it again") from None

    def __contains__(self, video):
        return video in self.ids

    def __getitem__(self, video):
        return self._read(video, lambda entry: entry[()])

    def describe(self, video):
        # A data set without a dataspace has no shape; it holds as much as a scalar would.
        return self._read(video, lambda entry: (entry.shape or (), entry.dtype))

    def _read(self, video, what):
        try:
            entry = self.file[video]
            if isinstance(entry, h5py.Dataset):
                return what(entry)
        except DAMAGED as error:
            raise InputError(f"{self.path}: {video!r} is unreadable ({str(error)[:80]}); make it again") from None
        raise InputError(f"{self.path}: {video!r} is a group, expected one data set per video id")


def open_features(folder, sense):
    """Open the features of one sense ("audio" or "visual") under a data set's folder; nothing else is touched."""
    subfolder, names = FILES[sense]
    for name in names:
        path = os.path.join(folder, subfolder, name)
        if os.path.exists(path):
            return HDF5Features(path) if name.endswith(".h5") else DictFeatures(path)
    raise InputError(
        f"{os.path.join(folder, subfolder)}: no {' or '.join(names)}; download the {sense} features or extract them"
    )


def check_features(features, videos, dims, progress):
    """Return the shape that all ``videos`` share; InputError if shapes or types differ or a value is not finite.

    ``dims`` are the numbers of dimensions allowed; ``progress`` wraps the list of videos while values are read.
    """
    shape, _ = features.describe(videos[0])
    axes = " or ".join(map(str, dims))
    if len(shape) not in dims or 0 in shape:
        raise InputError(f"{features.path}: {videos[0]!r} has shape {shape}, expected {axes} axes")
    for video in videos:
        other, dtype = features.describe(video)
        if dtype.kind != "f":
            raise InputError(f"{features.path}: {video!r} holds {dtype}, expected float16, float32 or float64")
        if other != shape:
            raise InputError(f"{features.path}: {video!r} has shape {other}, {videos[0]!r} has {shape}; make it again")
    bad = [video for video in progress(videos) if not _finite(features[video])]
    if bad:
        raise InputError(
            f"{features.path}: {len(bad)} clips hold values that are NaN, infinite or too large for float32:"
            f" {', '.join(bad[:5])}; extract them again, or remove them from the file and pass --allow_missing"
        )
    return shape


def _finite(array):
    with np.errstate(all="ignore"):
        # float64 is checked as what training makes of it.
        array = array.astype(np.float32, copy=False) if array.itemsize > 4 else array
        # One pass without a temporary: a sum is finite unless a value is not (it is too wide to overflow).
        return bool(np.isfinite(array.sum(dtype=np.float64)))


def _plain(value):
    return value.item() if isinstance(value, np.generic) else str(value)
