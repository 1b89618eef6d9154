"""A zip archive on a server, whole or in parts: its members come to disk one by one, the archive itself never does.

A break costs the block under way, or, after a kill, what came since the last save: the place in the archive, points
from which unpacking can begin and the checksum so far are kept beside the unfinished member.
"""

import bisect
import io
import itertools
import os
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import indexed_gzip

from utils.errors import InputError, first_line
from utils.files import atomic_path, read_json, remove, write_json

CHUNK = 16 << 20  # bytes unpacked and written at a time
SAVE_EVERY = 8  # chunks between saves
WAITS = (1, 5, 20, 60)  # seconds before a failed read is tried again
GZIP_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"


class JoinedFile(io.RawIOBase):
    """Seekable files read as one: ``files`` in their order, of ``sizes`` bytes."""

    def __init__(self, files: list, sizes: list[int]):
        self.files, self.place = files, 0
        self.starts = [sum(sizes[:number]) for number in range(len(sizes))]
        self.size = sum(sizes)

    def readable(self):
        return True

    def seekable(self):
        return True

    def tell(self):
        return self.place

    def seek(self, offset: int, whence: int = io.SEEK_SET):
        self.place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.size}[whence]
        return self.place

    def readinto(self, buffer):
        if not 0 <= self.place < self.size:
            return 0
        number = bisect.bisect_right(self.starts, self.place) - 1
        end = self.starts[number + 1] if number + 1 < len(self.starts) else self.size
        file = self.files[number]
        file.seek(self.place - self.starts[number])
        data = file.read(min(len(buffer), end - self.place))
        buffer[: len(data)] = data
        self.place += len(data)
        return len(data)


class Slice(io.RawIOBase):
    """``size`` bytes of a seekable file from ``start`` on."""

    def __init__(self, file, start: int, size: int):
        self.file, self.start, self.size, self.place = file, start, size, 0

    def seek(self, offset: int):
        self.place = offset

    def read(self, count: int):
        self.file.seek(self.start + self.place)
        data = self.file.read(min(count, self.size - self.place))
        self.place += len(data)
        return data


class PersistentFile:
    """A remote file whose reads are tried again, after growing waits. InputError when all were in vain."""

    def __init__(self, file: Any, name: str, size: int):
        self.file, self.name, self.size = file, name, size

    def seek(self, offset: int):
        self.offset = offset

    def read(self, count: int) -> bytes:
        for wait in (*WAITS, None):
            try:
                self.file.seek(self.offset)
                data = self.file.read(count)
                if len(data) == count:
                    return data
                reason = f"ends {count - len(data)} bytes early; it should have {self.size}"
            except Exception as error:  # whatever the library under the hub's client raises
                reason = first_line(error)
            if wait is None:
                break
            time.sleep(wait)
        raise InputError(f"{self.name}: {reason}; the same command goes on from here")


@dataclass
class Member:
    """A file of an archive: its bytes unpacked, and what tells it from the same name in another version."""

    name: str
    size: int
    crc32: int
    version: str


