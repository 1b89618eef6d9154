#!/usr/bin/env python3
"""Put the features of a data set into the form that trains fastest: the feature store.

    python features/convert.py --dataset AVE

reads each released or extracted file once, checks every value, and writes ``audio_store`` and ``visual_store`` beside
it, in the memory of a few clips, once it has said how much disk that takes. Training then starts without that pass, and
takes the store by itself; the originals may be deleted. ``--dtype float16`` halves the size on disk and on the GPU.
"""

import os
import sys

if __name__ == "__main__":  # started by its path, Python looks for modules beside this file, not in the project
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    from utils.environment import enter_environment

    enter_environment()

import math
import re
import shutil
import zlib

import numpy as np
from tqdm import tqdm

from features.checks import DEFAULT_FRAMES, common_shape, finite
from features.sources import Features, open_source
from features.store import fingerprint, index_path, read_header, read_index
from utils.command_line import DATA_ROOT, OneLineParser
from utils.datasets import MODALITIES, dataset_folder
from utils.errors import InputError, command, printable
from utils.files import TEMPORARY, atomic_path, file_lock, remove, write_json

# A store so many times larger than its source, and larger than this, is not written unless the user says so.
EXPANSION, LARGE = 16, 2**30


def convert(
    source: Features, folder: str, modality: str, dtype: str, skip_bad: bool = False, expand: bool = False
) -> tuple[int, int, list[str]]:
    """Write the store of ``modality`` from ``source``, all or nothing. Returns clips, bytes, and the ids left out.

    InputError, before anything is written, if the disk has no room for it, or if it is many times larger than its
    source and ``expand`` is not set.
    """
    ids = source.all_ids()
    if not ids:
        raise InputError(f"{source.path}: holds no clip; extract some")
    unwritable = [video for video in ids if printable(video) != video]
    if unwritable:
        raise InputError(
            f"{source.path}: {unwritable[0][:60]!r} cannot be a video id, it holds a control character or a byte that"
            " is not UTF-8; name it anew"
        )
    shape = common_shape(source, ids, (1,) if modality == "audio" else (2, 3))
    path, tag = index_path(folder, modality), os.urandom(4).hex()
    _announce(source, os.path.dirname(path), len(ids) * math.prod(shape) * np.dtype(dtype).itemsize, expand)
    means = f"{modality}_means-{tag}.npy" if modality == "visual" else None
    index = {"array": f"{modality}_store-{tag}.npy", "means": means}
    files = [os.path.join(os.path.dirname(path), name) for name in index.values() if name]
    _clean(path)
    try:
        kept, skipped = _write_arrays(source, ids, shape, np.dtype(dtype), files, skip_bad)
        about = {"source": fingerprint(source.path), "attributes": source.attributes}
        write_json(path, index | {"ids": list(kept), "crc32": list(kept.values())} | about)
    except BaseException:
        for file in files:
            remove(file)
        raise
    _clean(path)
    return len(kept), sum(map(os.path.getsize, files)), skipped


def _announce(source, folder, size, expand):
    """Say how large the store will be; InputError if that cannot be, or can hardly be meant."""
    held, free = os.path.getsize(source.path), shutil.disk_usage(folder).free
    if size > free:
        raise InputError(
            f"{folder}: the store takes {size / 1e9:.2f} GB and {free / 1e9:.2f} GB are free; make room, or pass"
            " --dtype float16 for half of it"
        )
    if size > LARGE and size > EXPANSION * held and not expand:
        raise InputError(
            f"{source.path}: {held / 1e6:.1f} MB would become a store of {size / 1e9:.2f} GB; pass --yes_expand if"
            " that is meant"
        )
    print(f"{os.path.relpath(source.path)}: its store takes {size / 1e9:.2f} GB ({free / 1e9:.2f} GB free)", flush=True)


def _write_arrays(source, ids, shape, dtype, files, skip_bad):
    """Stream the clips into the array, and their mean tokens into the second; then read all back and compare."""
    kept, skipped, means = {}, [], []
    with atomic_path(files[0]) as aside:
        with open(aside, "wb") as file:
            _write_header(file, (len(ids), *shape), dtype)
            for video in _bar(ids, "Converting"):
                array = source[video]
                with np.errstate(over="ignore"):
                    array = np.ascontiguousarray(array, dtype)
                if not finite(array):
                    skipped.append(video)
                    continue
                kept[video] = zlib.crc32(array.data)
                file.write(array.data)
                if len(files) > 1:
                    means.append(token_mean(array))
            # Clips left out make fewer rows; numpy's header has room for that.
            file.seek(0)
            _write_header(file, (len(kept), *shape), dtype)
        _refuse(source, ids, skipped, dtype, skip_bad)
        _verify(aside, kept)
    if len(files) > 1:
        with atomic_path(files[1]) as aside:
            np.save(aside, np.stack(means))
    return kept, skipped


