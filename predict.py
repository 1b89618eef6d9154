#!/usr/bin/env python3
"""Name the classes of new clips with the model of a run.

    python predict.py --run save/AVE/avcil-linear_audio-visual_released_seed42 clip.mp4 ...
    python predict.py --run save/AVE/avcil-... --data data/AVE id ...
    python predict.py --run save/AVE/avcil-... --kept --output predictions.csv

sends video files through the extraction that made the run's features (or takes the features of ids from a data folder,
or the scores that the run kept of its test clips) and prints for each clip its likeliest classes with their
probabilities.
"""

if __name__ == "__main__":
    from utils.environment import enter_environment

    enter_environment()

import os
import sys

import torch
from tqdm import tqdm

from engine.scores import HINT, read_scores, scores_path
from engine.trained import load_trained
from extraction.new_clips import ClipFeatures
from features.store import open_features
from utils.command_line import OneLineParser, not_negative, positive
from utils.datasets import find_dataset
from utils.devices import choose_device
from utils.errors import InputError, MediaError, command, printable, say
from utils.files import csv_text, write_text


@command
def main(arguments=None):
    args = parse(arguments)
    trained = load_trained(args.run, args.step, device := choose_device(args.device))
    rows, failures = [], []
    if args.kept:
        rows = kept_rows(args, trained)
    else:
        features = features_of_ids(args, trained) if args.data else features_of_videos(args, trained, device)
        for clip in tqdm(args.clips, "Predicting", unit="clip", disable=None, leave=False):
            try:
                rows += ranked(clip, trained.scores([features(clip)])[0], trained.classes, args.top)
            except MediaError as error:
                failures.append(f"{printable(clip)}: {error}")
    show(rows)
    if args.output:
        write_text(args.output, csv_text([("clip", "rank", "class", "probability"), *rows]))
        say(f"Wrote {len(rows)} rows on {len({clip for clip, *_ in rows})} clips to {args.output}")
    if failures:
        say("\n".join(f"error: {line}" for line in failures), file=sys.stderr)
        sys.exit(1)


def parse(arguments):
    parser = OneLineParser(prog="predict.py", description="Name the classes of new clips with the model of a run.")
    parser.add_argument("clips", nargs="*", help="video files; with --data or --kept, ids of clips")
    parser.add_argument("--run", required=True, help="folder of a run")
    parser.add_argument("--step", type=not_negative, help="use the model after this step; default: the last one")
    parser.add_argument("--data", help="take the features of the ids from this data folder, such as data/AVE")
    parser.add_argument(
        "--kept", action="store_true", help="show what the run kept of its test clips; of all if no ids are given"
    )
    parser.add_argument("--top", type=positive, default=3, help="classes to name for each clip")
    parser.add_argument("--output", help="also write a csv file of clip, rank, class and probability")
    parser.add_argument("--audio_checkpoint", help="weights of the audio encoder, if they were moved since")
    parser.add_argument("--visual_checkpoint", help="the same of the visual encoder")
    parser.add_argument("--device", default="auto", help="auto (CUDA when there), cpu, cuda or cuda:N")
    args = parser.parse_args(arguments)
    if args.kept and args.data:
        raise InputError("--kept and --data: the scores are kept, or computed from features; give one of the two")
    if not args.clips and not args.kept:
        raise InputError("no clips given; name video files, ids with --data, or take the test clips by --kept")
    return args


def kept_rows(args, trained):
    """``ranked`` of the ids asked for, or of all test clips, by the scores that the run kept."""
    kept = read_scores(args.run, trained.step)
    if kept is None:
        raise InputError(f"{scores_path(args.run, trained.step)}: no scores were kept; {HINT}")
    place = {clip: index for index, clip in enumerate(kept.clip)}
    missing = [clip for clip in args.clips if clip not in place]
    if missing:
        raise InputError(f"{scores_path(args.run, trained.step)}: has no test clip {missing[0]!r}; leave it out")
    scores = torch.from_numpy(kept.scores)
    return [row for clip in args.clips or place for row in ranked(clip, scores[place[clip]], trained.classes, args.top)]


def features_of_videos(args, trained, device):
    """A function from a video file to its features, modality -> array."""
    missing = [clip for clip in args.clips if not os.path.isfile(clip)]
    if missing:
        raise InputError(f"{missing[0]}: no such video file; for ids of a data set pass --data")
    checkpoints = {"audio": args.audio_checkpoint, "visual": args.visual_checkpoint}
    frame_rate = find_dataset(trained.args.dataset).frames_per_second
    return ClipFeatures(trained.provenance, trained.modalities, checkpoints, frame_rate, device)


def features_of_ids(args, trained):
    """A function from an id to its features in the folder ``--data``, modality -> array."""
    if not os.path.isdir(args.data):
        raise InputError(f"--data {args.data}: no such folder; give a data folder such as data/AVE")
    files = {modality: open_features(args.data, modality) for modality in trained.modalities}
    for file in files.values():
        missing = [clip for clip in args.clips if clip not in file]
        if missing:
            raise InputError(f"{file.path}: no feature for {missing[0]!r}; extract it, or leave it out")
    return lambda clip: {modality: file[clip] for modality, file in files.items()}


def ranked(clip, scores, classes, count):
    """Rows (clip, rank, class, probability) of the ``count`` highest ``scores``; their softmax is the probability."""
    probability, order = torch.softmax(scores.double(), 0).sort(descending=True, stable=True)
    best = zip(order[:count].tolist(), probability[:count].tolist(), strict=True)
    return [(clip, rank, classes[label], value) for rank, (label, value) in enumerate(best, 1)]


def show(rows):
    """A line a clip: its classes and their probabilities."""
    lines = {}
    for clip, _, name, value in rows:
        lines.setdefault(printable(clip), []).append(f"{printable(name)} {value:.3f}")
    width = max(map(len, lines), default=0)
    for clip, classes in lines.items():
        say(f"{clip.ljust(width)}  {', '.join(classes)}")


if __name__ == "__main__":
    main()
