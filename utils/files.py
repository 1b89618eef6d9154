"""Files that are whole or absent, locks, and readers of text that end in one line whatever a file holds."""

import contextlib
import csv
import errno
import fcntl
import io
import json
import os
import re
import stat
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from utils.errors import InputError, first_line

# Names of unfinished files begin with it: what bears it may be removed once nobody writes, nothing else.
TEMPORARY = ".avcil-"
# Largest text file that is read: some twenty times the annotations of VGGSound. Values in memory take up to 16 times as
# much, containers more: those are counted.
LARGEST_TEXT = 64 * 2**20
_MOST_CONTAINERS, _DEEPEST = 2_000_000, 32
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_FORMULA = re.compile(r"'*([=+@\t\r]|-(?![\w.-]*$))")
_LONG_NUMBER = re.compile(r"\d{19}")


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[str]:
    """Yield a temporary path beside ``path``; it takes the place of ``path`` when the block ends well.

    The file is flushed to disk before the rename, so that a power cut leaves the old file or the new one.
    On an error inside the block the temporary file is removed and ``path`` is left as it was; an OSError that names no
    file, or the temporary one, then names ``path``.
    """
    path = os.fspath(path)
    folder, name = os.path.split(path)
    # The suffix is kept because writers such as matplotlib choose the format by it.
    stem, suffix = os.path.splitext(name)
    aside = None
    try:
        handle, aside = tempfile.mkstemp(prefix=f"{TEMPORARY}{stem[:40]}-", suffix=suffix, dir=folder or ".")
        os.close(handle)
        yield aside
        sync(aside)
        os.chmod(aside, 0o666 & ~UMASK)
        os.replace(aside, path)
    except BaseException as error:
        if aside:
            remove(aside)
        if isinstance(error, OSError) and (aside is None or error.filename in (None, aside)):
            error.filename = path
        raise


def write_text(path: str | os.PathLike, text: str):
    """Write ``text`` (UTF-8) to ``path`` atomically."""
    with atomic_path(path) as aside, open(aside, "w", encoding="utf-8") as file:
        file.write(text)


def write_json(path: str | os.PathLike, value: object):
    """Write ``value`` as indented JSON to ``path`` atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """``rows`` as csv. A text that a spreadsheet would take for a formula gets a ``'`` in front, as its users write it.

    Ids that begin with a hyphen stay: from letters, digits, ``_``, ``-`` and dots no formula comes. See ``of_cell``.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_no_formula(value) for value in row] for row in rows)
    return text.getvalue()


def _no_formula(value):
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def of_cell(text: str) -> str:
    """The text of which ``csv_text`` made this one."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def sync(path: str | os.PathLike):
    """Let what was written to ``path`` be on disk before anything else happens."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def remove(path: str | os.PathLike):
    """Remove the file if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


# Read once: it can only be read by setting it, which threads would do to one another.
UMASK = os.umask(0)
os.umask(UMASK)


@contextlib.contextmanager
def file_lock(path: str | os.PathLike, what: str):
    """Hold the lock file ``path``; InputError if another process does. It ends with this process, however that ends.

    A POSIX record lock: unlike ``flock`` it is not inherited by worker processes, which may outlive a killed parent.
    The file keeps what it holds, and a link is not followed: it may lead to a file that is no lock.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise InputError(f"{path}: a symbolic link in the place of our lock file; remove the link") from None
    with open(handle, "rb+", buffering=0) as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{path}: another process is writing {what}; wait for it, or stop it") from None
        yield


# What network storage answers now and then, and the seconds waited before it is asked again.
PASSING = (errno.EIO, errno.ESTALE, errno.EAGAIN)
WAITS = (0.1, 0.5, 2, 8, 30)


def retried(read: Callable, path: str | os.PathLike):
    """``read()``, tried again where it fails in a way that may pass; the OSError that stays names ``path``."""
    waits = iter(WAITS)
    while True:
        try:
            return read()
        except OSError as error:
            seconds = next(waits, None)
            if error.errno not in PASSING or seconds is None:
                error.filename = error.filename or os.fspath(path)
                raise
            time.sleep(seconds)


