#!/usr/bin/env python3
"""Features of a data set's clips by pretrained encoders, the second of two steps from videos to features.

    python extract_pretrained_features.py --dataset AVE

reads raw_data/AVE/{audios,frames} and writes the feature stores that training reads, data/AVE/*_pretrained_feature/
*_store.json and the arrays that these name. It goes on where it was stopped. Clips that fail are listed in
data/AVE/failed.csv. On several GPUs: torchrun --nproc_per_node 4 extract_pretrained_features.py --dataset AVE ...
"""

if __name__ == "__main__":
    from utils.environment import enter_environment

    enter_environment()

import argparse
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from importlib.metadata import version
from types import SimpleNamespace

import torch

from extraction.failures import Failure, end, read_failures, summary, write_failures
from extraction.ffmpeg import MAX_SECONDS
from extraction.folder import MediaFolder
from extraction.inputs import FromFiles, FromVideos
from extraction.pipeline import PRECISIONS, RECORDED, Job, extract_features, plan_batches, read_precision
from features.store import index_path
from features.store_writer import StoreWriter, refuse_if_full
from model.encoders.factory import (
    AUDIO_ENCODERS,
    VISUAL_ENCODERS,
    build_audio_encoder,
    build_visual_encoder,
)
from splits.clips import find_videos, id_problem, wanted_ids
from utils.command_line import (
    OneLineParser,
    add_data_options,
    cores,
    duration,
    frames_a_second,
    heading,
    hertz,
    positive,
    workers_or_none,
)
from utils.datasets import MODALITIES, find_dataset
from utils.devices import Group, check_precision
from utils.errors import InputError, command, say
from utils.files import file_lock

WHAT = {"audio": "audio_feature", "visual": "visual_feature"}
# Options of the first step that reading videos has as well: type, default, help.
OF_VIDEOS = {
    "videos": (str, None, "folder of the video files; default: <raw_root>/<data set>/videos"),
    "sample_rate": (hertz, None, "Hz of sound; default: 16000, as AudioMAE was trained; the release's sets: 11430"),
    "frame_rate": (frames_a_second, None, "frames a second; default: 10 for AVE, 8 for all others"),
    "timeout": (duration, 600.0, "seconds after which a clip is given up; default: 600"),
    "max_seconds": (duration, MAX_SECONDS, f"a longer clip fails; default: {MAX_SECONDS}"),
}


@command
def main(arguments=None):
    args = parse(arguments)
    group = Group()
    args.device = group.device(args.device)
    check_precision(args.precision, args.device)
    torch.backends.cuda.matmul.allow_tf32 = args.precision == "tf32"
    if args.num_workers is None:
        args.num_workers = group.share_of(cores())
    data = os.path.join(args.data_root, find_dataset(args.dataset).folder)
    inputs, ids, unusable = (from_videos if args.source == "videos" else from_files)(args)
    modalities = MODALITIES[args.modality]
    encoders = {modality: build(args, modality, inputs) for modality in modalities}
    os.makedirs(data, exist_ok=True)
    with locked(data, modalities) if group.is_main else nullcontext():
        jobs = [make_job(args, data, modality, ids, encoders[modality], inputs) for modality in modalities]
        if group.is_main:
            begin(jobs, data)
        group.barrier()
        # What is read from videos is read for both modalities at once.
        done = [extract(args, each, group) for each in ([jobs] if args.source == "videos" else [[job] for job in jobs])]
        if group.is_main:
            failures = [failure for _, failed in done for failure in failed] + bad_names(ids, modalities) + unusable
            tried = {(video, WHAT[each]) for video in ids for each in modalities}
            tried |= {(failure.id, "video") for failure in read_failures(data) if args.source == "videos"}
            path = write_failures(data, failures, tried)
            lines = " and ".join(line for lines, _ in done for line in lines)
            say(f"Wrote {lines}; {summary(failures)}, listed in {path}")
    group.close()
    if group.is_main:
        end(failures, len(ids) * len(modalities), path)


@contextmanager
def locked(data, modalities) -> Iterator[None]:
    """Hold what another extraction, or a conversion of these features, would write."""
    with ExitStack() as stack:
        stack.enter_context(file_lock(os.path.join(data, ".extraction.lock"), data))
        for path in (index_path(data, modality) for modality in modalities):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            stack.enter_context(file_lock(f"{path}.lock", "this store"))
        yield


def parse(arguments):
    parser = OneLineParser(prog="extract_pretrained_features.py", description=heading(__doc__))
    add_data_options(parser.add_argument_group("clips"))
    group = parser.add_argument_group("from what")
    group.add_argument(
        "--from",
        dest="source",
        choices=("files", "videos"),
        default="files",
        help="files: the sound and frames of extract_audios_frames; videos: each decoded once, no file in between",
    )
    for name, (kind, _, text) in OF_VIDEOS.items():
        group.add_argument(f"--{name}", type=kind, help=f"with --from videos: {text}")
    group = parser.add_argument_group("encoders")
    group.add_argument("--audio_encoder", default="audiomae", help=f"one of {', '.join(AUDIO_ENCODERS)}")
    group.add_argument("--audio_checkpoint", help="file of AudioMAE's weights; default: hub, which fetches them")
    group.add_argument(
        "--normalize_fbank",
        action=argparse.BooleanOptionalAction,
        help="filter banks less AudioSet's mean, over 2 sd; default: yes, and no for the data sets of the release",
    )
    group.add_argument("--visual_encoder", default="videomae", help=f"one of {', '.join(VISUAL_ENCODERS)}")
    group.add_argument(
        "--visual_checkpoint",
        help="VideoMAE: folder or hub name, default MCG-NJU/videomae-base; timm: a file, or efficientnet-lite0",
    )
    group.add_argument("--pooled", action="store_true", help="store one visual position a frame, not all")
    group = parser.add_argument_group("output")
    group.add_argument("--feature_dtype", choices=("float32", "float16"), default="float32", help="type stored")
    group = parser.add_argument_group("work")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    group.add_argument(
        "--precision", type=read_precision, choices=PRECISIONS, default="fp32", help="of the network's matrix products"
    )
    group.add_argument("--batch_size", type=positive, default=8, help="clips a batch")
    group.add_argument(
        "--num_workers", type=workers_or_none, help="processes that decode; 0: none extra; default: one a core"
    )
    args = parser.parse_args(arguments)
    args.line = sys.argv[1:] if arguments is None else arguments
    for name, (_, default, _) in OF_VIDEOS.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
        elif args.source != "videos":
            raise InputError(f"--{name}: goes with --from videos; leave it out, or give it to extract_audios_frames")
    known = find_dataset(args.dataset)
    args.frame_rate = args.frame_rate or known.frames_per_second
    args.sample_rate = args.sample_rate or known.sample_rate
    return args


