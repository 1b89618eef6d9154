"""Sound and frames of video clips: what comes out, what is said of clips that fail, and what survives a kill."""

import csv
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import wave
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from PIL import Image

import extract_audios_frames
from extract_audios_frames import main
from extraction import ffmpeg
from extraction.failures import read_failures
from extraction.ffmpeg import extract_frames, extract_wav, find_ffmpeg
from extraction.folder import wav_rate
from model.encoders.fbank import read_wav
from splits.formats import read_splits
from tests.helpers.make_videos import make_video
from tests.helpers.shared import shared
from utils.errors import MediaError, printable

PROJECT = Path(__file__).resolve().parent.parent


def run(tmp_path, *flags, dataset="mine"):
    roots = ("--raw_root", str(tmp_path / "raw"), "--data_root", str(tmp_path / "data"))
    main(["--dataset", dataset, *roots, *map(str, flags)])
    return tmp_path / "raw" / dataset


def seconds(path):
    with wave.open(str(path)) as sound:
        return sound.getnframes() / sound.getframerate()


def content(folder):
    """Relative path -> bytes of every file that a reader would see."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def reasons(folder):
    return {(failure.id, failure.what): failure.reason for failure in read_failures(folder)}


def test_real_clips_agree_with_their_manifest(tmp_path, capsys):
    videos, manifest = shared("data/videos"), shared("data/videos_manifest.csv")
    folder = run(tmp_path, "--videos", videos, "--frame_rate", 8)
    failed = reasons(folder)
    with open(manifest, newline="", encoding="utf-8") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert "aw_trunc.avi, aw_trunc.mkv" in failed.pop(("aw_trunc", "video"))
    rows.pop("aw_trunc")
    for video, row in rows.items():
        count, sound = int(row["ffmpeg_frames_at_8fps"]), row["ffmpeg_wav_s"]
        if count:
            # Versions of ffmpeg differ by a frame at the end.
            assert abs(len(os.listdir(folder / "frames" / video)) - count) <= 1, video
        else:
            assert failed.pop((video, "frames")).split(":")[0] in (
                "no video stream",
                "the decoder produced no frames",
                "not a video that ffmpeg can read",
            )
            assert not (folder / "frames" / video).exists()
        if sound:
            assert abs(seconds(folder / "audios" / f"{video}.wav") - float(sound)) < 0.06, video
        else:
            unreadable = not row["container"]
            reason = "not a video that ffmpeg can read" if unreadable else "no audio track"
            assert failed.pop((video, "audio")).startswith(reason)
    assert not failed
    assert "18 failed" in capsys.readouterr().out
    assert not [name for name in os.listdir(folder / "frames") if name.startswith(".")]


def test_rotated_and_variable_rate_clips(tmp_path):
    with Image.open(first_frame(tmp_path, shared("data/videos/rot_180.mov"))) as upright:
        raw = tmp_path / "raw.jpg"
        source = ["-noautorotate", "-i", str(shared("data/videos/rot_180.mov")), "-frames:v", "1", str(raw)]
        subprocess.run([find_ffmpeg(), "-nostdin", "-loglevel", "error", *source], check=True)
        with Image.open(raw) as turned:
            difference = np.asarray(upright, float) - np.asarray(turned.rotate(180), float)
    assert np.abs(difference).mean() < 8

    steady = make_video(tmp_path / "a.mkv", seconds=2)
    # One frame in three is kept of the second half, with its time; the last one too.
    select = "select='lt(t,1)+eq(mod(n,3),1)'"
    make_variable = [find_ffmpeg(), "-loglevel", "error", "-i", steady, "-vf", select, "-fps_mode", "vfr"]
    subprocess.run([*make_variable, tmp_path / "b.mkv"], check=True)
    extract_frames(tmp_path / "a.mkv", tmp_path / "a", 8)
    extract_frames(tmp_path / "b.mkv", tmp_path / "b", 8)
    assert abs(len(os.listdir(tmp_path / "a")) - len(os.listdir(tmp_path / "b"))) <= 2


def first_frame(tmp_path, video):
    extract_frames(video, tmp_path / "upright", 8)
    return tmp_path / "upright" / "000001.jpg"


def test_sound_keeps_its_rate_and_channels(tmp_path):
    video = make_video(tmp_path / "a.mp4", tone=1000, options=("-ac", "2"))
    for rate in (11430, 16000):
        extract_wav(video, tmp_path / f"{rate}.wav", rate)
        with wave.open(str(tmp_path / f"{rate}.wav")) as sound:
            assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (rate, 2, 2)
            samples = np.frombuffer(sound.readframes(sound.getnframes()), np.int16)[::2]
        spectrum = np.abs(np.fft.rfft(samples))
        assert abs(spectrum.argmax() * rate / len(samples) - 1000) < 3


def test_short_side_scales_frames(tmp_path):
    extract_frames(make_video(tmp_path / "a.mp4", size="64x48"), tmp_path / "a", 4, short_side=24)
    extract_frames(make_video(tmp_path / "b.mp4", size="48x96"), tmp_path / "b", 4, short_side=24)
    with Image.open(tmp_path / "a" / "000001.jpg") as wide, Image.open(tmp_path / "b" / "000001.jpg") as tall:
        assert wide.size == (32, 24) and tall.size == (24, 48)


ODD_NAMES = ["-dash.mp4", "with space.mkv", "naïve 猫.webm", "50%d.mp4", "UPPER.MP4", "a'b\"c;$(d).avi", "x=y,[z].mov"]


def test_odd_names_keep_their_ids(tmp_path):
    for name in ODD_NAMES:
        make_video(tmp_path / "raw" / "mine" / "videos" / name, seconds=0.5)
    folder = run(tmp_path)
    stems = sorted(Path(name).stem for name in ODD_NAMES)
    assert sorted(os.listdir(folder / "frames")) == stems
    assert sorted(Path(name).stem for name in os.listdir(folder / "audios")) == stems
    assert reasons(folder) == {}


def test_an_id_file_and_splits_restrict_the_work(tmp_path, capsys):
    for name in "abcd":
        make_video(tmp_path / "raw" / "mine" / "videos" / f"{name}.mp4", seconds=0.3)
    (tmp_path / "data" / "mine").mkdir(parents=True)
    (tmp_path / "data" / "mine" / "splits.csv").write_text("video_id,label,split\na,x,train\nb,x,val\nz,x,test\n")
    (tmp_path / "ids.txt").write_text("a\n")
    folder = run(tmp_path, "--id_file", tmp_path / "ids.txt")
    assert os.listdir(folder / "frames") == ["a"]
    folder = run(tmp_path)
    assert sorted(os.listdir(folder / "frames")) == ["a", "b"]
    assert "no video file of this id" in reasons(folder)["z", "video"]
    assert "frames of 1 clips (1 were there)" in capsys.readouterr().out
    folder = run(tmp_path, "--all", "--modality", "audio")
    assert sorted(os.listdir(folder / "audios")) == ["a.wav", "b.wav", "c.wav", "d.wav"]
    assert sorted(os.listdir(folder / "frames")) == ["a", "b"]


def test_files_named_as_kinetics_and_vggsound_name_them(tmp_path):
    videos = tmp_path / "raw" / "mine" / "videos"
    for name in ("-abcdefghij_000017_000027", "0nib7bMm8BA_15000_25000", "_bcdefghijk_000030"):
        make_video(videos / f"{name}.mp4", seconds=0.3)
    (tmp_path / "ids.txt").write_text("-abcdefghij\n0nib7bMm8BA_000015\n_bcdefghijk_000030\n")
    folder = run(tmp_path, "--id_file", tmp_path / "ids.txt")
    assert sorted(os.listdir(folder / "frames")) == ["-abcdefghij", "0nib7bMm8BA_000015", "_bcdefghijk_000030"]
    make_video(videos / "-abcdefghij_000050_000060.mp4", seconds=0.3)
    shutil.rmtree(folder / "frames")
    folder = run(tmp_path, "--id_file", tmp_path / "ids.txt")
    assert "several files of one id" in reasons(folder)["-abcdefghij", "video"]


def test_nothing_is_made_twice_and_options_are_not_mixed(tmp_path, capsys):
    make_video(tmp_path / "raw" / "mine" / "videos" / "a.mp4")
    folder = run(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}
    run(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")} == before
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, "--sample_rate", 11430)
    assert "made with --sample_rate 16000" in capsys.readouterr().err
    shutil.rmtree(folder / "audios")
    run(tmp_path, "--sample_rate", 11430)
    with wave.open(str(folder / "audios" / "a.wav")) as sound:
        assert sound.getframerate() == 11430


def test_clips_in_a_folder_per_class_get_splits(tmp_path):
    for label in ("cat", "dog"):
        for number in range(5):
            make_video(tmp_path / "clips" / label / f"{number}.mp4", seconds=0.2)
    folder = run(tmp_path, "--videos", tmp_path / "clips", "--val", 0.2, "--test", 0.2)
    splits = read_splits(tmp_path / "data" / "mine")
    assert [len(splits.clips[split]) for split in ("train", "val", "test")] == [6, 2, 2]
    assert sorted(os.listdir(folder / "frames")) == sorted(f"{label}_{n}" for label in ("cat", "dog") for n in range(5))


def test_a_clip_that_takes_too_long_is_given_up(tmp_path):
    video = make_video(tmp_path / "a.mp4")
    with pytest.raises(MediaError, match="did not finish within 0.001 seconds"):
        extract_wav(video, tmp_path / "a.wav", timeout=0.001)
    assert not (tmp_path / "a.wav").exists()


def test_a_playlist_in_disguise_fetches_nothing(tmp_path):
    (tmp_path / "a.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/secret.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(MediaError, match="not a video"):
        extract_wav(tmp_path / "a.mp4", tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--frame_rates", "8"], "unrecognized arguments: --frame_rates"),
        (["--frame", "8"], "unrecognized arguments: --frame"),
        (["--sample_rate", "0"], "whole number from 1 to 768000"),
        (["--videos", "nowhere"], "nowhere: no such folder; put the videos there"),
        (["--id_file", "bad_ids.txt"], "path separator"),
        (["--id_file", "empty.txt"], "no ids in it"),
        (["--val", "0.1"], "is in no class's folder"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    Path("bad_ids.txt").write_text("../../etc/passwd\n")
    Path("empty.txt").touch()
    (tmp_path / "raw" / "mine" / "videos").mkdir(parents=True)
    (tmp_path / "raw" / "mine" / "videos" / "a.mp4").touch()
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, *flags)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def hostile_folder(clips):
    """Clips in a folder per class, good ones and all that can go wrong with a name or a file; return the bad ones."""
    good = make_video(clips / "dog" / "good.mp4", seconds=0.2)
    for name in ("dog/other.mp4", "cat/1.mp4", "cat/2.mp4"):
        os.makedirs((clips / name).parent, exist_ok=True)
        shutil.copy(good, clips / name)
    bad = {
        b"dog/back\\slash.mp4": "path separator",
        b"dog/not\xffutf8.mp4": "not UTF-8",
        b"dog/space .mp4": "with a space",
        b"dog/tab\there.mp4": "control character",
        b"dog/" + b"x" * 240 + b".mp4": "longer than 230 bytes",
        b"dog/deeper/1.mp4": "two folders down",
        b" dog/1.mp4": "folder cannot be that of a class",
        b"line\nbreak/1.mp4": "folder cannot be that of a class",
        b"not\xffutf8/1.mp4": "folder cannot be that of a class",
    }
    for name in bad:
        path = os.path.join(os.fsencode(clips), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copy(good, path)
    os.symlink("nowhere", clips / "dog" / "dangling.mp4")
    os.mkfifo(clips / "dog" / "pipe.mp4")
    return bad | {b"dog/dangling.mp4": "link to nothing", b"dog/pipe.mp4": "not a regular file"}


def test_files_that_can_be_no_clips_are_listed_and_stop_nothing(tmp_path, capsys):
    bad = hostile_folder(tmp_path / "clips")
    flags = ("--videos", tmp_path / "clips", "--val", 0.4, "--test", 0)
    with pytest.raises(SystemExit, match="1"):
        run(tmp_path, *flags)
    folder = tmp_path / "raw" / "mine"
    assert "error: 11 of 19 pieces failed" in capsys.readouterr().err
    listed = {name: reason for (name, what), reason in reasons(folder).items() if what == "video"}
    assert len(listed) == len(reasons(folder)) == len(bad)
    for name, reason in bad.items():
        assert reason in listed[printable(os.fsdecode(name))]
    assert sorted(os.listdir(folder / "frames")) == ["1", "2", "good", "other"]
    assert sorted(read_splits(tmp_path / "data" / "mine").classes) == ["cat", "dog"]
    # Mended, they leave the list.
    for name in bad:
        os.unlink(os.path.join(os.fsencode(tmp_path / "clips"), name))
    run(tmp_path, *flags)
    assert reasons(folder) == {}


def test_two_spellings_of_a_class_are_refused(tmp_path, capsys):
    for name in ("caf\u00e9", "cafe\u0301"):
        make_video(tmp_path / "clips" / name / f"{len(name)}.mp4", seconds=0.2)
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, "--videos", tmp_path / "clips", "--val", 0.2)
    assert "two spellings" in capsys.readouterr().err and not (tmp_path / "data").exists()


def test_sound_of_six_channels(tmp_path):
    make_video(tmp_path / "raw" / "mine" / "videos" / "a.mkv", options=("-ac", "6"))
    folder = run(tmp_path)
    assert reasons(folder) == {} and wav_rate(str(folder / "audios" / "a.wav")) == 16000
    with soundfile.SoundFile(folder / "audios" / "a.wav") as sound:
        assert sound.channels == 6
    waveform, rate = read_wav(str(folder / "audios" / "a.wav"), 16000)
    assert abs(len(waveform) / rate - 1) < 0.1


def test_whatever_a_clip_raises_concerns_that_clip(tmp_path, monkeypatch, capsys):
    for name in "abc":
        make_video(tmp_path / "raw" / "mine" / "videos" / f"{name}.mp4", seconds=0.2)

    def extract(video, *arguments):
        if video.endswith("b.mp4"):
            raise RuntimeError("something\nnobody thought of")
        extract_wav(video, *arguments)

    monkeypatch.setattr(extract_audios_frames, "extract_wav", extract)
    folder = run(tmp_path)
    assert reasons(folder) == {("b", "audio"): "RuntimeError: something"}
    assert len(os.listdir(folder / "audios")) == 2


def test_a_command_whose_clips_all_fail_does_not_end_well(tmp_path, capsys):
    for name in "ab":
        (tmp_path / "raw" / "mine" / "videos").mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / "mine" / "videos" / f"{name}.mp4").write_bytes(b"nonsense")
    with pytest.raises(SystemExit, match="1"):
        run(tmp_path)
    captured = capsys.readouterr()
    assert "4 failed" in captured.out and "error: 4 of 4 pieces failed, see " in captured.err


def test_long_clips_are_bounded_in_disk(tmp_path):
    video = make_video(tmp_path / "a.mp4", seconds=6)
    for limit, fits in ((6, True), (3, False)):
        for extract, target, rate in ((extract_wav, "wav", 8000), (extract_frames, "frames", 8)):
            if fits:
                extract(video, tmp_path / target, rate, max_seconds=limit)
                continue
            with pytest.raises(MediaError, match="longer than 3 seconds"):
                extract(video, tmp_path / f"{target}{limit}", rate, max_seconds=limit)
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "frames", "wav"]
    run(tmp_path, "--videos", tmp_path, "--max_seconds", 6)


def test_a_limit_of_the_machine_ends_the_command_and_is_no_clips_fault(tmp_path, capsys):
    folder = tmp_path / "raw" / "mine"
    make_video(folder / "videos" / "a.mp4", seconds=2, options=("-metadata", "title=x\nNo space left on device"))
    (folder / "audios" / ".partial-of-the-user").mkdir(parents=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(SystemExit, match="2"):
            run(tmp_path, "--modality", "audio")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert capsys.readouterr().err.endswith("raw/mine/audios; allow larger ones (ulimit -f)\n")
    assert os.listdir(folder / "audios") == [".partial-of-the-user"] and not (folder / "failed.csv").exists()
    run(tmp_path)
    assert reasons(folder) == {}


def test_pictures_and_folders_have_a_limit(tmp_path, monkeypatch):
    video = make_video(tmp_path / "a.mkv", rate=1, size="8192x4608", options=("-c:v", "ffv1"))
    with pytest.raises(MediaError, match="more than 36 megapixels"):
        extract_frames(video, tmp_path / "frames", 8)
    monkeypatch.setattr(ffmpeg, "MAX_BYTES", 100)
    monkeypatch.setattr(ffmpeg, "time", SimpleNamespace(monotonic=count(step=2).__next__))
    with pytest.raises(MediaError, match="GB; cut it, or scale"):
        extract_frames(make_video(tmp_path / "b.mkv", seconds=3), tmp_path / "frames", 8)
    assert sorted(os.listdir(tmp_path)) == ["a.mkv", "b.mkv"]


def test_a_list_in_disguise_reads_no_other_file(tmp_path):
    make_video(tmp_path / "secret.mkv", seconds=0.3)
    (tmp_path / "a.mp4").write_text("ffconcat version 1.0\nfile secret.mkv\n")
    for extract in (extract_wav, extract_frames):
        with pytest.raises(MediaError, match="not a video"):
            extract(tmp_path / "a.mp4", tmp_path / "out", 8)
    os.mkfifo(tmp_path / "b.mp4")
    with pytest.raises(MediaError, match="not a regular file"):
        extract_wav(tmp_path / "b.mp4", tmp_path / "out")


def test_launcher_keeps_the_users_folder_and_passes_flags_on(tmp_path):
    make_video(tmp_path / "my clips" / "a b.mp4", seconds=0.2)
    launcher = PROJECT / "extract_audios_frames.sh"
    flags = ["my set", "--videos", "my clips", "--raw_root", "raw", "--data_root", "data", "--modality", "audio"]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(["sh", launcher, *flags], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "raw" / "my set" / "audios" / "a b.wav").exists()
    assert subprocess.run(["sh", launcher], capture_output=True, check=False).returncode == 2


def test_ten_kills_leave_what_an_undisturbed_run_leaves(tmp_path):
    generator = random.Random(4)
    for number in range(12):
        make_video(tmp_path / "videos" / f"{number}.mp4", seconds=4, size="320x240", tone=200 + 50 * number)
    undisturbed = run(tmp_path / "undisturbed", "--videos", tmp_path / "videos", "--num_workers", 2)

    roots = ["--raw_root", tmp_path / "raw", "--data_root", tmp_path / "data", "--videos", tmp_path / "videos"]
    command = [sys.executable, PROJECT / "extract_audios_frames.py", "--dataset", "mine", *roots, "--num_workers", "2"]
    frames = tmp_path / "raw" / "mine" / "frames"
    for _ in range(10):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None and not list(frames.glob(".partial-*/*.jpg")):
            time.sleep(0.002)
        time.sleep(generator.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert content(tmp_path / "raw" / "mine") == content(undisturbed)


@pytest.mark.parametrize(("dataset", "rate"), [("mine", 16000), ("AVE", 11430), ("ksounds", 11430)])
def test_sound_is_as_audiomae_was_trained_but_as_released_for_the_data_sets_of_the_release(dataset, rate):
    assert extract_audios_frames.parse(["--dataset", dataset]).sample_rate == rate
    assert extract_audios_frames.parse(["--dataset", dataset, "--sample_rate", "8000"]).sample_rate == 8000


def test_failures_are_no_formulas_and_out_of_date_once(tmp_path, capsys):
    for name in ("=1+1", "'=1+1", "@sum", "-id"):
        (tmp_path / "raw" / "mine" / "videos").mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / "mine" / "videos" / f"{name}.mp4").write_bytes(b"nonsense")
    for _ in range(2):  # the second time nothing is listed twice
        with pytest.raises(SystemExit, match="1"):
            run(tmp_path)
    folder = tmp_path / "raw" / "mine"
    assert {line[:2] for line in (folder / "failed.csv").read_text().splitlines()[1:]} == {"'=", "''", "'@", "-i"}
    assert {video for video, _ in reasons(folder)} == {"=1+1", "'=1+1", "@sum", "-id"}
    assert len((folder / "failed.csv").read_text().splitlines()) == 1 + 2 * 4
