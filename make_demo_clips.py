#!/usr/bin/env python3
"""Render the demonstration's video clips: handwritten digits that drift by while their dial tone sounds.

    python make_demo_clips.py

writes raw_data/dial_tones/videos/<id>.mp4 (H.264 and AAC), data/dial_tones/splits.csv and classes.txt. Clips that are
there are not made again. A clip of a handwriting is always the same; the seed
chooses which go into which split.
"""

if __name__ == "__main__":
    from utils.environment import enter_environment

    enter_environment()

import os
import subprocess
import tempfile
import wave
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from tqdm import tqdm

from extraction.ffmpeg import find_ffmpeg
from splits.formats import Splits, write_splits
from utils.command_line import DATA_ROOT, RAW_ROOT, OneLineParser, cores, heading, positive, seed
from utils.errors import InputError, command, say
from utils.files import atomic_path

if TYPE_CHECKING:
    from sklearn.utils import Bunch

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ROWS, COLUMNS = (697, 770, 852, 941), (1209, 1336, 1477)  # Hz
KEYS = {digit: (ROWS[(digit - 1) // 3], COLUMNS[(digit - 1) % 3]) for digit in range(1, 10)} | {0: (941, 1336)}
SIDE, FRAME_RATE, SECONDS, SAMPLE_RATE = 64, 8, 2, 8000
SCALE = 7  # pixels of a frame per pixel of a digit


@dataclass(frozen=True)
class Difficulty:
    """How faint the digit is (its contrast, 0 to 1), and how loud the noise is against a tone of amplitude 1."""

    contrast: tuple = (0.15, 0.5)
    pixel_noise: float = 0.2
    weak_tone: tuple = (0.0, 0.7)
    sound_noise: tuple = (0.3, 4.0)


def clip_id(digit, number):
    """The video id of handwriting ``number`` (its place in scikit-learn's set) of ``digit``."""
    return f"{NAMES[digit]}_{number:04d}"


def render(digit_image, digit, rng, difficulty=Difficulty()):
    """One clip: frames (T, SIDE, SIDE) uint8 and its sound, (N,) float32 within -1 to 1.

    ``digit_image`` (8, 8) holds 0 to 16; ``rng`` is a numpy Generator.
    """
    return _see(digit_image, rng, difficulty), _hear(digit, rng, difficulty)


def _see(digit_image, rng, difficulty):
    count, digit = SECONDS * FRAME_RATE, np.kron(digit_image / 16, np.ones((SCALE, SCALE)))
    room = SIDE - len(digit)
    start, end = rng.integers(0, room + 1, size=(2, 2))
    background = 0.35 + 0.1 * rng.standard_normal() + _smooth(rng)
    contrast = rng.uniform(*difficulty.contrast)
    frames = np.repeat(background[None], count, 0)
    for frame, way in zip(frames, np.linspace(0, 1, count), strict=True):
        y, x = np.rint(start + way * (end - start)).astype(int)
        frame[y : y + len(digit), x : x + len(digit)] += contrast * digit
    frames += difficulty.pixel_noise * rng.standard_normal(frames.shape)
    return (255 * frames.clip(0, 1)).astype(np.uint8)


def _smooth(rng):
    """A background of soft blobs."""
    return 0.15 * np.kron(rng.standard_normal((4, 4)), np.ones((SIDE // 4, SIDE // 4)))


def _hear(digit, rng, difficulty):
    time = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    weak = rng.uniform(*difficulty.weak_tone)
    levels = (1.0, weak) if rng.random() < 0.5 else (weak, 1.0)
    length = rng.uniform(0.3, 1.0)
    begin = rng.uniform(0, SECONDS - length)
    sounding = (time >= begin) & (time < begin + length)
    tone = sum(
        level * np.sin(2 * np.pi * (hertz * rng.uniform(0.985, 1.015) * time + rng.random()))
        for level, hertz in zip(levels, KEYS[digit], strict=True)
    )
    sound = tone * sounding + rng.uniform(*difficulty.sound_noise) * rng.standard_normal(len(time))
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


DATASET = "dial_tones"


@command
def main(arguments=None):
    parser = OneLineParser(description=heading(__doc__))
    parser.add_argument("--data_root", default=DATA_ROOT, help="where the splits go")
    parser.add_argument("--raw_root", default=RAW_ROOT, help="where the videos go")
    parser.add_argument("--train", type=positive, default=50, help="clips per class for training")
    parser.add_argument("--val", type=positive, default=12, help="clips per class for validation")
    parser.add_argument("--test", type=positive, default=30, help="clips per class for test")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the choice of clips")
    args = parser.parse_args(arguments)
    from sklearn.datasets import load_digits  # here: it takes seconds to load

    digits = cast("Bunch", load_digits())  # a tuple only where it is asked for one
    clips = choose(digits.target, {"train": args.train, "val": args.val, "test": args.test}, args.seed)
    videos = os.path.join(args.raw_root, DATASET, "videos")
    os.makedirs(videos, exist_ok=True)
    new = make_videos(clips, digits, videos)
    splits = {split: {clip_id(d, n): d for d, n in part} for split, part in clips.items()}
    write_splits(os.path.join(args.data_root, DATASET), Splits(list(NAMES), splits, videos))
    old = sum(map(len, clips.values())) - new
    say(f"Rendered {new} clips to {videos} ({old} were there), wrote their splits and classes")


def choose(target, counts, seed):
    """Pairs (digit, number of the handwriting) of each split, no handwriting in two: {split: [pairs]}."""
    clips = {split: [] for split in counts}
    rng = np.random.default_rng(seed)
    for digit in range(len(NAMES)):
        numbers = rng.permutation(np.flatnonzero(target == digit))
        wanted = sum(counts.values())
        if wanted > len(numbers):
            raise InputError(f"--train, --val and --test: {wanted} clips a class; {NAMES[digit]} has {len(numbers)}")
        for split, count in counts.items():
            clips[split] += [(digit, int(number)) for number in numbers[:count]]
            numbers = numbers[count:]
    return clips


def make_videos(clips, digits, folder):
    """Render every clip that is not in ``folder`` yet; return how many were."""
    missing = [
        (digit, number, path)
        for part in clips.values()
        for digit, number in part
        if not os.path.exists(path := os.path.join(folder, f"{clip_id(digit, number)}.mp4"))
    ]

    def make(job):
        digit, number, path = job
        frames, sound = render(digits.images[number], digit, np.random.default_rng(number))
        write_video(path, frames, sound)

    with ThreadPoolExecutor(cores()) as pool:
        for _ in tqdm(pool.map(make, missing), "Rendering clips", len(missing), disable=None, leave=False):
            pass
    return len(missing)


def write_video(path, frames, sound):
    """Encode grey ``frames`` (T, H, W) uint8 and ``sound`` (N,) within -1 to 1 as mp4, whole or not at all."""
    with atomic_path(path) as aside, tempfile.NamedTemporaryFile(suffix=".wav") as track:
        with wave.open(track.name, "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
            file.writeframes((sound * 32767).astype("<i2").tobytes())
        pictures = ("-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{SIDE}x{SIDE}", "-r", str(FRAME_RATE), "-i", "-")
        coding = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-pix_fmt", "yuv420p", "-c:a", "aac")
        sound_in = ("-i", track.name)
        command = [find_ffmpeg(), "-y", "-loglevel", "error", "-threads", "1", *pictures, *sound_in, *coding, aside]
        done = subprocess.run(command, input=frames.tobytes(), capture_output=True, check=False)
        if done.returncode:
            raise InputError(f"{path}: ffmpeg cannot write it: {done.stderr.decode(errors='replace')[-200:]}")


if __name__ == "__main__":
    main()
