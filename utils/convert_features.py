#!/usr/bin/env python3
"""Put the features of a data set into the form that trains fastest: the feature store.

    python utils/convert_features.py --dataset AVE

reads each released or extracted file once, checks every value, and writes ``audio_store`` and ``visual_store`` beside
it, in the memory of a few clips. Training then starts without that pass, and takes the store by itself; the originals
may be deleted. ``--dtype float16`` halves the size on disk and on the GPU.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from utils.command_line import DATA_ROOT, SENSES, OneLineParser
from utils.datasets import dataset_folder
from utils.errors import command
from utils.feature_store import index_path
from utils.features import open_source
from utils.locks import only_writer
from utils.store_writer import convert


@command
def main(arguments=None):
    args = parse(arguments)
    folder = dataset_folder(args.data_root, args.dataset)
    for sense in SENSES[args.modality]:
        source = open_source(folder, sense)
        with only_writer(index_path(folder, sense) + ".lock", "this store"):
            count, size, skipped = convert(source, folder, sense, args.dtype, args.skip_bad)
        left_out = f"; left out {len(skipped)} with bad values: {', '.join(skipped[:5])}" if skipped else ""
        print(
            f"Wrote {os.path.relpath(index_path(folder, sense))}: {count} clips, {size / 1e9:.2f} GB, {args.dtype},"
            f" from {os.path.basename(source.path)}{left_out}"
        )


def parse(arguments):
    parser = OneLineParser(prog="convert_features.py", description="Convert features to the form that trains fastest.")
    parser.add_argument("--dataset", required=True, help="AVE, ksounds, VGGSound_100, or your own folder under data/")
    parser.add_argument("--modality", choices=SENSES, default="audio-visual", help="which senses to convert")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="type of the values stored")
    parser.add_argument("--data_root", default=DATA_ROOT, help="folder of the data sets' folders")
    parser.add_argument("--skip_bad", action="store_true", help="leave out clips whose values are not finite")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
