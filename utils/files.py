"""Files that are whole or absent: written aside under a temporary name, then renamed."""

import contextlib
import json
import os
import tempfile


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
