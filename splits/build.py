#!/usr/bin/env python3
"""Make the splits of a data set: which clips are for training, validation and test, and the class of each.

    python splits/build.py ave --annotations AVE_Dataset/

writes data/AVE/splits.csv (video_id,label,split) and classes.txt (names in class order), and says what is in them.
"""

import os
import sys

if __name__ == "__main__":  # started by its path, Python looks for modules beside this file, not in the project
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    from utils.environment import enter_environment

    enter_environment()

from splits.annotations import from_ave, from_folders, from_kinetics, from_table, from_vggsound, read_class_names
from splits.clips import find_videos
from splits.draw import changes, describe, separate_by_video
from splits.formats import SPLITS, read_released_splits, read_splits_csv, write_splits
from utils.command_line import DATA_ROOT, OneLineParser, heading, not_negative, positive, seed, share
from utils.datasets import find_dataset
from utils.errors import InputError, command, say
from utils.files import read_rows, write_text


@command
def main(arguments=None):
    args = parse(arguments)
    folder = os.path.join(args.data_root, find_dataset(args.dataset).folder)
    path = os.path.join(folder, "splits.csv")
    if os.path.exists(path) and not args.overwrite:
        raise InputError(f"{path} is there already; pass --overwrite to replace it, or another --dataset")
    splits = SOURCES[args.source](args)
    say(describe(splits))
    write_splits(folder, splits)
    listed = ""
    if args.list_ids:
        write_text(args.list_ids, "".join(f"{clip}\n" for split in SPLITS for clip in splits.clips[split]))
        listed = f"; ids of all clips in {args.list_ids}"
    say(f"Wrote {path} and classes.txt{listed}")


SOURCES = {
    "ave": lambda args: from_ave(args.annotations),
    "vggsound": lambda args: from_vggsound(
        args.annotations,
        args.classes and read_class_names(args.classes),
        args.num_classes,
        (args.val_clips, args.test_clips),
        args.seed,
        args.group_by_video,
    ),
    "kinetics": lambda args: from_kinetics(
        args.train, args.held_out, args.classes and read_class_names(args.classes), args.seed
    ),
    "released": lambda args: from_release(args),
    "csv": lambda args: from_csv(args),
    "folders": lambda args: from_folders(find_videos(args.videos), args.val, args.test, args.seed, args.group_by_video),
}


def from_release(args):
    splits = read_released_splits(args.folder)
    if not args.group_by_video:
        return splits
    grouped = separate_by_video(splits, args.seed)
    say(changes(splits, grouped))
    return grouped


def from_csv(args):
    _, header = next(read_rows(args.table), (1, []))
    if "split" in [name.strip() for name in header]:
        return read_splits_csv(args.table, args.classes or "")
    return from_table(args.table, args.val, args.test, args.seed, args.group_by_video)


def parse(arguments):
    parser = OneLineParser(prog="build.py", description=heading(__doc__))
    sources = parser.add_subparsers(dest="source", required=True, metavar="source")

    ave = _source(sources, "ave", "AVE's official train, val and test files", "AVE")
    ave.add_argument("--annotations", required=True, help="folder of trainSet.txt, valSet.txt and testSet.txt")

    vggsound = _source(sources, "vggsound", "classes of VGGSound: its clips pooled, some drawn", "VGGSound_100")
    vggsound.add_argument("--annotations", required=True, help="the official vggsound.csv")
    vggsound.add_argument("--classes", help="class names, one a line, or the released category_encode_dict.npy")
    vggsound.add_argument("--num_classes", type=positive, default=100, help="without --classes, draw so many")
    vggsound.add_argument("--val_clips", type=not_negative, default=50, help="val clips a class")
    vggsound.add_argument("--test_clips", type=not_negative, default=50, help="test clips a class")
    _drawing(vggsound)

    kinetics = _source(sources, "kinetics", "Kinetics-Sounds, 30 classes of Kinetics-400", "ksounds")
    kinetics.add_argument("--train", required=True, nargs="+", help="csv of Kinetics' training clips")
    kinetics.add_argument("--held_out", required=True, nargs="+", help="csv of its val and test clips, with labels")
    kinetics.add_argument("--classes", help="class names, one a line; default: the 30 of Kinetics-Sounds")
    kinetics.add_argument("--seed", type=seed, default=0, help="seed of the draw")

    released = _source(sources, "released", "the three .npy files of the AV-CIL release")
    released.add_argument("--folder", required=True, help="where they lie")
    _drawing(released)

    table = _source(sources, "csv", "your own table video_id,label[,split][,source]")
    table.add_argument("--table", required=True, help="without a column split, --val and --test are drawn")
    table.add_argument("--classes", help="class names in order, one a line; default: order of appearance")
    _shares(table)
    _drawing(table)

    folders = _source(sources, "folders", "your own clips in a folder per class")
    folders.add_argument("--videos", required=True, help="the folder of the classes' folders")
    _shares(folders)
    _drawing(folders)
    return parser.parse_args(arguments)


def _source(sources, name, about, dataset=None):
    parser = sources.add_parser(name, help=about, description=f"Splits from {about}.")
    parser.add_argument("--dataset", required=dataset is None, default=dataset, help="name of the data set")
    parser.add_argument("--data_root", default=DATA_ROOT, help="its folder there takes splits.csv and classes.txt")
    parser.add_argument("--list_ids", help="write the ids of all clips to this file, one a line")
    parser.add_argument("--overwrite", action="store_true", help="replace a splits.csv that is there")
    return parser


def _shares(parser):
    parser.add_argument("--val", type=share, default=0.1, help="share of each class for val")
    parser.add_argument("--test", type=share, default=0.1, help="share of each class for test")


def _drawing(parser):
    parser.add_argument("--seed", type=seed, default=0, help="seed of the draw")
    parser.add_argument("--group_by_video", action="store_true", help="no source video has clips on two sides")


if __name__ == "__main__":
    main()