def from_videos(args):
    """The videos as inputs, the ids to work on, and the failures of files that are no clips."""
    videos = find_videos(args.videos or MediaFolder(args.raw_root, args.dataset).videos)
    ids = wanted_ids(args.dataset, args.data_root, args.id_file, args.all)
    unusable = [Failure(name, "video", problem) for name, problem in videos.unusable.items()]
    inputs = FromVideos(videos, args.sample_rate, args.frame_rate, args.max_seconds)
    return inputs, sorted(videos.paths) if ids is None else ids, unusable


def from_files(args):
    """Sound and frames as inputs, and the ids to work on, whether or not all have them; InputError if none has."""
    raw = MediaFolder(args.raw_root, args.dataset)
    extracted = {modality: raw.extracted(modality) for modality in MODALITIES[args.modality]}
    for modality in (modality for modality, videos in extracted.items() if not videos):
        folder = raw.audios if modality == "audio" else raw.frames
        raise InputError(f"{folder}: nothing in it; run sh extract_audios_frames.sh '{args.dataset}' first")
    ids = wanted_ids(args.dataset, args.data_root, args.id_file, args.all)
    return FromFiles(raw), sorted(set().union(*extracted.values())) if ids is None else ids, []


def make_job(args, data, modality, ids, encoder, inputs):
    inputs.prepare[modality] = encoder.prepare
    going_on = shlex.join([".venv/bin/python", "extract_pretrained_features.py", *args.line])
    attributes = encoder.attributes | inputs.attributes(modality) | recorded(args)
    writer = StoreWriter(data, modality, encoder.shape, args.feature_dtype, attributes, command=going_on)
    return Job(modality, [video for video in ids if not id_problem(video)], encoder, writer, inputs)


def begin(jobs, data):
    """Refuse what can be refused, say how much disk it takes, and plan the stores: all before the first clip."""
    for job in jobs:
        if job.encoder.left_out:
            say(f"{job.encoder.name}: keys of the checkpoint that are not used: {', '.join(job.encoder.left_out)}")
        job.writer.check()
    size = sum(job.writer.plan(sorted(set(job.ids).difference(job.missing()))) for job in jobs)
    say(f"Features to write: {refuse_if_full(data, size, 'make room, or pass --feature_dtype float16 or --pooled')}")
    for job in jobs:
        job.writer.begin()


def extract(args, jobs, group):
    """Extract the features of ``jobs`` together; return a line on each, and the failures of all ranks."""
    todo = {}
    for job in jobs:
        if not group.is_main:
            job.writer.join()
        for video in set(job.ids).difference(job.writer.done(), job.missing()):
            todo.setdefault(video, []).append(job.modality)
    # Batches are planned without regard to what is done: a run that goes on makes the same ones, and skips those.
    planned = plan_batches(
        list(dict.fromkeys(v for job in jobs for v in job.writer.rows)), args.batch_size, group.rank, group.world
    )
    batches = [{video: todo[video] for video in batch if video in todo} for batch in planned]
    options = SimpleNamespace(**vars(args), show_progress=group.is_main)
    found = extract_features(jobs, list(filter(None, batches)), options)
    lines, failures = [], []
    for job in jobs:
        count, failed = found[job.modality]
        count, failed = sum(group.gather([count])), group.gather(failed)
        if group.is_main:
            lines.append(
                f"{job.modality} features of {count} clips ({job.writer.finish()} in all) to {job.writer.index}"
            )
        failures += failed
        failures += [Failure(v, WHAT[job.modality], job.inputs.reason(job.modality, v)) for v in job.missing()]
    return lines, failures


def bad_names(ids, modalities):
    """Failures of ids that can be none: names of files or folders given by hand."""
    problems = {video: problem for video in ids if (problem := id_problem(video))}
    return [Failure(video, WHAT[each], problem) for video, problem in problems.items() for each in modalities]


def build(args, modality, inputs):
    if modality == "visual":
        return build_visual_encoder(args.visual_encoder, args.visual_checkpoint, args.pooled)
    normalized = args.normalize_fbank
    if normalized is None:
        normalized = args.audio_encoder == "audiomae" and find_dataset(args.dataset).normalize_fbank
    return build_audio_encoder(args.audio_encoder, args.audio_checkpoint, inputs.sample_rate, normalized)


def recorded(args):
    """What the store says about its features, beside encoder and inputs."""
    return {
        "precision": RECORDED.get(args.precision, args.precision),
        "feature_dtype": args.feature_dtype,
        "software": f"torch {torch.__version__}, timm {version('timm')}, transformers {version('transformers')}",
    }


if __name__ == "__main__":
    main()