def token_mean(array: np.ndarray, frames: int = DEFAULT_FRAMES) -> np.ndarray:
    """The mean token (D,) float32 of tokens (F, S, D), or (F * S, D) of ``frames`` frames: over frames, then positions.

    To the bit what PyTorch gives (widths that 32 divides, up to 256 frames and positions): AFC's KMeans tells last bits
    apart.
    """
    tokens = array.astype(np.float32, copy=False)
    if tokens.ndim == 2:
        frames = frames if len(tokens) % frames == 0 else 1
        tokens = tokens.reshape(frames, -1, tokens.shape[-1])
    return _mean(_mean(tokens))


def _mean(rows):
    """The mean over the first axis, summed as torch does along an outer dimension: 16 rows at a time, then these."""
    whole = len(rows) // 16
    blocks = rows[: 16 * whole].reshape(whole, 16, *rows.shape[1:])
    return (rows[16 * whole :].sum(0) + blocks.sum(1).sum(0)) / np.float32(len(rows))


def _write_header(file, shape, dtype):
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _refuse(source, ids, skipped, dtype, skip_bad):
    if skipped and (not skip_bad or len(skipped) == len(ids)):
        raise InputError(
            f"{source.path}: {len(skipped)} clips hold values that are not finite in {dtype}: {', '.join(skipped[:5])};"
            " extract them again, or pass --skip_bad to leave them out of the store"
        )


def _verify(path, kept):
    array = read_header(path)
    with open(path, "rb") as file:
        file.seek(array.offset)
        row = math.prod(array.shape[1:]) * array.dtype.itemsize
        for video, expected in _bar(kept.items(), "Verifying"):
            if zlib.crc32(file.read(row)) != expected:
                raise InputError(f"{path}: {video!r} does not read back as it was written; check the disk")


def _bar(items, what):
    return tqdm(items, what, unit="clip", disable=None, leave=False)


def _clean(path):
    """Remove arrays that no index names: those of a store that was replaced, or of a conversion that was killed.

    Of an index that cannot be read nobody knows what it names: then all stay until a new one is there.
    """
    try:
        index = read_index(path) if os.path.exists(path) else {"array": None, "means": None}
    except InputError:
        return
    folder, modality = os.path.dirname(path), os.path.basename(path).removesuffix("_store.json")
    arrays = re.compile(rf"({re.escape(TEMPORARY)})?{modality}_(store|means)-[0-9a-f]{{8}}(-[^.]*)?\.npy")
    for name in os.listdir(folder):
        if arrays.fullmatch(name) and name not in (index["array"], index["means"]):
            remove(os.path.join(folder, name))


@command
def main(arguments=None):
    args = parse(arguments)
    folder = dataset_folder(args.data_root, args.dataset)
    for modality in MODALITIES[args.modality]:
        source = open_source(folder, modality)
        os.makedirs(os.path.dirname(index_path(folder, modality)), exist_ok=True)
        with file_lock(index_path(folder, modality) + ".lock", "this store"):
            count, size, skipped = convert(source, folder, modality, args.dtype, args.skip_bad, args.yes_expand)
        left_out = f"; left out {len(skipped)} with bad values: {', '.join(skipped[:5])}" if skipped else ""
        print(
            f"Wrote {os.path.relpath(index_path(folder, modality))}: {count} clips, {size / 1e9:.2f} GB, {args.dtype},"
            f" from {os.path.basename(source.path)}{left_out}"
        )


def parse(arguments):
    parser = OneLineParser(prog="convert.py", description="Convert features to the form that trains fastest.")
    parser.add_argument("--dataset", required=True, help="AVE, ksounds, VGGSound_100, or your own folder under data/")
    parser.add_argument("--modality", choices=MODALITIES, default="audio-visual", help="what to convert")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="type of the values stored")
    parser.add_argument("--data_root", default=DATA_ROOT, help="folder of the data sets' folders")
    parser.add_argument("--skip_bad", action="store_true", help="leave out clips whose values are not finite")
    parser.add_argument(
        "--yes_expand", action="store_true", help=f"write a store over {EXPANSION} times as large as its source"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
