"""Arrays as they stand in a pickle: numbers and strings only, in memory or left where they lie in the file."""

import math
import re
from typing import Any, Literal, NamedTuple

import numpy as np

AGAIN = "download or save it again"


class RefusedError(Exception):
    """The pickle asks for something that is not data."""


class DamagedError(Exception):
    """The file is truncated or is not what its header says."""


class ArrayInFile(NamedTuple):
    """Where in a file the values of an array lie."""

    offset: int
    dtype: np.dtype
    shape: tuple
    order: Literal["C", "F"]


class Skipped(NamedTuple):
    """Bytes that were not read."""

    offset: int
    count: int

    def __len__(self):
        return self.count


class PickledArray:
    """An array while its pickle is being read: first made empty, then given its content."""

    __slots__ = ("value",)

    def build(self, state: tuple) -> Any:
        _, shape, dtype, fortran, data = state
        if dtype.name == "O":
            if shape not in ((), (len(data),)) or type(data) is not list:
                raise RefusedError("holds an object array of several dimensions, expected plain data")
            self.value = data[0] if shape == () else data
        else:
            self.value = array_of(data, dtype, shape, "F" if fortran else "C")
        return self.value


class PickledDType:
    """A numpy dtype of numbers or strings: ``name`` such as f4, and its byte order."""

    __slots__ = ("name", "order")

    def __init__(self, name: Any, *_):
        if not isinstance(name, str) or not re.fullmatch(r"[<>|=]?([biufSU]\d{1,6}|O8?|\?)", name):
            raise RefusedError(f"holds an array of type {brief(name)}, expected numbers or strings")
        self.order, self.name = "=", name.lstrip("<>|=").replace("O8", "O")

    def build(self, state: tuple) -> "PickledDType":
        self.order = {"<": "<", ">": ">"}.get(state[1], "=")
        return self

    def numpy(self):
        if self.name == "O":
            raise RefusedError("holds Python objects inside an array, expected numbers or strings")
        return np.dtype(self.order + self.name)


def array_of(data: Any, dtype: PickledDType, shape: tuple, order: Literal["C", "F"]) -> Any:
    if len(shape) > 32 or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError("the shape of an array is none")
    if isinstance(data, Skipped):
        if math.prod(shape) * dtype.numpy().itemsize != data.count or order not in ("C", "F"):
            raise DamagedError(f"damaged (an array is not as long as its shape says); {AGAIN}")
        return ArrayInFile(data.offset, dtype.numpy(), shape, order)
    return np.frombuffer(data, dtype.numpy()).reshape(shape, order=order)


def brief(value: Any) -> str:
    """Of a text its beginning, of anything else its type: to print lists within lists can take for ever."""
    return repr(value[:40]) if isinstance(value, str) else f"a {type(value).__name__}"


def scalar(dtype: PickledDType, data: Any) -> Any:
    value = array_of(data, dtype, (), "C")
    if isinstance(value, ArrayInFile):
        raise ValueError("one number of the size of an array")
    return value.item()
