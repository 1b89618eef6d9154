#!/usr/bin/env python3
"""Sound tracks and frames of a data set's video clips, the first of two steps from videos to features.

    python extract_audios_frames.py --dataset AVE

reads raw_data/AVE/videos/<id>.<suffix> and writes raw_data/AVE/audios/<id>.wav and raw_data/AVE/frames/<id>/000001.jpg
and so on. What is there already is not made again. Clips that fail are listed in raw_data/AVE/failed.csv; where
half do or more, the command ends with exit code 1.
"""

if __name__ == "__main__":
    from utils.environment import enter_environment

    enter_environment()

import os
from concurrent.futures import ThreadPoolExecutor, as_completed

from tqdm import tqdm

from extraction.failures import Failure, end, read_failures, reason_of, summary, write_failures
from extraction.ffmpeg import (
    MAX_SECONDS,
    extract_frames,
    extract_wav,
    ffmpeg_version,
    remove_partial,
)
from extraction.folder import MediaFolder
from splits.annotations import from_folders
from splits.clips import find_videos, has_splits, wanted_ids
from splits.draw import describe
from splits.formats import write_splits
from utils.command_line import (
    OneLineParser,
    add_data_options,
    cores,
    duration,
    frames_a_second,
    heading,
    hertz,
    number,
    pixels,
    share,
    workers,
)
from utils.datasets import MODALITIES, find_dataset
from utils.errors import command, is_of_machine, say
from utils.files import file_lock

WHAT = {"audio": "audio", "visual": "frames"}


@command
def main(arguments=None):
    args = parse(arguments)
    folder = MediaFolder(args.raw_root, args.dataset)
    videos = find_videos(args.videos or folder.videos)
    if args.val is not None or args.test is not None:
        split_by_folder(args, videos)
    ids = wanted_ids(args.dataset, args.data_root, args.id_file, args.all)
    ids = sorted(videos.paths) if ids is None else ids
    for path in (folder.path, folder.audios, folder.frames):
        os.makedirs(path, exist_ok=True)
    with file_lock(os.path.join(folder.path, ".lock"), folder.path):
        folder.start_record(recorded_options(args), ffmpeg_version())
        remove_partial(folder.audios, folder.frames)
        failures, new, kept = extract(args, folder, videos, ids)
        # Once more: an ffmpeg that outlived a killed run may have written on for a while.
        remove_partial(folder.audios, folder.frames)
        path = write_failures(folder.path, failures, tried(args, folder, ids))
    report(args, folder, videos, failures, new, kept, path)
    end(failures, len(failures) + sum(new.values()) + sum(kept.values()), path)


def tried(args, folder, ids):
    """(id, what) of all that this run looked at: earlier failures of these are out of date."""
    kinds = ("video", *(WHAT[modality] for modality in MODALITIES[args.modality]))
    # Files that stand for no id are listed anew by each run.
    files = {(failure.id, "video") for failure in read_failures(folder.path) if not args.id_file}
    return files | {(video, what) for video in ids for what in kinds}


def parse(arguments):
    parser = OneLineParser(prog="extract_audios_frames.py", description=heading(__doc__))
    group = parser.add_argument_group("clips")
    add_data_options(group)
    group.add_argument("--videos", help="folder of the video files; default: <raw_root>/<data set>/videos")
    group.add_argument("--val", type=share, help="clips in a folder per class: make splits with this share for val")
    group.add_argument("--test", type=share, help="likewise for test")
    group = parser.add_argument_group("output")
    group.add_argument(
        "--sample_rate",
        type=hertz,
        metavar="HZ",
        help="of sound; default: 16000, as AudioMAE was trained, and 11430 for the data sets of the release, as theirs",
    )
    group.add_argument("--frame_rate", type=frames_a_second, help="a second; default: 10 for AVE, 8 for all others")
    group.add_argument("--short_side", type=pixels, default=0, help="scale frames to this shorter side; 0: as is")
    group.add_argument(
        "--jpeg_quality",
        type=number(int, "0, or a whole number from 2 to 31", lambda value: value == 0 or 2 <= value <= 31),
        default=0,
        help="of frames, from 2 (best, three times as large) to 31; 0: ffmpeg's default, as released",
    )
    group = parser.add_argument_group("work")
    group.add_argument("--num_workers", type=workers, default=cores(), help="clips at a time")
    group.add_argument("--timeout", type=duration, default=600, help="seconds after which a clip is given up")
    group.add_argument("--max_seconds", type=duration, default=MAX_SECONDS, help="a longer clip fails")
    args = parser.parse_args(arguments)
    known = find_dataset(args.dataset)
    args.frame_rate = args.frame_rate or known.frames_per_second
    args.sample_rate = args.sample_rate or known.sample_rate
    return args


