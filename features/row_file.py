"""A ``.npy`` file as rows that are written in place, in any order, by several processes; lists of which are there."""

import contextlib
import io
import json
import math
import os
import weakref
from typing import Any

import numpy as np

from features.pickled_arrays import ArrayInFile
from utils.files import atomic_path, check_regular


def read_header(path: str) -> ArrayInFile:
    """The ArrayInFile of a ``.npy`` file; ValueError or OSError if it is none."""
    check_regular(path)
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(file)
        return ArrayInFile(file.tell(), dtype, shape, "F" if fortran else "C")


class RowFile:
    """The rows, of ``shape`` and ``dtype``, of the file ``path``. One that was never written holds zeros, and no disk.

    An OSError of what is written or read names the file.
    """

    def __init__(self, path: str):
        header = read_header(path)
        self.path, self.shape, self.dtype, self.offset = path, header.shape[1:], header.dtype, header.offset
        self.row_bytes = math.prod(self.shape) * self.dtype.itemsize
        self.handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.handle)

    @classmethod
    def make(cls, path: str, shape: tuple[int, ...], dtype: np.dtype) -> "RowFile":
        """The file of that name, made without a row if it is not there."""
        if not os.path.exists(path):
            with atomic_path(path) as aside:
                np.save(aside, np.empty((0, *shape), dtype))
        return cls(path)

    def resize(self, rows: int):
        """Let the file have ``rows`` rows. At every moment it is at least as long as its header says."""
        # numpy leaves room in a header for any number of rows: its length stays.
        header, descr = io.BytesIO(), np.lib.format.dtype_to_descr(self.dtype)
        described = {"descr": descr, "fortran_order": False, "shape": (rows, *self.shape)}
        np.lib.format.write_array_header_1_0(header, described)
        assert header.tell() == self.offset
        size = self.offset + rows * self.row_bytes
        if size > os.path.getsize(self.path):
            os.truncate(self.path, size)
        self._put(header.getbuffer(), 0)
        os.truncate(self.path, size)

    def write(self, row: int, values: Any):
        """Write the C-contiguous ``values`` as ``row``."""
        self._put(memoryview(values).cast("B"), self.offset + row * self.row_bytes)

    def _put(self, data, offset):
        try:
            while data:
                count = os.pwrite(self.handle, data, offset)
                data, offset = data[count:], offset + count
        except OSError as error:
            error.filename = self.path
            raise

    def read(self, row: int) -> bytes:
        """The bytes of ``row``, fewer where the file ends."""
        return os.pread(self.handle, self.row_bytes, self.offset + row * self.row_bytes)

    def sync(self):
        """Let all that was written be on disk before anything else happens."""
        os.fsync(self.handle)


class DoneLists:
    """The lists ``<array>.<run>.done`` of which rows of ``array`` are on disk, ids with their checksums.

    A list of its own for each process and run: none writes into another's, or behind a line that a kill cut short.
    """

    def __init__(self, array: str):
        self.stem = os.path.splitext(array)[0]
        self.path = f"{self.stem}.{os.urandom(4).hex()}.done"

    def add(self, crc32: dict[str, int]):
        """Say that the rows of these ids are on disk: all of them, or none. An OSError names the list."""
        try:
            with open(self.path, "ab", buffering=0) as file:
                file.write(json.dumps(crc32).encode() + b"\n")
                os.fsync(file.fileno())
        except OSError as error:
            error.filename = self.path
            raise

    def paths(self) -> list[str]:
        """Those of all processes and runs."""
        folder, stem = os.path.split(f"{self.stem}.")
        names = os.listdir(folder or ".")
        return [os.path.join(folder, name) for name in names if name.startswith(stem) and name.endswith(".done")]

    def read(self) -> dict[str, int]:
        """The checksum of each id of all lists; lines that a kill cut short do not count."""
        done = {}
        for path in self.paths():
            with open(path, "rb") as file:
                for line in file:
                    with contextlib.suppress(ValueError, TypeError):  # cut short
                        done |= json.loads(line)
        return done
