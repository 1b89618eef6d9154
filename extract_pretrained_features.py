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
from dataclasses import dataclass
from importlib.metadata import version
from types import SimpleNamespace

import torch

from extraction.failures import Failure, end, read_failures, summary, write_failures
from extraction.folder import MediaFolder, wav_rate
from extraction.pipeline import PRECISIONS, RECORDED, extract_features, plan_batches, read_precision
from features.store import index_path
from features.store_writer import StoreWriter, refuse_if_full
from model.encoders.factory import (
    AUDIO_ENCODERS,
    VISUAL_ENCODERS,
    Encoder,
    build_audio_encoder,
    build_visual_encoder,
)
from splits.clips import id_problem, wanted_ids
from utils.command_line import OneLineParser, add_data_options, cores, heading, not_negative, positive
from utils.datasets import MODALITIES, find_dataset
from utils.devices import Group, check_precision
from utils.errors import InputError, command
from utils.files import file_lock

WHAT = {"audio": "audio_feature", "visual": "visual_feature"}


@dataclass
class Job:
    """The features of one modality: of ``ids``, those that can name a clip and whose sound or frames are there."""

    modality: str
    ids: list[str]
    encoder: Encoder
    writer: StoreWriter
    raw: MediaFolder

    def missing(self) -> list[str]:
        """The ids that have neither a feature nor what it is made from."""
        return [v for v in self.ids if v not in self.writer.stored and not self.raw.has(self.modality, v)]


@command
def main(arguments=None):
    args = parse(arguments)
    group = Group()
    args.device = group.device(args.device)
    check_precision(args.precision, args.device)
    torch.backends.cuda.matmul.allow_tf32 = args.precision == "tf32"
    if args.num_workers is None:
        args.num_workers = group.share_of(cores())
    raw = MediaFolder(args.raw_root, args.dataset)
    data = os.path.join(args.data_root, find_dataset(args.dataset).folder)
    ids, modalities = clips_of(args, raw), MODALITIES[args.modality]
    encoders = {modality: BUILD[modality](args, raw) for modality in modalities}
    os.makedirs(data, exist_ok=True)
    with locked(data, modalities) if group.is_main else nullcontext():
        jobs = [make_job(args, raw, data, modality, ids, encoders[modality]) for modality in modalities]
        if group.is_main:
            begin(jobs, data)
        group.barrier()
        done = [extract_modality(args, job, group) for job in jobs]
        if group.is_main:
            failures = [failure for _, failed in done for failure in failed] + bad_names(ids, modalities)
            path = write_failures(data, failures, {(video, WHAT[each]) for video in ids for each in modalities})
            print(f"Wrote {' and '.join(line for line, _ in done)}; {summary(failures)}, listed in {path}", flush=True)
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
        "--num_workers", type=not_negative, help="processes that decode; 0: none extra; default: one a core"
    )
    args = parser.parse_args(arguments)
    args.line = sys.argv[1:] if arguments is None else arguments
    return args


def clips_of(args, raw):
    """The ids to work on, whether or not all have sound and frames; InputError if none has."""
    extracted = {modality: raw.extracted(modality) for modality in MODALITIES[args.modality]}
    for modality in (modality for modality, videos in extracted.items() if not videos):
        folder = raw.audios if modality == "audio" else raw.frames
        raise InputError(f"{folder}: nothing in it; run sh extract_audios_frames.sh '{args.dataset}' first")
    ids = wanted_ids(args.dataset, args.data_root, args.id_file, args.all)
    return sorted(set().union(*extracted.values())) if ids is None else ids


def make_job(args, raw, data, modality, ids, encoder):
    going_on = shlex.join([".venv/bin/python", "extract_pretrained_features.py", *args.line])
    writer = StoreWriter(
        data, modality, encoder.shape, args.feature_dtype, attributes(args, raw, encoder), command=going_on
    )
    return Job(modality, [video for video in ids if not id_problem(video)], encoder, writer, raw)


def begin(jobs, data):
    """Refuse what can be refused, say how much disk it takes, and plan the stores: all before the first clip."""
    for job in jobs:
        if job.encoder.left_out:
            print(f"{job.encoder.name}: keys of the checkpoint that are not used: {', '.join(job.encoder.left_out)}")
        job.writer.check()
    size = sum(job.writer.plan(sorted(set(job.ids).difference(job.missing()))) for job in jobs)
    print(f"Features to write: {refuse_if_full(data, size, 'make room, or pass --feature_dtype float16 or --pooled')}")
    for job in jobs:
        job.writer.begin()


def extract_modality(args, job, group):
    """Extract the features of one modality; return a line on what was written, and the failures of all ranks."""
    raw, modality, writer = job.raw, job.modality, job.writer
    if not group.is_main:
        writer.join()
    paths = {video: raw.wav(video) if modality == "audio" else raw.frames_of(video) for video in job.ids}
    missing = job.missing()
    # Batches are planned without regard to what is done: a run that goes on makes the same ones, and skips those.
    todo = paths.keys() - writer.done().keys() - set(missing)
    planned = plan_batches(list(writer.rows), args.batch_size, group.rank, group.world)
    batches = [[video for video in batch if video in todo] for batch in planned]
    options = SimpleNamespace(**vars(args), what=WHAT[modality], show_progress=group.is_main)
    count, failures = extract_features(job.encoder, writer, list(filter(None, batches)), paths, options)
    count, failures = sum(group.gather([count])), group.gather(failures)
    line = f"{modality} features of {count} clips ({writer.finish()} in all) to {writer.index}" if group.is_main else ""
    return line, failures + missing_inputs(raw, modality, missing)


def bad_names(ids, modalities):
    """Failures of ids that can be none: names of files or folders given by hand."""
    problems = {video: problem for video in ids if (problem := id_problem(video))}
    return [Failure(video, WHAT[each], problem) for video, problem in problems.items() for each in modalities]


def build_audio(args, raw):
    first = next(iter(raw.extracted("audio")))
    rate = raw.record().get("sample_rate") or wav_rate(raw.wav(first))
    normalized = args.normalize_fbank
    if normalized is None:
        normalized = args.audio_encoder == "audiomae" and find_dataset(args.dataset).normalize_fbank
    return build_audio_encoder(args.audio_encoder, args.audio_checkpoint, rate, normalized)


def build_visual(args, raw):
    encoder = build_visual_encoder(args.visual_encoder, args.visual_checkpoint, args.pooled)
    record = raw.record()
    encoder.attributes |= {name: record.get(name, "unknown") for name in ("frame_rate", "short_side")}
    return encoder


BUILD = {"audio": build_audio, "visual": build_visual}


def attributes(args, raw, encoder):
    """What the file says about its features."""
    return encoder.attributes | {
        "precision": RECORDED.get(args.precision, args.precision),
        "feature_dtype": args.feature_dtype,
        "ffmpeg": ", ".join(raw.record().get("ffmpeg", ["unknown"])),
        "software": f"torch {torch.__version__}, timm {version('timm')}, transformers {version('transformers')}",
    }


def missing_inputs(raw, modality, videos):
    """Failures of clips without sound or frames, with the reason that the first step gave."""
    step = "audio" if modality == "audio" else "frames"
    reasons = {(failure.id, failure.what): failure.reason for failure in read_failures(raw.path)}
    return [
        Failure(v, WHAT[modality], reasons.get((v, step)) or reasons.get((v, "video")) or f"no {step} extracted yet")
        for v in videos
    ]


if __name__ == "__main__":
    main()