def recorded_options(args):
    modalities = MODALITIES[args.modality]
    audio = {"sample_rate": args.sample_rate} if "audio" in modalities else {}
    names = ("frame_rate", "short_side", "jpeg_quality") if "visual" in modalities else ()
    return audio | {name: getattr(args, name) for name in names}


def split_by_folder(args, videos):
    """Make the splits of clips that lie in a folder per class, unless there are splits already."""
    folder = os.path.join(args.data_root, find_dataset(args.dataset).folder)
    if has_splits(folder):
        say(f"{folder} has splits already: --val and --test change nothing")
        return
    splits = from_folders(videos, args.val or 0.0, args.test or 0.0)
    write_splits(folder, splits)
    say(f"{describe(splits)}\nWrote {os.path.join(folder, 'splits.csv')} and classes.txt")


def extract(args, folder, videos, ids):
    """Work on all ``ids``; return the failures and, per modality, how many clips are new and how many are kept."""
    modalities = MODALITIES[args.modality]
    failures = [Failure(name, "video", problem) for name, problem in videos.unusable.items()]
    todo = []
    new, kept = dict.fromkeys(modalities, 0), dict.fromkeys(modalities, 0)
    for video in ids:
        missing = [modality for modality in modalities if not folder.has(modality, video)]
        for modality in set(modalities) - set(missing):
            kept[modality] += 1
        problem = videos.problem_of(video) if missing else None
        if problem:
            failures.append(Failure(video, "video", problem))
        else:
            todo += [(modality, video) for modality in missing]
    for modality, video, reason in in_parallel(args, folder, videos, todo):
        if reason is None:
            new[modality] += 1
        else:
            failures.append(Failure(video, WHAT[modality], reason))
    return failures, new, kept


def in_parallel(args, folder, videos, todo):
    """Yield (modality, id, reason of failure or None) as clips are done, ``num_workers`` at a time."""
    # Threads suffice: each waits for an ffmpeg process, which does the work on one core.
    pool = ThreadPoolExecutor(args.num_workers)
    try:
        work = [
            pool.submit(extract_one, args, folder, videos.files_of(video)[0], modality, video)
            for modality, video in todo
        ]
        for done in tqdm(as_completed(work), total=len(work), desc="sound and frames", unit="file", disable=None):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def extract_one(args, folder, path, modality, video):
    try:
        if modality == "audio":
            extract_wav(path, folder.wav(video), args.sample_rate, args.timeout, args.max_seconds)
        else:
            frames = folder.frames_of(video)
            limits = args.timeout, args.max_seconds
            extract_frames(path, frames, args.frame_rate, args.short_side, *limits, args.jpeg_quality)
    except Exception as error:  # whatever one clip raises concerns that clip
        if is_of_machine(error):
            raise
        return modality, video, reason_of(error)
    return modality, video, None


def report(args, folder, videos, failures, new, kept, path):
    done = ", ".join(
        f"{WHAT[modality]} of {new[modality]} clips ({kept[modality]} were there)"
        for modality in MODALITIES[args.modality]
    )
    ignored = f"; {videos.ignored} files that are no videos ignored" if videos.ignored else ""
    say(f"Wrote {done} to {folder.path}; {summary(failures)}, listed in {path}{ignored}")


if __name__ == "__main__":
    main()
