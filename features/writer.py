"""A feature file that grows in whole parts: kill the writer at any moment, and what is there can be trusted.

HDF5 files do not survive a process that dies while writing. So each batch becomes a small file of its own, which takes
its name only when it is on disk (``visual_features.parts/``), and at the end all become one new file, which takes the
place of the old one in one step (``visual_features.h5``).
"""

import shutil
import uuid
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from features.hdf5 import DAMAGED, explain, names_in, open_hdf5, own_dataset, plain_attributes
from utils.errors import InputError
from utils.files import TEMPORARY, atomic_path

_CURE = "remove it"
# Differences in these do not make features of another kind.
_NOT_COMPARED = {"checkpoint", "ffmpeg", "software"}


class FeatureWriter:
    """Features of one kind, described by ``attributes``, for the HDF5 file ``path``: one data set per video id."""

    def __init__(self, path: str | Path, attributes: dict):
        self.path, self.attributes = Path(path), attributes
        self.parts = self.path.with_suffix(".parts")

    def check(self):
        """InputError if the file or its parts hold features made in another way, or cannot be read."""
        for path in filter(Path.exists, [self.path, *self._part_files()[:1]]):
            self._check_attributes(path)

    def clean(self):
        """Remove what killed writers left unfinished. Nobody else may be writing."""
        for folder in filter(Path.is_dir, (self.path.parent, self.parts)):
            for leftover in folder.glob(f"{TEMPORARY}*.h5"):
                leftover.unlink()

    def merged(self) -> set[str]:
        """The ids in the file itself."""
        return _ids(self.path) if self.path.exists() else set()

    def written(self) -> set[str]:
        """The ids in parts that wait to be merged."""
        return set().union(*map(_ids, self._part_files()))

    def write_part(self, features: dict[str, np.ndarray]):
        """Store ``features``, id -> array, all or nothing."""
        import h5py  # here, as in features/hdf5.py

        self.parts.mkdir(exist_ok=True)
        # A name of its own: writers on other machines need not be asked.
        with atomic_path(self.parts / f"{uuid.uuid4().hex}.h5") as aside, h5py.File(aside, "w") as file:
            self._write_attributes(file)
            for video in sorted(features):
                file.create_dataset(video, data=features[video], track_times=False)

    def merge(self) -> int:
        """Make one file of the file and the parts, in the order of ids, and return the number of ids in it.

        Needs free space for the whole; the old file and the parts go only when the new one is there.
        """
        import h5py

        parts = self._part_files()
        if not parts:
            return len(self.merged())
        with ExitStack() as stack:
            where = {}
            # Of an id in a part and in the file, which a kill between the last two steps leaves, the file's counts.
            for path in [*parts, *([self.path] if self.path.exists() else [])]:
                where |= dict.fromkeys(_ids(path), path)
            with atomic_path(self.path) as aside, h5py.File(aside, "w") as merged:
                self._write_attributes(merged)
                _copy(where, merged, stack)
        shutil.rmtree(self.parts)
        return len(where)

    def _part_files(self):
        return sorted(path for path in self.parts.glob("*.h5") if not path.name.startswith("."))

    def _write_attributes(self, file):
        for name, value in self.attributes.items():
            file.attrs[name] = value

    def _check_attributes(self, path):
        with _opened(path) as file:
            attributes = plain_attributes(file, _CURE)
        if "encoder" not in attributes:
            raise InputError(f"{path}: not a file of ours (no attribute 'encoder'); move it away to extract features")
        for name in self.attributes.keys() | attributes.keys() - _NOT_COMPARED:
            old, new = attributes.get(name), self.attributes.get(name)
            if name not in _NOT_COMPARED and old != new:
                raise InputError(
                    f"{path}: made with {name} {old}, not {new}; pass the options it was made with, give another"
                    " --data_root, or remove it"
                )


def _copy(where, merged, stack):
    files = {}
    for video in sorted(where):
        path = where[video]
        if path not in files:
            # Parts are many and small; few stay open at once.
            if len(files) >= 64:
                files.pop(next(iter(files))).close()
            files[path] = stack.enter_context(_opened(path))
        try:
            files[path].copy(own_dataset(files[path], video), merged, video)
        except DAMAGED as error:
            raise explain(error, path, _CURE, video) from None


def _ids(path):
    with _opened(path) as file:
        return names_in(file, _CURE)


def _opened(path):
    return open_hdf5(path, _CURE)
