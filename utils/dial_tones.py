"""The dial-tone clips of the demonstration: a handwritten digit is seen drifting, its telephone key tone is heard.

Handwriting: scikit-learn's 1,797 real digits of 8 x 8 pixels. Sound: the two tones (DTMF, ITU-T Q.23) of the key. Both
are made hard on purpose, so that neither sense alone suffices: the digit is faint and moves over noise, one of its two
tones is weak, and the tone starts anywhere and drowns in noise.
"""

from dataclasses import dataclass

import numpy as np

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
