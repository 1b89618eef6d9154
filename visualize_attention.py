#!/usr/bin/env python3
"""Draw where the sound makes the network look: attention over a clip's frames, step after step, run beside run.

    python visualize_attention.py --run save/demo/avcil-linear --clip 3_0042
    python visualize_attention.py --run save/AVE/avcil-... save/AVE/...no-attn_score_distil... --clip <id>

One row per run and step: the frames of the clip, brighter where the spatial attention lies, and beside them the
temporal attention of each frame. The maps are means over channels, each of which has a map of its own.
"""

if __name__ == "__main__":
    from utils.environment import enter_environment

    enter_environment()

import os

import numpy as np
import torch

from engine.checkpoints import kept_steps
from engine.trained import load_trained
from features.store import open_features
from model.encoders.frames import read_frames
from splits.formats import read_splits
from utils.command_line import DATA_ROOT, RAW_ROOT, OneLineParser, not_negative
from utils.datasets import dataset_folder, find_dataset
from utils.errors import InputError, MediaError, command, printable, say

SIDE = 224  # pixels of the square that the encoders see


@command
def main(arguments=None):
    args = parse(arguments)
    from reporting.attention_figure import draw_attention  # matplotlib, once the command line is known to be right

    rows = [row for run in args.run for row in rows_of(run, args)]
    dataset = load_trained(args.run[0]).args.dataset
    pictures = frames_of(args, dataset, len(rows[0].temporal))
    title = printable(f"Clip {args.clip}" + class_of(args, dataset))
    draw_attention(args.output, title, rows, pictures)
    without = "" if pictures is not None else " (no frames found: maps alone; give their folder by --frames)"
    pictured = f"{len(args.run)} runs" if len(args.run) > 1 else "1 run"
    say(f"Wrote {args.output}: attention of {pictured}, {len(rows)} rows{without}")


def parse(arguments):
    parser = OneLineParser(
        prog="visualize_attention.py", description="Draw audio-guided attention over a clip's frames."
    )
    parser.add_argument("--run", nargs="+", required=True, help="folders of audio-visual runs, one below the other")
    parser.add_argument("--clip", required=True, help="id of a clip of the data set")
    parser.add_argument("--steps", type=not_negative, nargs="+", help="steps to draw; default: all finished ones")
    parser.add_argument("--frames", help="folder of the clip's frames; default: where the extraction put them")
    parser.add_argument("--output", default="attention.png", help="a .png, .pdf or .svg file")
    parser.add_argument("--data_root", help="folder of the data sets' folders; default: that of the run")
    parser.add_argument("--raw_root", default=RAW_ROOT, help="folder of frames, a folder per data set")
    return parser.parse_args(arguments)


def rows_of(run, args):
    """The Row of each step of one run."""
    steps = args.steps if args.steps is not None else kept_steps(os.path.join(run, "checkpoints")) or [None]
    return [row_of(load_trained(run, step), args) for step in steps]


@torch.no_grad()
def row_of(trained, args):
    from reporting.attention_figure import Row

    network = getattr(trained.learner, "network", None)
    if trained.args.modality != "audio-visual" or not hasattr(network, "attention"):
        raise InputError(f"{trained.folder}: {trained.args.modality} runs of {trained.args.method} have no attention")
    folder = dataset_folder(args.data_root or trained.args.data_root or DATA_ROOT, trained.args.dataset)
    files = {modality: open_features(folder, modality) for modality in trained.modalities}
    for file in files.values():
        if args.clip not in file:
            raise InputError(f"--clip {args.clip}: {file.path} has no such id")
    batch = trained.batch([{modality: file[args.clip] for modality, file in files.items()}])
    trained.learner.network.eval()
    attended = trained.learner.network.attention(batch.audio, batch.visual.tensor())
    spatial, temporal = attended.spatial_scores.softmax(2), attended.temporal_scores.softmax(1)
    predicted = printable(trained.classes[int(trained.learner.scores(batch).argmax(1))])
    return Row(name_of(trained), predicted, spatial.mean(3)[0].numpy(), temporal.mean(2)[0].numpy())


def name_of(trained):
    """What tells this row from others: method, whether attention is distilled, step."""
    distilled = getattr(trained.args, "attn_score_distil", None)
    without = "\nwithout VAD" if distilled is False else ""
    return f"{trained.args.method}{without}\nafter step {trained.step}"


def frames_of(args, dataset, count):
    """``count`` frames (H, W, 3) as the encoders see them, uint8; None if there are none and none were asked for."""
    folder = args.frames or os.path.join(args.raw_root, find_dataset(dataset).raw_folder, "frames", args.clip)
    if not os.path.isdir(folder):
        if args.frames:
            raise InputError(f"--frames {folder}: no such folder")
        return None
    try:
        # Each token of time covers two of the 16 frames that an encoder takes: the first of them is shown.
        frames = read_frames(folder, 2 * count, SIDE)[::2]
    except MediaError as error:
        raise InputError(f"{folder}: {error}; extract the frames again") from None
    return np.ascontiguousarray(frames.permute(0, 2, 3, 1).numpy())


def class_of(args, dataset):
    splits = read_splits(dataset_folder(args.data_root or load_trained(args.run[0]).args.data_root, dataset))
    labels = [part[args.clip] for part in splits.clips.values() if args.clip in part]
    return f", class {splits.classes[labels[0]]}" if labels else ""


if __name__ == "__main__":
    main()
