"""Features read from videos: in one decode the sound and pictures of the two steps, and no clip that harms another."""

import csv
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from extract_audios_frames import main as extract_media
from extract_pretrained_features import main
from extraction import inputs, videos
from extraction.constant_rate import constant_rate
from extraction.ffmpeg import extract_wav, find_ffmpeg
from extraction.new_clips import ClipFeatures
from extraction.videos import VideoClip
from features.store import open_features
from model.encoders.frames import choose_frames
from splits.clips import find_videos
from tests.helpers.make_videos import make_video
from tests.helpers.shared import shared
from utils.errors import MediaError

PLAIN = ("--audio_encoder", "logmel", "--visual_encoder", "patches")
RATE = 11430
# Name -> what make_video is to make of it.
CLIPS = {
    "mpeg4.mp4": {},
    "vp8.webm": {"rate": 25},
    "faster.mkv": {"rate": 60},
    "slower.mkv": {"rate": 3, "seconds": 3},
    "odd rate.mp4": {"rate": "30000/1001"},
    "surround.mkv": {"options": ("-ac", "6")},
    "h264.mp4": {"options": ("-c:v", "libx264", "-bf", "2", "-pix_fmt", "yuv420p"), "seconds": 2},
    "pyramid.mkv": {"options": ("-c:v", "libx264", "-bf", "5", "-pix_fmt", "yuv420p"), "seconds": 2, "rate": 25},
    "stream.ts": {"options": ("-c:v", "libx264", "-bf", "2", "-pix_fmt", "yuv420p"), "seconds": 2},
    "ten bits.mkv": {"options": ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=none")},
    "short.mp4": {"seconds": 0.3},
    "colours.avi": {"size": "66x50", "options": ("-c:v", "ffv1", "-pix_fmt", "yuv444p")},
    "variable.mkv": {"seconds": 2, "options": ("-vf", "select='lt(t,1)+eq(mod(n,3),1)'", "-fps_mode", "vfr")},
}


def two_steps(video, folder, frame_rate=8):
    """Sound and frames of the commands, these without loss: int16 (n, channels), and all frames (H, W, 3)."""
    extract_wav(str(video), str(folder / "sound.wav"), RATE)
    frames = folder / "frames"
    frames.mkdir()
    options = ["-an", "-r", str(frame_rate), "-pix_fmt", "rgb24", str(frames / "%06d.png")]
    _ffmpeg(video, *options)
    pictures = [np.asarray(Image.open(frames / name)) for name in sorted(os.listdir(frames))]
    return soundfile.read(folder / "sound.wav", dtype="int16", always_2d=True)[0], pictures


def _ffmpeg(video, *options):
    # In one thread, as the commands: what is damaged comes out otherwise in several.
    command = [find_ffmpeg(), "-nostdin", "-loglevel", "error", "-threads", "1", "-i", f"file:{video}", *options]
    subprocess.run(command, check=True)


@pytest.mark.parametrize("name", CLIPS)
def test_one_decode_gives_what_the_two_steps_give(tmp_path, name):
    video = make_video(tmp_path / name, **CLIPS[name])
    sound, frames = two_steps(video, tmp_path)
    clip = VideoClip(str(video))
    np.testing.assert_array_equal(clip.sound(RATE), sound)
    ours = clip.frames(8, 16, lambda picture: picture)
    np.testing.assert_array_equal(ours, [frames[index] for index in choose_frames(len(frames))])


@pytest.mark.parametrize("name", ["aw_audio_late.mp4", "aw_bitrot.mp4", "rot_180.mov", "aw_wmv.wmv"])
def test_one_decode_of_real_clips(tmp_path, name):
    video = shared("data/videos") / name
    clip, silent = VideoClip(str(video)), name == "rot_180.mov"
    if silent:
        with pytest.raises(MediaError, match="no audio track"):
            clip.sound(RATE)
        sound, frames = None, two_steps_of_silent(video, tmp_path)
    else:
        sound, frames = two_steps(video, tmp_path)
        np.testing.assert_array_equal(clip.sound(RATE), sound)
    ours = clip.frames(8, 16, lambda picture: picture)
    np.testing.assert_array_equal(ours, [frames[index] for index in choose_frames(len(frames))])


def two_steps_of_silent(video, folder):
    _ffmpeg(video, "-r", "8", "-pix_fmt", "rgb24", str(folder / "%06d.png"))
    return [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]


def test_a_constant_rate_shows_frames_again_or_leaves_them_out():
    assert constant_rate([(0, 1), (1, 1), (2, 1)]) == [0, 1, 2]
    assert constant_rate([(0, 4), (4, 4)]) == [0] * 4 + [1] * 4
    assert constant_rate([(3, 1)]) == [0] * 4  # one that begins late stands for what is missing before it
    assert constant_rate([]) == []


def test_pictures_whose_times_the_file_does_not_tell_are_decoded_again(tmp_path, monkeypatch):
    video = make_video(tmp_path / "a.mp4", seconds=2)
    expected = VideoClip(str(video)).frames(8, 16, lambda picture: picture)
    for told in ([], [(0.0, 1.0)] * 3, [(float(number), 1.0) for number in range(50)]):
        monkeypatch.setattr(VideoClip, "_times", lambda self, rate, told=told: (told, []))
        np.testing.assert_array_equal(VideoClip(str(video)).frames(8, 16, lambda picture: picture), expected)


def test_pictures_that_no_other_needs_are_not_decoded(tmp_path, monkeypatch):
    video = make_video(tmp_path / "a.mkv", **CLIPS["pyramid.mkv"])
    wanted = VideoClip(str(video)).frames(8, 4, lambda picture: picture)
    counts, decoded = [], videos._decoded

    def counted(*arguments):
        for frame in decoded(*arguments):
            counts[-1] += 1
            yield frame

    def decode_few(self, *arguments):
        counts.append(0)
        return few(self, *arguments)

    def decode_all(self, *arguments):
        counts.append(0)
        return every(self, *arguments)

    few, every = VideoClip._decode_few, VideoClip._decode
    monkeypatch.setattr(videos, "_decoded", counted)
    monkeypatch.setattr(VideoClip, "_decode_few", decode_few)
    monkeypatch.setattr(VideoClip, "_decode", decode_all)
    np.testing.assert_array_equal(VideoClip(str(video)).frames(8, 4, lambda picture: picture), wanted)
    assert len(counts) == 1 and counts[0] < 40  # of 50
    # What the decoder gives in another way than the packets said is decoded in full.
    monkeypatch.setattr(VideoClip, "_decode_few", lambda self, *arguments: {})
    np.testing.assert_array_equal(VideoClip(str(video)).frames(8, 4, lambda picture: picture), wanted)
    assert counts[1:] == [50]


def run(tmp_path, *flags):
    roots = ("--raw_root", tmp_path / "raw", "--data_root", tmp_path / "data")
    line = ("--dataset", "mine", *roots, "--device", "cpu", "--num_workers", 1, "--from", "videos", *PLAIN, *flags)
    main([*map(str, line)])
    return tmp_path / "data" / "mine"


def failures(folder):
    with open(folder / "failed.csv", newline="", encoding="utf-8") as file:
        return {(row["id"], row["what"]): row["reason"] for row in csv.DictReader(file)}


def some_clips(tmp_path, names):
    for number, name in enumerate(names):
        make_video(tmp_path / "raw" / "mine" / "videos" / name, seconds=0.5, tone=300 + 90 * number)
    return tmp_path / "raw" / "mine" / "videos"


def test_sound_features_are_those_of_the_two_steps_and_pictures_differ_by_the_jpegs(tmp_path):
    some_clips(tmp_path, ["a.mp4", "b.mkv", "-c.webm"])
    one = run(tmp_path, "--batch_size", 2)
    assert failures(one) == {}
    roots = ["--dataset", "mine", "--raw_root", str(tmp_path / "raw"), "--data_root", str(tmp_path / "two")]
    extract_media([*roots, "--jpeg_quality", "2"])
    main([*roots, "--device", "cpu", "--num_workers", "0", *PLAIN])
    for modality, differs in (
        ("audio", 0),
        ("visual", 0.15),
    ):  # a sixth of the pixels' deviation: test pictures are sharp
        ours, theirs = open_features(one, modality), open_features(tmp_path / "two" / "mine", modality)
        assert ours.all_ids() == theirs.all_ids() == ["-c", "a", "b"]
        assert max(np.abs(ours[video] - theirs[video]).mean() for video in ours.all_ids()) <= differs
    assert ours.attributes["from"] == "videos" and "PyAV" in ours.attributes["ffmpeg"]
    assert "from" not in theirs.attributes and theirs.attributes["jpeg_quality"] == 2


def test_odd_clips_are_listed_and_stop_no_other(tmp_path):
    videos = some_clips(tmp_path, ["good.mp4", "twice.mp4", "twice.mkv", "other.mkv"])
    make_video(videos / "mute.mp4", sound=False, seconds=0.5)
    make_video(videos / "radio.mkv", picture=False, seconds=0.5)
    make_video(videos / "long.mp4", seconds=5)
    (videos / "list.mp4").write_text("ffconcat version 1.0\nfile good.mp4\n")
    (videos / "html.mp4").write_bytes(b"<html>not found</html>")
    (videos / "empty.mp4").touch()
    os.mkfifo(videos / "pipe.mp4")
    with pytest.raises(SystemExit, match="1"):  # most of them failed
        run(tmp_path, "--max_seconds", 3)
    found = failures(folder := tmp_path / "data" / "mine")
    assert found["mute", "audio_feature"] == "no audio track" and ("mute", "visual_feature") not in found
    assert found["radio", "visual_feature"] == "no video stream" and ("radio", "audio_feature") not in found
    for modality in ("audio", "visual"):
        what = f"{modality}_feature"
        assert "longer than 3 seconds" in found["long", what] and "several files of one id" in found["twice", what]
        for name in ("list", "html", "empty"):
            assert found[name, what].startswith("not a video that ffmpeg can read")
    assert found["pipe.mp4", "video"] == "not a regular file"
    assert open_features(folder, "audio").all_ids() == ["good", "other", "radio"]
    assert open_features(folder, "visual").all_ids() == ["good", "mute", "other"]


def test_a_clip_that_crashes_or_hangs_the_decoder_fails_alone(tmp_path, monkeypatch):
    some_clips(tmp_path, [f"{name}.mp4" for name in "abcde"])
    sound = VideoClip.sound

    def odd(self, rate):
        name = Path(self.path).stem
        if name == "b":
            os.kill(os.getpid(), signal.SIGSEGV)
        if name == "c":
            time.sleep(600)
        if name == "d":
            raise ZeroDivisionError("nobody thought of this")
        return sound(self, rate)

    monkeypatch.setattr(VideoClip, "sound", odd)
    with pytest.raises(SystemExit, match="1"):  # half of the work failed
        run(tmp_path, "--timeout", 5)
    folder = tmp_path / "data" / "mine"
    found = failures(folder)
    assert found["b", "audio_feature"] == found["b", "visual_feature"] == "its decoder was ended by SIGSEGV"
    assert found["c", "audio_feature"] == "its decoding did not finish within 5 seconds"
    assert found["d", "audio_feature"] == "ZeroDivisionError: nobody thought of this"
    assert ("d", "visual_feature") not in found and len(found) == 5
    assert open_features(folder, "audio").all_ids() == ["a", "e"]
    assert open_features(folder, "visual").all_ids() == ["a", "d", "e"]


def test_what_was_made_in_another_way_is_not_mixed_in(tmp_path, capsys):
    some_clips(tmp_path, ["a.mp4", "b.mp4"])
    run(tmp_path)
    for flags, message in [
        (("--frame_rate", 5), "made with frame_rate 8, not 5"),
        (("--sample_rate", 8000), "made with sample_rate 16000, not 8000"),
        (("--from", "files"), "nothing in it; run sh extract_audios_frames.sh 'mine' first"),
        (("--from", "files", "--max_seconds", 9), "--max_seconds: goes with --from videos"),
        (("--videos", tmp_path / "nowhere"), "nowhere: no such folder; put the videos there"),
    ]:
        with pytest.raises(SystemExit, match="2"):
            run(tmp_path, *flags)
        assert message in capsys.readouterr().err
    roots = ["--dataset", "mine", "--raw_root", str(tmp_path / "raw"), "--data_root", str(tmp_path / "data")]
    extract_media(roots)
    with pytest.raises(SystemExit, match="2"):
        main([*roots, *PLAIN, "--device", "cpu", "--num_workers", "0"])
    assert "made with from videos, not None" in capsys.readouterr().err


def test_new_clips_of_a_run_are_read_as_its_clips_were(tmp_path):
    videos = some_clips(tmp_path, ["a.mp4"])
    stores = {modality: open_features(run(tmp_path), modality) for modality in ("audio", "visual")}
    provenance = {modality: store.attributes for modality, store in stores.items()}
    features = ClipFeatures(provenance, ("audio", "visual"), {}, 8, torch.device("cpu"))(str(videos / "a.mp4"))
    for modality, store in stores.items():
        np.testing.assert_array_equal(features[modality], store["a"])


@pytest.mark.parametrize("stuck", [1, 3])
def test_a_decoder_that_does_not_start_is_started_anew(tmp_path, monkeypatch, stuck):
    def serve(*arguments):
        tries = len(list(tmp_path.glob("try *")))
        (tmp_path / f"try {tries}").touch()
        if tries < stuck:
            time.sleep(60)
        served(*arguments)

    served = inputs._serve
    monkeypatch.setattr(inputs, "_serve", serve)
    monkeypatch.setattr(inputs, "START_SECONDS", 1)
    made = some_clips(tmp_path, ["a.mp4"])
    clips = inputs.FromVideos(find_videos(str(made)), RATE, 8, 600)
    clips.prepare["audio"] = lambda sound: torch.zeros(3)
    decoder = inputs.Decoder(clips, 60)
    found = decoder("a", ["audio"])["audio"]
    decoder.stop()
    if stuck == 1:
        np.testing.assert_array_equal(found, np.zeros(3))
    else:
        assert isinstance(found, MediaError) and "could be started" in str(found)


def test_decoders_end_with_the_command(tmp_path):
    made = some_clips(tmp_path, ["a.mp4"])
    process = os.fork()
    if process == 0:
        from extraction.pipeline import Decoder

        clips = inputs.FromVideos(find_videos(str(made)), RATE, 8, 600)
        clips.prepare["audio"] = lambda sound: torch.zeros(3)
        decoder = Decoder(clips, 60)
        decoder("a", ["audio"])
        (tmp_path / "pid").write_text(str(decoder.process.pid))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(process, 0)
    decoder = int((tmp_path / "pid").read_text())
    for _ in range(600):
        state = Path(f"/proc/{decoder}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the decoder lives on")
