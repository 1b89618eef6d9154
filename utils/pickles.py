"""Read ``.npy`` files that hold a dictionary, without running what they contain.

Such a file is a pickle, and unpickling calls whatever functions the file names. This reader goes through the pickle's
instructions itself and knows only those that build data: numbers, strings, lists, tuples, dicts and numpy arrays of
numbers or strings. Nothing is imported by name, so anything else is refused before it can do harm.
"""

import os
import pickletools

import numpy as np

from utils.errors import InputError
from utils.pickle_machine import Builder
from utils.pickle_values import DamagedError, RefusedError, Skipped

# Bytes up to which an array is read with the rest of its pickle.
SMALL = 1024


def map_npy_dict(path):
    """``load_npy_dict`` with an ArrayInFile in the place of each array of some size, whose values are not read.

    So a dictionary of 20 GB opens in the memory of its keys. Pickles of old protocols, which hold arrays as text, do
    not allow this: of those the arrays come whole.
    """
    try:
        return load_npy_dict(path, skip_arrays=True)
    except InputError:
        return load_npy_dict(path)


def load_npy_dict(path, skip_arrays=False):
    """Return the dict that ``np.save(path, {...})`` stored.

    Arrays inside are views of the bytes that were read (read-only), so the file's content is held once.
    Raises InputError when the file is missing, damaged, of another kind, or holds anything but data.
    """
    try:
        with open(path, "rb") as file:
            value = _read_npy_object(BoundedFile(file, SMALL if skip_arrays else None))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (RefusedError, DamagedError) as error:
        raise InputError(f"{path}: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds {type(value).__name__}, expected a dictionary saved by numpy.save")
    return value


def _read_npy_object(file):
    try:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = read_header[version](file)
    except DamagedError:
        raise
    except Exception as error:  # numpy parses the header as Python source, which fails in many ways
        raise DamagedError(f"not a .npy file ({str(error)[:80]}); download or save it again") from None
    if not dtype.hasobject or shape != ():
        raise DamagedError(f"holds an array {dtype}{shape}, expected a dictionary saved by numpy.save")
    return read_data_pickle(file)


def read_data_pickle(file):
    """Build the value of the pickle at the (bounded) file's position; RefusedError or DamagedError if it is no data."""
    try:
        value = Builder().run(pickletools.genops(file))
    except (RefusedError, DamagedError):
        raise
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, EOFError, MemoryError) as error:
        raise DamagedError(f"damaged or truncated ({str(error)[:80]}); download or save it again") from None
    return value


class BoundedFile:
    """A file that refuses to read past its end, so that a forged length cannot make us allocate it.

    Reads of more than ``largest`` bytes are skipped (Skipped).
    """

    def __init__(self, file, largest=None):
        self.file, self.largest = file, largest
        self.size = os.fstat(file.fileno()).st_size

    def tell(self):
        return self.file.tell()

    def read(self, count):
        if count > self.size - self.file.tell():
            raise DamagedError("damaged or truncated (it ends early); download or save it again")
        if self.largest is not None and count > self.largest:
            skipped = Skipped(self.file.tell(), count)
            self.file.seek(count, os.SEEK_CUR)
            return skipped
        return self.file.read(count)

    def readline(self):
        return self.file.readline(4096)
