"""What the pickle of a dictionary of arrays may name: numpy's arrays and dtypes of numbers and strings, and no more."""

import math
import re
from typing import NamedTuple

import numpy as np


class RefusedError(Exception):
    """The pickle asks for something that is not data."""


class DamagedError(Exception):
    """The file is truncated or is not what its header says."""


class ArrayInFile(NamedTuple):
    """Where in a file the values of an array lie."""

    offset: int
    dtype: np.dtype
    shape: tuple
    order: str


class Skipped(NamedTuple):
    """Bytes that were not read."""

    offset: int
    count: int

    def __len__(self):
        return self.count


class Array:
    """An array while its pickle is being read: first made empty, then given its content."""

    value = None

    def build(self, state):
        _, shape, dtype, fortran, data = state
        if dtype.name == "O":
            if shape not in ((), (len(data),)):
                raise RefusedError("holds an object array of several dimensions, expected plain data")
            self.value = data[0] if shape == () else list(data)
        else:
            self.value = _array(data, dtype, shape, "F" if fortran else "C")


class DType:
    """A numpy dtype of numbers or strings: ``name`` such as f4, and its byte order."""

    def __init__(self, name, *_):
        if not isinstance(name, str) or not re.fullmatch(r"[<>|=]?([biufSU]\d{1,6}|O8?|\?)", name):
            raise RefusedError(f"holds an array of type {str(name)[:40]!r}, expected numbers or strings")
        self.order, self.name = "=", name.lstrip("<>|=").replace("O8", "O")

    def build(self, state):
        self.order = {"<": "<", ">": ">"}.get(state[1], "=")

    def numpy(self):
        if self.name == "O":
            raise RefusedError("holds Python objects inside an array, expected numbers or strings")
        return np.dtype(self.order + self.name)


def _array(data, dtype, shape, order):
    if isinstance(data, Skipped):
        if math.prod(shape) * dtype.numpy().itemsize != data.count or order not in ("C", "F"):
            raise DamagedError("damaged (an array is not as long as its shape says); download or save it again")
        return ArrayInFile(data.offset, dtype.numpy(), shape, order)
    return np.frombuffer(data, dtype.numpy()).reshape(shape, order=order)


def _encode(text, encoding):
    # How protocol 2 stores bytes; every other codec could do more than copy them.
    if encoding != "latin1":
        raise RefusedError(f"asks for the codec {str(encoding)[:40]!r}, expected plain data")
    return text.encode("latin1")


def _scalar(dtype, data):
    return _array(data, dtype, (), "C").item()


def _in_numpy(module, name):
    return {(f"numpy.core.{module}", name), (f"numpy._core.{module}", name)}


_NDARRAY = object()
KNOWN = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): DType,
    ("_codecs", "encode"): _encode,
    **dict.fromkeys(_in_numpy("multiarray", "_reconstruct"), lambda *_: Array()),
    **dict.fromkeys(_in_numpy("multiarray", "scalar"), _scalar),
    **dict.fromkeys(_in_numpy("numeric", "_frombuffer"), _array),
}


def content(item):
    return item.value if isinstance(item, Array) else item
