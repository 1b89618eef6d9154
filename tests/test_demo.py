"""The demonstration's clips: what is seen and heard in them, and that they are made once."""

import contextlib
import io

import numpy as np
from sklearn.datasets import load_digits

import make_demo_clips
from make_demo_clips import KEYS, SAMPLE_RATE, SIDE, Difficulty, render
from splits.formats import read_splits

CLEAR = Difficulty(contrast=(0.6, 0.6), pixel_noise=0.0, weak_tone=(1.0, 1.0), sound_noise=(0.0, 0.0))


def make(tmp_path, *flags):
    roots = ["--data_root", str(tmp_path / "data"), "--raw_root", str(tmp_path / "raw")]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        make_demo_clips.main([*roots, "--train", "2", "--val", "1", "--test", "1", *flags])
    return printed.getvalue()


def test_keys_sound_their_two_tones():
    digits = load_digits()
    for digit, tones in KEYS.items():
        _, sound = render(digits.images[0], digit, np.random.default_rng(digit), CLEAR)
        spectrum = np.abs(np.fft.rfft(sound))
        hertz = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
        for tone in tones:
            near = np.abs(hertz / tone - 1) < 0.016
            assert spectrum[near].max() > 0.3 * spectrum.max()
        far = np.all([np.abs(hertz / tone - 1) > 0.05 for tone in tones], axis=0)
        assert spectrum[far].max() < 0.1 * spectrum.max()
    assert len(set(KEYS.values())) == 10


def test_the_digit_is_seen_and_moves():
    frames, sound = render(load_digits().images[0], 0, np.random.default_rng(1), CLEAR)
    assert frames.shape == (16, SIDE, SIDE) and frames.dtype == np.uint8
    assert sound.dtype == np.float32 and np.abs(sound).max() <= 0.5
    assert (frames[0] != frames[-1]).any()
    again, _ = render(load_digits().images[0], 0, np.random.default_rng(1), CLEAR)
    np.testing.assert_array_equal(frames, again)


def test_clips_are_made_once_and_splits_share_no_handwriting(tmp_path):
    assert "Rendered 40 clips" in make(tmp_path)
    videos = sorted((tmp_path / "raw" / "dial_tones" / "videos").iterdir())
    assert len(videos) == 40 and all(video.stat().st_size > 5000 for video in videos)
    splits = read_splits(str(tmp_path / "data" / "dial_tones"))
    assert {split: len(clips) for split, clips in splits.clips.items()} == {"train": 20, "val": 10, "test": 10}
    assert len({video for clips in splits.clips.values() for video in clips}) == 40
    target = load_digits().target
    for clips in splits.clips.values():
        assert all(target[int(video[-4:])] == label for video, label in clips.items())
    before = [video.stat().st_mtime_ns for video in videos]
    assert "Rendered 0 clips" in make(tmp_path)
    assert before == [video.stat().st_mtime_ns for video in videos]
