"""Pickles of plain data, read without running what they contain.

Unpickling calls whatever functions a pickle names. This reader is Python's own unpickler, left with the instructions
that build data: numbers, strings, lists, tuples, dicts and numpy arrays of numbers or strings. Nothing is imported by
name, so anything else is refused before it can do harm. What is built is bounded by the bytes that the file holds, and
in the number of values and their nesting.
"""

import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

from features.pickled_arrays import (
    AGAIN,
    ArrayInFile,
    DamagedError,
    PickledArray,
    PickledDType,
    RefusedError,
    array_of,
    brief,
    scalar,
)
from utils.errors import first_line

# The released splits are four levels deep: split, class, list of ids.
_DEEPEST, _MOST_ITEMS = 8, 8_000_000


def _in_numpy(module, name):
    return {(f"numpy.core.{module}", name), (f"numpy._core.{module}", name)}


_KNOWN = {
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): PickledDType,
    **dict.fromkeys(_in_numpy("multiarray", "_reconstruct"), lambda *_: PickledArray()),
    **dict.fromkeys(_in_numpy("multiarray", "scalar"), scalar),
    **dict.fromkeys(_in_numpy("numeric", "_frombuffer"), array_of),
}


class _Instructions(dict):
    """Opcode -> method of the unpickler, for those that build data; what is missing is refused."""

    def __missing__(self, code):
        name = next((opcode.name for opcode in pickletools.opcodes if ord(opcode.code) == code), None)
        if name is None:
            raise ValueError(f"there is no pickle instruction {code}")
        raise RefusedError(f"asks to run the pickle instruction {name}, expected plain data; not loaded")


_STOCK = """
APPEND APPENDS BINBYTES BINBYTES8 BINFLOAT BININT BININT1 BININT2 BINPUT BINUNICODE BINUNICODE8 EMPTY_DICT EMPTY_LIST
EMPTY_TUPLE GLOBAL LONG_BINPUT MARK MEMOIZE NEWFALSE NEWTRUE NONE PROTO REDUCE SHORT_BINBYTES SHORT_BINUNICODE
STACK_GLOBAL STOP
"""


class DataUnpickler(pickle._Unpickler):
    """Python's unpickler of a BoundedFile with the instructions for data only; arrays are made by our own functions."""

    # Those of its base, of which hints know the part in C.
    stack: list
    metastack: list[list]
    memo: dict[int, Any]
    append: Callable[[object], None]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list]

    dispatch = _Instructions(
        (code, pickle._Unpickler.dispatch[code]) for code in (getattr(pickle, name)[0] for name in _STOCK.split())
    )

    def __init__(self, file):
        super().__init__(file)
        # Text stands in the file before it is encoded, so no file of numpy's needs more than its own size.
        self.bytes_left = file.size

    def find_class(self, module, name):
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise RefusedError(
                f"asks to load {' '.join(f'{module[:60]}.{name[:60]}'.split())}, which is not data; nothing was run and"
                " the file was not loaded: get it from a source you trust"
            ) from None

    def _encode(self, text, encoding):
        # How protocol 2 stores bytes; every other codec could do more than copy them.
        if encoding != "latin1":
            raise RefusedError(f"asks for the codec {brief(encoding)}, expected plain data")
        self.bytes_left -= len(text)
        if self.bytes_left < 0:
            raise RefusedError("copies its text over and over, expected plain data; not loaded")
        return text.encode("latin1")

    def load_frame(self):
        # A frame only says how much to read ahead; reading on without it lets arrays within it be skipped.
        self.read(8)

    def load_long1(self):
        size = self.read(1)[0]
        if size > 9:
            raise RefusedError("holds a whole number of more than 64 bits, expected plain data; not loaded")
        self.append(pickle.decode_long(self.read(size)))

    def load_bytearray8(self):
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    def load_tuple(self):
        self._append_tuple(self.pop_mark())

    def load_tuple1(self):
        self._append_tuple([self.stack.pop()])

    def load_tuple2(self):
        self._append_tuple([self.stack.pop(), self.stack.pop()][::-1])

    def load_tuple3(self):
        self._append_tuple([self.stack.pop(), self.stack.pop(), self.stack.pop()][::-1])

    def _append_tuple(self, items):
        """Tuples are arguments, such as shapes: these nest twice, and others would be forged to be hashed for ever."""
        if any(type(inner) is tuple for item in items if type(item) is tuple for inner in item):
            raise RefusedError("holds tuples within tuples, expected plain data; not loaded")
        self.append(tuple(items))

    def load_binget(self):
        self._append_known(self.read(1)[0])

    def load_long_binget(self):
        self._append_known(int.from_bytes(self.read(4), "little"))

    def _append_known(self, index):
        item = self.memo[index]
        self.append(item.value if type(item) is PickledArray else item)

    def load_setitem(self):
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key], [value])

    def load_setitems(self):
        items = self.pop_mark()
        self._set(items[::2], items[1::2])

    def _set(self, keys, values):
        if not all(type(key) is str or type(key) is int for key in keys):
            raise RefusedError("holds a dictionary whose keys are neither strings nor whole numbers; not loaded")
        dict.update(self.stack[-1], zip(keys, values, strict=True))

    def load_build(self):
        state = self.stack.pop()
        if not isinstance(self.stack[-1], PickledArray | PickledDType):
            raise RefusedError("sets the state of an object that is not an array; not loaded")
        self.stack[-1] = self.stack[-1].build(state)


for _method in [name for name in vars(DataUnpickler) if name.startswith("load_")]:
    _code = getattr(pickle, _method.removeprefix("load_").upper())[0]
    DataUnpickler.dispatch[_code] = getattr(DataUnpickler, _method)


_MALFORMED = (ValueError, TypeError, LookupError, AttributeError, OverflowError, EOFError, pickle.UnpicklingError)


def read_data_pickle(file: Any) -> Any:
    """Build the value of the pickle at the BoundedFile's position; RefusedError or DamagedError if it is no data."""
    try:
        unpickler = DataUnpickler(file)
        value = unpickler.load()
        if unpickler.stack or unpickler.metastack:
            raise DamagedError(f"damaged or truncated (the pickle does not end); {AGAIN}")
        _check_nesting(value)
    except _MALFORMED as error:
        raise DamagedError(f"damaged or truncated ({first_line(error, 80)}); {AGAIN}") from None
    return value


_CONTAINERS = frozenset((list, tuple, dict))
_LEAVES = frozenset((str, int, float, bool, bytes, type(None), np.ndarray, ArrayInFile))


def _check_nesting(value):
    """RefusedError for values that are nested deep, hold themselves, or stand in one another so often that to print or
    compare them would take for ever; ValueError for text that is none."""
    level, count = _containers([value]), 0
    for _ in range(_DEEPEST):
        inside = []
        for container in level:
            count += len(container)
            if count > _MOST_ITEMS:
                raise RefusedError(f"holds more than {_MOST_ITEMS:,} values, expected plain data; not loaded")
            inside += _containers(container)
        level = inside
        if not level:
            return
    raise RefusedError(f"nested more than {_DEEPEST} levels deep, expected plain data; not loaded")


def _containers(container):
    """The lists, tuples and dicts in one of these, once the rest was looked at."""
    items = [*container, *container.values()] if type(container) is dict else container
    inside = []
    for item in items:
        if type(item) in _CONTAINERS:
            inside.append(item)
        elif type(item) not in _LEAVES:
            raise ValueError(f"it holds half of a {type(item).__name__}")
        elif type(item) is str:
            item.encode()
    return inside
