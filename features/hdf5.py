"""HDF5 files read for what they hold themselves: nothing that lies elsewhere is followed, errors are named right."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import numpy as np

from utils.errors import InputError, first_line, printable
from utils.files import check_regular

if TYPE_CHECKING:  # else where it is used: few runs read HDF5, and all would wait for it
    import h5py

# What h5py raises on files and entries that are damaged.
DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError)
_LARGEST_ATTRIBUTE = 1 << 16
# Bytes of one clip's feature (VideoMAE's has 5 MB), unless the file itself is as long: few bytes can claim to be many.
LARGEST_CLIP = 1 << 28
# What goes wrong around a file: its content may be as good as ever.
_OUTSIDE = {errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOMEM}
_ERRNO = re.compile(r"errno = (\d+)")


def open_hdf5(path: str | os.PathLike, cure: str) -> h5py.File:
    """The file opened for reading. InputError with ``cure`` if it is damaged, without it if another process writes it.

    OSError, named as what it is, for what is not the file's fault: too many open files, no permission, the disk.
    """
    import h5py

    try:
        check_regular(path)
        return h5py.File(path, "r")
    except DAMAGED as error:
        raise explain(error, path, cure) from None


def explain(error: Exception, path: str | os.PathLike, cure: str, entry: str = "") -> Exception:
    """What to raise for an ``error`` of h5py about ``path``, or about one ``entry`` in it."""
    # h5py gives the number of the system's error in some of its errors, and as text in others.
    number = _ERRNO.search(str(error))
    code = getattr(error, "errno", None) or (int(number[1]) if number else None)
    outside = code in _OUTSIDE or isinstance(error, FileNotFoundError | IsADirectoryError)
    if outside and code is not None:
        return OSError(code, os.strerror(code), os.fspath(path))
    if code in (errno.EAGAIN, errno.EWOULDBLOCK):
        return InputError(f"{path}: open for writing in another process; wait for it to end")
    if "file is already open for" in str(error):  # its own mark: of a writer for several readers, or one that crashed
        return InputError(
            f"{path}: open for writing in another process, or not closed by one that was killed; wait for it to end, or"
            " make the file again (h5clear -s may do)"
        )
    what = f"{entry[:60]!r} is unreadable" if entry else "no readable HDF5 file"
    return InputError(f"{path}: {what} ({first_line(error, 80)}); {cure}")


def own_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """The data set ``name`` that the file itself holds, contiguous or in chunks.

    InputError naming what it is instead: a link, a group, values that lie in other files.
    """
    import h5py

    # Asked before anything is opened: a link may lead to any file, or to a pipe that never answers.
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise _refused(file, name, "an external link" if isinstance(link, h5py.ExternalLink) else "a soft link")
    entry = file[name]
    if not isinstance(entry, h5py.Dataset):
        raise _refused(file, name, "a group" if isinstance(entry, h5py.Group) else "a type")
    properties = entry.id.get_create_plist()
    layout = properties.get_layout()
    if layout == h5py.h5d.VIRTUAL:
        raise _refused(file, name, "a virtual data set, whose values lie elsewhere")
    if properties.get_external_count():
        raise _refused(file, name, "kept in external storage, another file")
    if layout not in (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
        raise _refused(file, name, "of a compact layout")
    size = (entry.size or 0) * entry.dtype.itemsize
    if size > LARGEST_CLIP and size > os.path.getsize(file.filename):
        raise InputError(f"{file.filename}: {name[:60]!r} would take {size / 1e9:.2f} GB of memory; make it again")
    return entry


def _refused(file, name, what):
    return InputError(
        f"{file.filename}: {name[:60]!r} is {what}; expected one contiguous or chunked data set per video id, copy them"
        " into one file"
    )


def names_in(file: h5py.File, cure: str) -> set[str]:
    """The names of what a file holds; InputError with ``cure`` if they cannot be read."""
    try:
        # h5py gives names that are not UTF-8 as bytes.
        return {os.fsdecode(name) for name in cast(Iterable[str | bytes], file)}
    except DAMAGED as error:
        raise explain(error, file.filename, cure) from None


def plain_attributes(file: h5py.File, cure: str) -> dict[str, str | int | float | bool]:
    """The attributes of a file as numbers and text, whatever type a program gave them; large ones are left out.

    InputError with ``cure`` if they cannot be read.
    """
    try:
        names = list(file.attrs)
    except DAMAGED as error:
        raise explain(error, file.filename, cure) from None
    attributes = {}
    for name in names:
        try:
            if file.attrs.get_id(name).get_storage_size() <= _LARGEST_ATTRIBUTE:
                attributes[printable(os.fsdecode(name))] = _plain(file.attrs[name])
        except DAMAGED:  # among them those without a value
            attributes[printable(os.fsdecode(name))] = "unreadable"
    return attributes


def _plain(value):
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, bool | int | float):
        return value
    return printable(value if isinstance(value, str) else str(value))[:4096]
