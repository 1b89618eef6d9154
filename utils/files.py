"""Files that are whole or absent: written aside under a temporary name, then renamed."""

import contextlib
import errno
import fcntl
import json
import os
import tempfile
import weakref

from utils.errors import InputError


@contextlib.contextmanager
def written_aside(path):
    """Yield a temporary path beside ``path``; it takes the place of ``path`` when the block ends well.

    The file is flushed to disk before the rename, so that a power cut leaves the old file or the new one.
    On an error inside the block the temporary file is removed and ``path`` is left as it was.
    """
    path = os.fspath(path)
    folder, name = os.path.split(path)
    # The suffix is kept because writers such as matplotlib choose the format by it.
    stem, suffix = os.path.splitext(name)
    handle, aside = tempfile.mkstemp(prefix=f".{stem[:40]}-", suffix=suffix, dir=folder or ".")
    os.close(handle)
    try:
        yield aside
        _sync(aside)
        os.chmod(aside, 0o666 & ~_umask())
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        raise


class OpenFile:
    """A file kept open for reading at any place, by several threads too."""

    def __init__(self, path):
        self.path = path
        self.handle = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        weakref.finalize(self, os.close, self.handle)

    def read_into(self, array, offset):
        """Fill the C-contiguous ``array`` from ``offset`` on; OSError if the file ends early."""
        view, done = memoryview(array).cast("B"), 0
        while done < len(view):
            count = os.preadv(self.handle, [view[done:]], offset + done)
            if not count:
                raise OSError(errno.EIO, "the file ends early, make it again", self.path)
            done += count


def write_text(path, text):
    """Write ``text`` (UTF-8) to ``path`` atomically."""
    with written_aside(path) as aside, open(aside, "w", encoding="utf-8") as file:
        file.write(text)


def write_json(path, value):
    """Write ``value`` as indented JSON to ``path`` atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _sync(path):
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def only_writer(path, what):
    """Hold the lock file ``path``; InputError if another process does. It ends with this process, however that ends.

    A POSIX record lock: unlike ``flock`` it is not inherited by worker processes, which may outlive a killed parent.
    """
    with open(path, "w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{path}: another process is writing {what}; wait for it, or stop it") from None
        yield