class Archive:
    """A zip archive of one or more ``parts`` (PersistentFile); ``version`` tells it from its later versions."""

    def __init__(self, name: str, parts: list[PersistentFile], version: str):
        self.name, self.version, self.starts = name, version, {}
        self.file = JoinedFile(parts, [part.size for part in parts])
        try:
            self.infos = {info.filename: info for info in zipfile.ZipFile(io.BufferedReader(self.file)).infolist()}
        except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError) as error:
            raise InputError(
                f"{name}: no whole zip archive in {len(parts)} parts ({first_line(error)}); the server's copy is"
                " incomplete or damaged, try again later"
            ) from None

    def members(self) -> list[Member]:
        """All files in the archive."""
        files = (info for info in self.infos.values() if not info.is_dir())
        return [Member(info.filename, info.file_size, info.CRC, self.version) for info in files]

    def open(self, member: Member, index: str):
        """A seekable reader of the member unpacked; ``index``: saved points from which a packed one can be read."""
        info = self.infos[member.name]
        packed = Slice(self.file, self._start(info), info.compress_size)
        if info.compress_type == zipfile.ZIP_STORED:
            return packed
        if info.compress_type != zipfile.ZIP_DEFLATED:
            raise InputError(f"{self.name}: {member.name} is packed in a way that is not read here; unpack it yourself")
        # The same bytes between a head and a tail are a gzip file, for which there is a reader that can begin anywhere.
        tail = struct.pack("<II", info.CRC, info.file_size % 2**32)
        pieces = [io.BytesIO(GZIP_HEAD), packed, io.BytesIO(tail)]
        whole = io.BufferedReader(JoinedFile(pieces, [len(GZIP_HEAD), info.compress_size, len(tail)]), CHUNK // 16)
        # It unpacks again from the last point before each read: points and reads are a chunk apart.
        sizes = {"spacing": CHUNK, "readbuf_size": CHUNK // 16, "buffer_size": CHUNK}
        reader = indexed_gzip.IndexedGzipFile(fileobj=whole, skip_crc_check=True, **sizes)
        if os.path.exists(index):
            try:
                reader.import_index(index)
            except indexed_gzip.ZranError:
                raise InputError(f"{index}: damaged; remove it, and the same command begins anew") from None
        return reader

    def _start(self, info):
        """Where the bytes of a member begin, which only the head before them says."""
        if info.filename not in self.starts:
            self.file.seek(info.header_offset)
            head = self.file.read(30)
            if len(head) < 30 or head[:4] != b"PK\x03\x04" or info.flag_bits & 1:
                raise InputError(f"{self.name}: {info.filename} cannot be read: damaged, or encrypted")
            self.starts[info.filename] = info.header_offset + 30 + sum(struct.unpack("<HH", head[26:30]))
        return self.starts[info.filename]


def fetch(archive: Archive, member: Member, path: str, progress: Callable[[int], object]):
    """Bring a member to ``path``, from where an earlier attempt was broken off; ``progress(bytes)`` hears of all.

    InputError if what came is not what the archive says (size and CRC-32): nothing is left of it then.
    """
    partial, _, index = _beside(path)
    done, crc = _resume(member, path)
    source = archive.open(member, index)
    progress(done)
    with open(partial, "rb+" if done else "wb") as file:
        file.truncate(done)
        file.seek(done)
        source.seek(done)
        for number in itertools.count(1):
            data = _read(source, min(CHUNK, member.size - done))
            if not data:
                break
            file.write(data)
            done, crc = done + len(data), zlib.crc32(data, crc)
            progress(len(data))
            if number % SAVE_EVERY == 0:
                _save(file, source, member, path, done, crc)
                # Opened anew, the reader holds the points that were saved, not all those that it passed.
                source = archive.open(member, index)
                source.seek(done)
        file.flush()
        os.fsync(file.fileno())
    if (done, crc) != (member.size, member.crc32):
        forget(path)
        raise InputError(
            f"{archive.name}: {member.name} came damaged ({done} of {member.size} bytes, checksum {crc:08x} where"
            f" {member.crc32:08x} is right); the same command fetches it again"
        )
    os.replace(partial, path)
    forget(path)


def fetched_bytes(member: Member, path: str) -> int:
    """How much of the member an earlier attempt has left on disk."""
    return _resume(member, path)[0]


def forget(path: str):
    """Remove what is kept of an unfinished member."""
    for file in _beside(path):
        remove(file)


def _beside(path):
    return tuple(f"{path}.partial{suffix}" for suffix in ("", ".json", ".index"))


def _read(source, count):
    try:
        return source.read(count)
    except indexed_gzip.ZranError as error:
        # What the reader met below it passes, such as a lost connection. A stream that cannot be unpacked: see fetch.
        if error.__cause__ is not None:
            raise error.__cause__ from None
        return b""


def _save(file, source, member, path, done, crc):
    """Let a later attempt go on from here. In this order: a state never says more than is on disk."""
    file.flush()
    os.fsync(file.fileno())
    if isinstance(source, indexed_gzip.IndexedGzipFile):
        points = io.BytesIO()
        source.export_index(fileobj=points)
        with atomic_path(f"{path}.partial.index") as aside, open(aside, "wb") as index:
            index.write(_last_points(points.getvalue(), done))
    write_json(f"{path}.partial.json", {"member": vars(member), "done": done, "crc32": crc})


def _last_points(index, done):
    """An index of indexed_gzip cut to the points from which byte ``done`` and those after it are unpacked."""
    head = struct.Struct("<5sBBQQIII")  # name, version, flags, two sizes, spacing, bytes of a window, number of points
    point = struct.Struct("<QQBB")  # packed and unpacked place, bits, whether it has a window
    *fields, window, count = head.unpack_from(index)
    points = [point.unpack_from(index, head.size + number * point.size) for number in range(count)]
    last = max(number for number, place in enumerate(points) if place[1] <= done)
    # The first, which is the beginning and has no window, and the last before ``done``: with one alone it starts anew.
    kept = points[:1] + points[max(1, last) :]
    dropped = max(0, last - 1)
    windows = index[head.size + count * point.size + dropped * window :]
    return b"".join([head.pack(*fields, window, len(kept)), *(point.pack(*place) for place in kept), windows])


def _resume(member, path):
    """(bytes, checksum) of what an earlier attempt saved of this very member; (0, 0) if there is nothing."""
    partial, saved, *_ = _beside(path)
    try:
        state = read_json(saved)
        if state["member"] == vars(member) and os.path.getsize(partial) >= state["done"]:
            return state["done"], state["crc32"]
    except (OSError, InputError, KeyError, TypeError):
        pass
    forget(path)
    return 0, 0
