"""Read ``.npy`` files that hold a dictionary, without running what they contain.

Such a file is a pickle, and unpickling calls whatever functions the file names. This reader goes through the pickle's
instructions itself and knows only those that build data: numbers, strings, lists, tuples, dicts and numpy arrays of
numbers or strings. Nothing is imported by name, so anything else is refused before it can do harm.
"""

import math
import os
import pickletools
import re
from typing import NamedTuple

import numpy as np

from utils.errors import InputError

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


_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_CONTAINERS = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NOTHING = {"PROTO", "FRAME", "STOP"}


class Builder:
    """``run(instructions)`` of pickletools.genops gives the value; RefusedError or DamagedError if it is no data."""

    def __init__(self):
        self.stack, self.marks, self.memo = [], [], {}

    def run(self, instructions):
        name = None
        for opcode, argument, _ in instructions:
            name = opcode.name
            self.step(name, argument)
        if name != "STOP" or len(self.stack) != 1:
            raise DamagedError("damaged or truncated (the pickle does not end); download or save it again")
        return content(self.stack.pop())

    def step(self, name, argument):
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _CONTAINERS:
            self.stack.append(_CONTAINERS[name]())
        elif name in _SHORT_TUPLES:
            self.stack.append(tuple(content(item) for item in self.pop(_SHORT_TUPLES[name])))
        elif name not in _NOTHING:
            method = getattr(self, name.lower(), None)
            if method is None:
                raise RefusedError(f"asks to run the pickle instruction {name}, expected plain data; not loaded")
            method(argument)

    def pop(self, count):
        if count > len(self.stack):
            raise DamagedError("damaged (its pickle is malformed); download or save it again")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def pop_to_mark(self):
        start = self.marks.pop()
        items = [content(item) for item in self.stack[start:]]
        del self.stack[start:]
        return items

    def mark(self, _):
        self.marks.append(len(self.stack))

    def tuple(self, _):
        self.stack.append(tuple(self.pop_to_mark()))

    def memoize(self, _):
        self.memo[len(self.memo)] = self.stack[-1]

    def binput(self, index):
        self.memo[index] = self.stack[-1]

    long_binput = binput

    def binget(self, index):
        self.stack.append(self.memo[index])

    long_binget = binget

    def append(self, _):
        (item,) = self.pop(1)
        list.append(self.stack[-1], content(item))

    def appends(self, _):
        items = self.pop_to_mark()
        list.extend(self.stack[-1], items)

    def setitem(self, _):
        key, value = self.pop(2)
        dict.__setitem__(self.stack[-1], content(key), content(value))

    def setitems(self, _):
        items = self.pop_to_mark()
        dict.update(self.stack[-1], zip(items[::2], items[1::2], strict=True))

    def stack_global(self, _):
        self.known(*self.pop(2))

    def known(self, module, name):
        try:
            self.stack.append(KNOWN[module, name])
        except KeyError:
            raise RefusedError(
                f"asks to load {str(module)[:60]}.{str(name)[:60]}, which is not data; nothing was run and the file was"
                " not loaded: get it from a source you trust"
            ) from None

    def reduce(self, _):
        function, arguments = self.pop(2)
        if not callable(function) or not isinstance(arguments, tuple):
            raise DamagedError("damaged (its pickle is malformed); download or save it again")
        self.stack.append(function(*arguments))

    def build(self, _):
        (state,) = self.pop(1)
        if not isinstance(self.stack[-1], Array | DType):
            raise RefusedError("sets the state of an object that is not an array; not loaded")
        self.stack[-1].build(state)


# ``global`` is a keyword, so the method of that instruction is added by name.
setattr(Builder, "global", lambda self, argument: self.known(*argument.split(" ", 1)))
