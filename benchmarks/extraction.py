#!/usr/bin/env python3
"""Clips a second from videos to features: the two extraction commands beside the plain loop, one clip at a time.

    python benchmarks/extraction.py --clips 16

makes clips of 10 s (640 x 360, H.264 or MPEG-4, with sound) and networks of the published size with random weights,
since speed does not depend on the values, and prints a table. --encoders weight-free leaves the networks out, --videos
takes clips of your own. The last lines are of one process that decodes: the two steps beside --from videos.
"""

import argparse
import contextlib
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import torch

import extract_audios_frames
import extract_pretrained_features
from extraction.ffmpeg import extract_frames, extract_wav, find_ffmpeg
from extraction.videos import VideoClip
from model.encoders.audiomae import build_audiomae
from model.encoders.factory import build_audio_encoder, build_visual_encoder
from splits.clips import find_videos
from utils.command_line import cores, heading, positive
from utils.errors import MediaError

SAMPLE_RATE, FRAME_RATE = 11430, 8  # plain loop and commands alike


def main():
    args = parse()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        videos = own_clips(args) if args.videos else make_clips(root / "videos", args.clips, args.seconds)
        args.videos, args.clips = args.videos or str(root / "videos"), len(videos)
        (root / "ids.txt").write_text("".join(f"{video.stem}\n" for video in videos))
        audio_flags, visual_flags = encoder_flags(root, args.encoders)
        encoders = build_encoders(audio_flags, visual_flags, torch.device(args.device))
        rows = [
            ("sound and frames", timed(plain_media, videos, root), timed(our_media, root, args)),
            (
                "features",
                timed(plain_features, videos, root, encoders),
                timed(our_features, root, args, [*audio_flags, *visual_flags]),
            ),
        ]
        ways = [timed(way, root, args, [*audio_flags, *visual_flags]) for way in (two_steps, one_decode)]
    print(f"{args.clips} clips, {args.encoders} encoders, {cores()} cores, {args.device}")
    print(f"{'':18}{'plain loop':>24}{'our commands':>24}{'speed-up':>10}")
    for name, (plain, plain_busy), (ours, our_busy) in rows:
        print(
            f"{name:18}{args.clips / plain:10.2f}/s {plain_busy:4.1f} cores {args.clips / ours:10.2f}/s"
            f" {our_busy:4.1f} cores{plain / ours:9.2f}x"
        )
    print("\none process that decodes      clips/s    CPU s a clip")
    for name, (wall, busy) in zip(("two steps", "--from videos"), ways, strict=True):
        print(f"{name:24}{args.clips / wall:12.2f}{wall * busy / args.clips:16.3f}")
    (two, two_busy), (one, one_busy) = ways
    print(f"{'':24}{two / one:11.2f}x{two * two_busy / (one * one_busy):15.2f}x")


def parse():
    parser = argparse.ArgumentParser(description=heading(__doc__), allow_abbrev=False)
    parser.add_argument("--clips", type=positive, default=16)
    parser.add_argument("--videos", help="folder of clips to take in the place of made ones; those that fail count too")
    parser.add_argument("--seconds", type=positive, default=10)
    parser.add_argument("--encoders", choices=("published-size", "weight-free"), default="published-size")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch_size", type=positive, default=8)
    return parser.parse_args()


def make_clips(folder, count, seconds):
    """``count`` clips that differ, with a moving picture and a tone."""
    folder.mkdir()
    for number in range(count):
        picture = f"testsrc2=size=640x360:rate=30:duration={seconds},hue=h={number * 20}"
        sound = f"sine=frequency={200 + 20 * number}:sample_rate=44100:duration={seconds}"
        command = [find_ffmpeg(), "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", picture]
        command += ["-f", "lavfi", "-i", sound, "-b:v", "1500k", "-shortest", str(folder / f"{number:04d}.mp4")]
        subprocess.run(command, check=True)
    return sorted(folder.iterdir())


