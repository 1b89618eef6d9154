"""Read ``.npy`` files that hold a dictionary, without running what they contain.

Such a file is a pickle behind a header. ``map_npy_dict`` opens one of any size in the memory of its keys.
"""

import os

import numpy as np

from features.data_pickle import read_data_pickle
from features.pickled_arrays import AGAIN, DamagedError, RefusedError, Skipped
from utils.errors import InputError, first_line
from utils.files import check_regular

# Bytes up to which an array is read with the rest of its pickle.
_SMALL = 1024
# A clip takes some 36 reads: 200,000 clips. A read builds a hundred bytes at most.
_MOST_READS = 8_000_000


def map_npy_dict(path: str | os.PathLike) -> dict:
    """``load_npy_dict`` with an ArrayInFile in the place of each array of some size, whose values are not read.

    So a dictionary of 20 GB opens in the memory of its keys. Pickles of old protocols, which hold arrays as text, do
    not allow this: of those the arrays come whole.
    """
    try:
        return _load(path, _SMALL)
    except DamagedError:
        return load_npy_dict(path)
    except RefusedError as error:
        raise InputError(f"{path}: {error}") from None


def load_npy_dict(path: str | os.PathLike) -> dict:
    """Return the dict that ``np.save(path, {...})`` stored; its keys are strings or whole numbers.

    Arrays inside are views of the bytes that were read (read-only), so the file's content is held once.
    Raises InputError when the file is missing, damaged, of another kind, or holds anything but data.
    """
    try:
        return _load(path)
    except (RefusedError, DamagedError) as error:
        raise InputError(f"{path}: {error}") from None


def _load(path, largest=None):
    try:
        check_regular(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    try:
        with open(path, "rb") as file:
            value = _read_npy_object(BoundedFile(file, largest))
    except OSError as error:
        error.filename = path  # which may be as good as ever
        raise
    if not isinstance(value, dict):
        raise RefusedError(f"holds {type(value).__name__}, expected a dictionary saved by numpy.save")
    return value


def _read_npy_object(file):
    try:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = read_header[version](file)
    except (DamagedError, OSError):
        raise
    except Exception as error:  # numpy parses the header as Python source, which fails in many ways
        raise DamagedError(f"not a .npy file ({first_line(error, 80)}); {AGAIN}") from None
    if not dtype.hasobject or shape != ():
        raise DamagedError(f"holds an array {dtype}{shape}, expected a dictionary saved by numpy.save")
    return read_data_pickle(file)


class BoundedFile:
    """A file that refuses to read past its end, so that a forged length cannot make us allocate it, or for ever.

    Reads of more than ``largest`` bytes are skipped (Skipped).
    """

    def __init__(self, file, largest=None):
        self.file, self.largest, self.reads = file, largest, 0
        self.size = os.fstat(file.fileno()).st_size

    def read(self, count):
        self.reads += 1
        if self.reads > _MOST_READS:
            raise RefusedError(f"holds too many values for a dictionary ({_MOST_READS:,} reads); store them as HDF5")
        if self.largest is not None and count > self.largest:
            self._check(count)
            skipped = Skipped(self.file.tell(), count)
            self.file.seek(count, os.SEEK_CUR)
            return skipped
        if count > _SMALL:
            self._check(count)
        content = self.file.read(count)
        if len(content) < count:
            self._check(count)
        return content

    def _check(self, count):
        if count > self.size - self.file.tell():
            raise DamagedError(f"damaged or truncated (it ends early); {AGAIN}")

    def readline(self):
        return self.file.readline(4096)
