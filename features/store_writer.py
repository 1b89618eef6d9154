"""The writer of feature stores: rows in any order, by several processes; killed at any moment, it can go on.

The plan, ``visual_store.unfinished.json``, names the arrays and the row of each id before anything is written. Rows are
on disk before a line of a done-list, ``visual_store-<tag>.<run>.done``, names them with their checksums. The index
comes last, once every row reads back as it was written; then plan and lists go. Clips added to a store get rows at the
end of its arrays, or where a clip had failed: rows that its index names are never touched.
"""

import itertools
import math
import os
import re
import shutil
import zlib
from collections.abc import Iterable

import numpy as np
from tqdm import tqdm

from features.checks import token_mean
from features.row_file import DoneLists, RowFile
from features.sources import source_file
from features.store import index_path, plan_path, read_index, read_plan
from utils.errors import InputError
from utils.files import TEMPORARY, remove, write_json

# Differences in these do not make features of another kind.
_NOT_COMPARED = {"checkpoint", "ffmpeg", "software"}
_EARLIER = {"jpeg_quality": 2}  # of frames where nothing is recorded
_CURE = "pass the options it was made with, give another --data_root, or remove it"


class StoreWriter:
    """Writes clips of ``shape`` and ``dtype``, made as ``attributes`` say, to a store under a data set's ``folder``.

    ``command`` is what goes on with the work after a kill: with it clips are added to the store that is there, and
    done-lists are kept. Without it a new store takes the place of the one that is there, all or nothing.
    One process calls ``plan``, ``begin`` and, in the end, ``finish``; the others ``join``. All of them ``write``.
    """

    def __init__(
        self,
        folder: str,
        modality: str,
        shape: tuple[int, ...],
        dtype: str | np.dtype,
        attributes: dict,
        command: str | None = None,
    ):
        self.modality, self.shape, self.dtype = modality, tuple(shape), np.dtype(dtype)
        self.attributes, self.command = attributes, command
        self.index, self.plan_file = index_path(folder, modality), plan_path(folder, modality)
        # The store that clips are added to, and their rows.
        self.before = read_index(self.index) if command and os.path.exists(self.index) else None
        self.stored = dict(zip(self.before["ids"], self.before["rows"], strict=True)) if self.before else {}
        self.rows: dict[str, int] = {}  # of the plan
        self.crc32: dict[str, int] = {}  # of what this process has written
        self.names: dict = {}
        self.arrays: list[RowFile] = []
        self.lists: DoneLists | None = None

    @property
    def row_bytes(self) -> int:
        """What one clip takes on disk, its mean token included."""
        means = 4 * self.shape[-1] if self.modality == "visual" else 0
        return math.prod(self.shape) * self.dtype.itemsize + means

    def check(self):
        """InputError if features are there that those to be written must not be mixed with, or in another form."""
        source = source_file(os.path.dirname(os.path.dirname(self.index)), self.modality)
        if source:
            raise InputError(
                f"{source}: features in another form; to add clips to them make their store (python"
                " features/convert.py) and remove this file, else move it away"
            )
        plan = read_plan(self.plan_file)
        if self.before:
            self._check_kind(self.index, self.before["attributes"])
            array = RowFile(self._path(self.before["array"]))
            if (array.shape, array.dtype) != (self.shape, self.dtype):
                raise InputError(
                    f"{self.index}: holds {array.dtype} of shape {array.shape}, not {self.dtype} of {self.shape};"
                    f" {_CURE}"
                )
        elif plan and plan["command"]:
            self._check_kind(self.plan_file, plan["attributes"])

    def _check_kind(self, path, attributes):
        if "encoder" not in attributes:
            raise InputError(f"{path}: not a store of ours (no encoder is recorded); move it away to extract features")
        for name in sorted((self.attributes.keys() | attributes.keys()) - _NOT_COMPARED):
            old, new = (about.get(name, _EARLIER.get(name)) for about in (attributes, self.attributes))
            if old != new:
                raise InputError(f"{path}: made with {name} {old}, not {new}; {_CURE}")

    def plan(self, ids: Iterable[str]) -> int:
        """Choose a row for each of ``ids``, beside those of a killed run; return how many bytes are to be written.

        Nobody else may be writing: what neither the index nor the plan that is gone on with names is removed.
        """
        os.makedirs(os.path.dirname(self.index), exist_ok=True)
        plan = read_plan(self.plan_file)
        if plan and not (self.command and plan["command"]):
            remove(self.plan_file)
            plan = None
        self._clean()
        plan = plan or self._new_plan()
        rows = {video: row for video, row in plan["rows"].items() if video not in self.stored}
        taken = {*self.stored.values(), *rows.values()}
        new = [video for video in ids if video not in rows and video not in self.stored]
        rows |= zip(new, (row for row in itertools.count() if row not in taken), strict=False)
        self._take(plan | {"rows": rows})
        return self.row_bytes * len(rows.keys() & set(ids) - self.done().keys())

    def _new_plan(self):
        if self.before:
            return {"array": self.before["array"], "means": self.before["means"], "rows": {}}
        tag = os.urandom(4).hex()
        means = f"{self.modality}_means-{tag}.npy" if self.modality == "visual" else None
        return {"array": f"{self.modality}_store-{tag}.npy", "means": means, "rows": {}}

    def begin(self):
        """Make what was planned known to all processes, and arrays that have room for it."""
        if not self.rows:
            remove(self.plan_file)
            return
        self._open()
        for array in self.arrays:
            array.resize(max({*self.stored.values(), *self.rows.values()}) + 1)
        about = {"attributes": self.attributes, "command": self.command}
        write_json(self.plan_file, self.names | {"rows": self.rows} | about)

    def join(self):
        """Take part in what another process has begun."""
        plan = read_plan(self.plan_file)
        if plan:
            self._take(plan)
            self._open()

    def _take(self, plan):
        self.rows, self.names = plan["rows"], {"array": plan["array"], "means": plan["means"]}
        self.lists = DoneLists(self._path(plan["array"]))

    def _open(self):
        array, means = self.names["array"], self.names["means"]
        self.arrays = [RowFile.make(self._path(array), self.shape, self.dtype)]
        if means:
            self.arrays.append(RowFile.make(self._path(means), self.shape[-1:], np.dtype(np.float32)))

    def _path(self, name):
        return os.path.join(os.path.dirname(self.index), os.path.basename(name))

    def write(self, features: dict[str, np.ndarray]):
        """Write the rows of ``features``, id -> array of the plan: with ``command``, all of them count or none."""
        crc32 = {video: self._write_row(self.rows[video], features[video]) for video in sorted(features)}
        self.crc32 |= crc32
        if self.command:
            for array in self.arrays:
                array.sync()
            assert self.lists
            self.lists.add(crc32)

    def _write_row(self, row, feature):
        feature = np.ascontiguousarray(feature, self.dtype)
        if feature.shape != self.shape:
            raise InputError(f"{self.index}: a clip's feature has shape {feature.shape}, expected {self.shape}")
        self.arrays[0].write(row, feature)
        for means in self.arrays[1:]:
            means.write(row, token_mean(feature))
        return zlib.crc32(feature.data)

    def done(self) -> dict[str, int]:
        """The checksum of each clip of the plan that is on disk, by whichever process and run."""
        listed = self.lists.read() if self.lists else {}
        return self.crc32 | {video: crc32 for video, crc32 in listed.items() if video in self.rows}

    def finish(self, source: dict | None = None) -> int:
        """Read the new rows back, write the index if there are any, and return the number of clips in the store.

        ``source``: the fingerprint of the file that they come from. InputError if a row is not what was written.
        """
        done = self.done()
        rows = self.stored | {video: self.rows[video] for video in sorted(done, key=self.rows.__getitem__)}
        if done:
            for array in self.arrays:
                array.sync()
            self._verify(done)
            crc32 = (dict(zip(self.before["ids"], self.before["crc32"], strict=True)) if self.before else {}) | done
            index = {"ids": list(rows), "rows": list(rows.values()), "crc32": [crc32[video] for video in rows]}
            if index["rows"] == list(range(len(rows))):
                del index["rows"]
            about = {"source": source or {}, "attributes": self.attributes}
            write_json(self.index, self.names | index | about)
        self._end(rows)
        return len(rows)

    def discard(self):
        """Give up what was begun: what was there before stays as it was."""
        self._end(self.stored)

    def _end(self, rows):
        """Leave nothing but the store of ``rows``."""
        for array in self.arrays:
            if rows:
                array.resize(max(rows.values()) + 1)
            else:
                remove(array.path)
        remove(self.plan_file)
        for path in self.lists.paths() if self.lists else ():
            remove(path)
        self._clean()

    def _verify(self, done):
        array = self.arrays[0]
        for video, expected in tqdm(done.items(), "Verifying", unit="clip", disable=None, leave=False):
            if zlib.crc32(array.read(self.rows[video])) != expected:
                raise InputError(
                    f"{array.path}: {video!r} does not read back as it was written; check the disk, then remove"
                    f" {self.plan_file} to begin anew"
                )

    def _clean(self):
        """Remove arrays and done-lists that neither index nor plan names: those of stores replaced, of runs killed.

        Of an index that cannot be read nobody knows what it names: then all stay until a new one is there.
        """
        folder, named = os.path.dirname(self.index), set()
        try:
            for read, path in ((read_index, self.index), (read_plan, self.plan_file)):
                found = read(path) if os.path.exists(path) else None
                named |= {found["array"], found["means"]} if found else set()
        except InputError:
            return
        mine = re.compile(rf"({self.modality}_(?:store|means)-[0-9a-f]{{8}})(-[^.]*|\.[0-9a-f]{{8}})?\.(npy|done)")
        for name in os.listdir(folder):
            match = mine.fullmatch(name)
            aside = name.startswith((f"{TEMPORARY}{self.modality}_store", f"{TEMPORARY}{self.modality}_means"))
            if aside or match and f"{match[1]}.npy" not in named:
                remove(os.path.join(folder, name))


def refuse_if_full(folder: str, size: int, cure: str) -> str:
    """``<size> GB (<free> GB free)``; InputError with the ``cure`` if the disk has no room for ``size`` bytes."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise InputError(f"{folder}: the store takes {size / 1e9:.2f} GB and {free / 1e9:.2f} GB are free; {cure}")
    return f"{size / 1e9:.2f} GB ({free / 1e9:.2f} GB free)"
