"""The stack machine of the pickle format, for the instructions that build data and no others."""

from utils.pickle_values import KNOWN, Array, DamagedError, DType, RefusedError, content

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