class RandomAccessFile:
    """A file kept open for reading at any place, by several threads too."""

    def __init__(self, path: str | os.PathLike):
        self.path = path
        self.handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.handle)

    def read_into(self, array: Any, offset: int):
        """Fill the C-contiguous ``array`` from ``offset`` on; OSError if the file ends early."""
        view, done = memoryview(array).cast("B"), 0
        while done < len(view):
            count = retried(lambda: os.preadv(self.handle, [view[done:]], offset + done), self.path)  # noqa: B023
            if not count:
                raise OSError(errno.EIO, "the file ends early, make it again", self.path)
            done += count


def check_regular(path: str | os.PathLike):
    """InputError if ``path`` is something else than a file, such as a pipe, which would be waited for for ever.

    OSError if it is not there or is a folder.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: not a regular file; put a copy of the file in its place")


def read_lines(path: str | os.PathLike, what: str = "text file", cure: str = "save it again as UTF-8") -> list[str]:
    """The lines of a text file that are not empty, without white space around them.

    InputError, as of all readers here: ``<path>: not a readable <what> (reason); <cure>``. OSError if it is not there.
    """
    lines = (line.strip() for line in re.split("\r\n?|\n", _read_text(path, what, cure)))
    return [line for line in lines if line]


def read_rows(
    path: str | os.PathLike, what: str = "csv file", cure: str = "save it again as UTF-8", delimiter: str = ","
) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of the line, fields) for each row of a csv file that is not empty."""
    reader = csv.reader(io.StringIO(_read_text(path, what, cure), newline=""), delimiter=delimiter)
    try:
        yield from ((reader.line_num, row) for row in reader if row)
    except csv.Error as error:
        raise _unreadable(path, what, error, cure) from None


def read_table(
    path: str | os.PathLike, columns: tuple[str, ...], what: str = "csv file", cure: str | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (number of the line, {column: value}) for each row under a header that has ``columns`` among others.

    InputError also if a column is missing, stands there twice, or a row has not as many values as the header.
    """
    rows = read_rows(path, what, cure or "save it again as UTF-8")
    _, header = next(rows, (1, []))
    header = [name.strip() for name in header]
    missing = [name for name in columns if name not in header]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}; {cure or 'the header is ' + ','.join(columns)}")
    if len(set(header)) < len(header):
        raise InputError(f"{path}: a column stands in its header twice; rename or remove one of the two")
    for number, row in rows:
        if len(row) != len(header):
            raise InputError(f"{path}, line {number}: not as many values as columns; quote commas")
        yield number, dict(zip(header, row, strict=True))


def read_json(path: str | os.PathLike, what: str = "JSON file", cure: str = "remove it, or make it again"):
    """The value of a JSON file: at most 32 levels deep, whole numbers of at most 64 bits, no half characters."""
    text = _read_text(path, what, cure)
    try:
        if text.count("[") + text.count("{") > _MOST_CONTAINERS:
            raise ValueError("it holds too many lists")
        value = json.loads(text, parse_int=_int64 if _LONG_NUMBER.search(text) else None)
        _check_depth(value)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, what, error, cure) from None
    return value


def _read_text(path, what, cure):
    check_regular(path)
    with open(path, encoding="utf-8-sig", newline="") as file:
        if os.fstat(file.fileno()).st_size > LARGEST_TEXT:
            raise _unreadable(path, what, f"it is larger than {LARGEST_TEXT >> 20} MB", cure)
        try:
            text = file.read()
        except UnicodeDecodeError as error:
            raise _unreadable(path, what, f"not UTF-8 at byte {error.start}", cure) from None
        except OSError as error:
            error.filename = os.fspath(path)
            raise
    if "\0" in text:
        raise _unreadable(path, what, "it holds zero bytes", cure)
    return text


def _unreadable(path, what, reason, cure):
    reason = "nested too deep" if isinstance(reason, RecursionError) else first_line(reason)
    return InputError(f"{path}: not a readable {what} ({reason}); {cure}")


def _int64(digits):
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
        raise ValueError("a number in it is too large")
    return int(digits)


def _check_depth(value):
    level = [value]
    for _ in range(_DEEPEST):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _items(outer)]
        if not level:
            return
    raise ValueError("nested too deep")


def _items(outer):
    return [item for item in (outer.values() if isinstance(outer, dict) else outer) if isinstance(item, dict | list)]
