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

import numpy as np
from tqdm import tqdm

from features.checks import EXPANSION, common_shape, finite, refuse_expansion
from features.sources import Features, open_source
from features.store import fingerprint, index_path, refuse_unfinished
from features.store_writer import StoreWriter, refuse_if_full
from utils.command_line import DATA_ROOT, OneLineParser
from utils.datasets import MODALITIES, dataset_folder
from utils.errors import InputError, command, printable, say
from utils.files import file_lock


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
    refuse_unfinished(folder, modality)
    writer = StoreWriter(folder, modality, shape, dtype, source.attributes)
    _announce(source, os.path.dirname(writer.index), writer.plan(ids), expand)
    try:
        writer.begin()
        skipped = _write(source, ids, writer, skip_bad)
        count = writer.finish(fingerprint(source.path))
    except BaseException:
        writer.discard()
        raise
    return count, count * writer.row_bytes, skipped


def _announce(source, folder, size, expand):
    """Say how large the store will be; InputError if that cannot be, or can hardly be meant."""
    takes = refuse_if_full(folder, size, "make room, or pass --dtype float16 for half of it")
    if not expand:
        refuse_expansion(source.path, size, "pass --yes_expand if that is meant")
    say(f"{os.path.relpath(source.path)}: its store takes {takes}")


def _write(source, ids, writer, skip_bad):
    """Write every clip whose values are finite as they are stored; return the ids of the others."""
    skipped = []
    for video in tqdm(ids, "Converting", unit="clip", disable=None, leave=False):
        array = source[video]
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(array, writer.dtype)
        if finite(array):
            writer.write({video: array})
        else:
            skipped.append(video)
    if skipped and (not skip_bad or len(skipped) == len(ids)):
        raise InputError(
            f"{source.path}: {len(skipped)} clips hold values that are not finite in {writer.dtype}:"
            f" {', '.join(skipped[:5])}; extract them again, or pass --skip_bad to leave them out of the store"
        )
    return skipped


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
        say(
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