def own_clips(args):
    """The clips in ``--videos`` that have sound and pictures."""
    paths = sorted(path for found in find_videos(args.videos).paths.values() if len(found) == 1 for path in found)
    return [Path(path) for path in paths if gives_both(path)]


def gives_both(path):
    try:
        return bool(
            len(VideoClip(path).sound(SAMPLE_RATE)) and VideoClip(path).frames(FRAME_RATE, 1, lambda each: each)
        )
    except MediaError:
        return False


def encoder_flags(root, kind):
    """The flags that choose the encoders; networks of the published size are saved under ``root`` first."""
    if kind == "weight-free":
        return ["--audio_encoder", "logmel"], ["--visual_encoder", "patches"]
    from transformers.models.videomae.configuration_videomae import VideoMAEConfig
    from transformers.models.videomae.modeling_videomae import VideoMAEModel

    torch.save({"model": build_audiomae().state_dict()}, root / "audiomae.pth")
    VideoMAEModel(VideoMAEConfig(use_mean_pooling=False)).save_pretrained(root / "videomae")
    return (
        ["--audio_encoder", "audiomae", "--audio_checkpoint", str(root / "audiomae.pth")],
        ["--visual_encoder", "videomae", "--visual_checkpoint", str(root / "videomae")],
    )


def build_encoders(audio_flags, visual_flags, device):
    audio = build_audio_encoder(audio_flags[1], *audio_flags[3:], sample_rate=SAMPLE_RATE)
    visual = build_visual_encoder(visual_flags[1], *visual_flags[3:])
    return [(encoder.prepare, encoder.network.to(device).eval(), device) for encoder in (audio, visual)]


def timed(function, *arguments):
    """Wall-clock seconds of a call, and how many cores were busy on average, its child processes included."""
    start, busy = time.perf_counter(), processor_seconds()
    function(*arguments)
    wall = time.perf_counter() - start
    return wall, (processor_seconds() - busy) / wall


def processor_seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def plain_media(videos, root):
    (root / "plain" / "audios").mkdir(parents=True)
    (root / "plain" / "frames").mkdir()
    for video in videos:
        extract_wav(video, root / "plain" / "audios" / f"{video.stem}.wav", SAMPLE_RATE)
        extract_frames(video, root / "plain" / "frames" / video.stem, FRAME_RATE)


def plain_features(videos, root, encoders):
    features = {}
    for video in videos:
        inputs = (root / "plain" / "audios" / f"{video.stem}.wav", root / "plain" / "frames" / video.stem)
        for (prepare, network, device), path in zip(encoders, inputs, strict=True):
            with torch.inference_mode():
                features[network, video] = network(prepare(str(path))[None].to(device)).cpu().numpy()


def our_media(root, args, *more):
    rates = ("--frame_rate", FRAME_RATE, "--sample_rate", SAMPLE_RATE)
    run(extract_audios_frames.main, root, "--videos", args.videos, *rates, "--id_file", root / "ids.txt", *more)


def our_features(root, args, flags):
    run(extract_pretrained_features.main, root, *flags, "--device", args.device, "--batch_size", args.batch_size)


def two_steps(root, args, flags):
    one = root / "two steps"
    our_media(root, args, "--raw_root", one, "--num_workers", 1)
    our_features(root, args, [*flags, "--raw_root", one, "--data_root", one, "--num_workers", 0])


def one_decode(root, args, flags):
    rates = ("--frame_rate", FRAME_RATE, "--sample_rate", SAMPLE_RATE, "--id_file", root / "ids.txt")
    videos = ("--from", "videos", "--videos", args.videos, "--data_root", root / "one decode", *rates)
    our_features(root, args, [*flags, *videos, "--num_workers", 1])


def run(command, root, *flags):
    roots = ["--dataset", "clips", "--raw_root", root / "raw", "--data_root", root / "data"]
    with contextlib.redirect_stdout(io.StringIO()):
        command(list(map(str, [*roots, *flags])))


if __name__ == "__main__":
    main()
