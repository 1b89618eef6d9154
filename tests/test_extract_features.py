"""The second step as a whole: stores that survive kills, several processes, and clips that fail."""

import csv
import errno
import multiprocessing
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from extract_pretrained_features import main
from extraction import pipeline
from extraction.pipeline import PreparedBatches, extract_features, plan_batches
from features.store import open_features
from features.writer import FeatureWriter
from model.encoders import factory
from model.encoders.factory import Encoder
from tests.test_encoders import small_videomae, write_wav
from utils.errors import InputError
from utils.files import write_json

PROJECT = Path(__file__).resolve().parent.parent
AUDIO = "audio_pretrained_feature/audio_features.h5"
VISUAL = "visual_pretrained_feature/visual_features.h5"
PLAIN = ("--audio_encoder", "logmel", "--visual_encoder", "patches")


@pytest.fixture
def raw(tmp_path):
    return make_clips(tmp_path, [f"clip {number}" for number in range(5)] + ["-x", "猫"])


def make_clips(tmp_path, ids, frames=12):
    generator = np.random.default_rng(3)
    folder = tmp_path / "raw" / "mine"
    (folder / "audios").mkdir(parents=True, exist_ok=True)
    for video in ids:
        write_wav(folder / "audios" / f"{video}.wav", generator.uniform(-0.5, 0.5, (1, 8000)), 11430)
        (folder / "frames" / video).mkdir(parents=True)
        for number in range(1, frames + 1):
            pixels = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((96, 72)).save(folder / "frames" / video / f"{number:06d}.jpg")
    return folder


def arguments(tmp_path, *flags, encoders=PLAIN):
    roots = ("--raw_root", tmp_path / "raw", "--data_root", tmp_path / "data")
    return [*map(str, ("--dataset", "mine", *roots, "--device", "cpu", "--num_workers", 0, *encoders, *flags))]


def run(tmp_path, *flags, encoders=PLAIN):
    main(arguments(tmp_path, *flags, encoders=encoders))
    return tmp_path / "data" / "mine"


def content(path):
    """id -> (type, shape, bytes), and the attributes."""
    with h5py.File(path) as file:
        arrays = {video: file[video][()] for video in file}
        attributes = {name: str(value) for name, value in file.attrs.items()}
    return {video: (str(a.dtype), a.shape, a.tobytes()) for video, a in arrays.items()}, attributes


def failures(folder):
    with open(folder / "failed.csv", newline="", encoding="utf-8") as file:
        return {(row["id"], row["what"]): row["reason"] for row in csv.DictReader(file)}


def test_store_is_what_training_reads(tmp_path, raw, capsys):
    write_json(raw / "extraction.json", {"sample_rate": 11430, "frame_rate": 8, "short_side": 0, "ffmpeg": ["7.1"]})
    folder = run(tmp_path, "--feature_dtype", "float16", "--batch_size", 3)
    assert "audio features of 7 clips (7 in all)" in capsys.readouterr().out
    audio, visual = (open_features(folder, sense) for sense in ("audio", "visual"))
    assert audio.describe("猫") == ((768,), np.float16) and visual.describe("-x") == ((8, 4, 256), np.float16)
    assert audio.attributes["encoder"] == "logmel" and audio.attributes["sample_rate"] == 11430
    assert visual.attributes["frame_rate"] == 8 and visual.attributes["ffmpeg"] == "7.1"
    assert failures(folder) == {}
    assert sorted(os.listdir(folder / "visual_pretrained_feature")) == ["visual_features.h5"]


def test_features_do_not_depend_on_batches_or_workers(tmp_path, raw):
    one = run(tmp_path, "--batch_size", 1)
    (tmp_path / "other").mkdir()
    os.rename(one, tmp_path / "other" / "mine")
    many = run(tmp_path, "--batch_size", 4, "--num_workers", 2)
    for name in (AUDIO, VISUAL):
        assert content(many / name) == content(tmp_path / "other" / "mine" / name)


def test_new_clips_are_added_and_nothing_is_made_twice(tmp_path, raw, capsys):
    folder = run(tmp_path)
    before, inode = content(folder / AUDIO)[0], (folder / AUDIO).stat().st_ino
    run(tmp_path)
    assert (folder / AUDIO).stat().st_ino == inode
    make_clips(tmp_path, ["one more"])
    # What a run leaves that was killed while it merged:
    leftover = (folder / AUDIO).parent / ".avcil-audio_features-x1y2.h5"
    leftover.write_bytes(b"half a file")
    capsys.readouterr()
    run(tmp_path)
    assert not leftover.exists()
    assert "audio features of 1 clips (8 in all)" in capsys.readouterr().out
    after = content(folder / AUDIO)[0]
    assert after.keys() - before.keys() == {"one more"} and before.items() <= after.items()


def test_failing_clips_are_named_and_stop_nothing(tmp_path, raw, capsys):
    (raw / "failed.csv").write_text("id,what,reason\nclip 0,audio,no audio track\n")
    (raw / "audios" / "clip 0.wav").unlink()
    (raw / "audios" / "clip 1.wav").write_bytes(b"RIFFnonsense")
    write_wav(raw / "audios" / "clip 2.wav", np.zeros((1, 100)), 11430)
    write_wav(raw / "audios" / "clip 3.wav", np.zeros((1, 8000)), 16000)
    (raw / "frames" / "clip 4" / "000012.jpg").write_bytes(b"nonsense")
    folder = run(tmp_path, "--batch_size", 3)
    found = failures(folder)
    assert found["clip 0", "audio_feature"] == "no audio track"
    assert "not a readable wav file" in found["clip 1", "audio_feature"]
    assert "shorter than one window" in found["clip 2", "audio_feature"]
    assert "at 16000 Hz, others are at 11430" in found["clip 3", "audio_feature"]
    assert "000012.jpg is unreadable" in found["clip 4", "visual_feature"]
    assert len(found) == 5 and "5 failed" in capsys.readouterr().out
    assert content(folder / AUDIO)[0].keys() == {"clip 4", "-x", "猫"}
    # Mended clips are added by the next run, and leave the list.
    write_wav(raw / "audios" / "clip 2.wav", np.zeros((1, 8000)), 11430)
    run(tmp_path, "--modality", "audio")
    assert content(folder / AUDIO)[0].keys() == {"clip 2", "clip 4", "-x", "猫"}
    assert len(failures(folder)) == 4 and ("clip 4", "visual_feature") in failures(folder)


def test_features_of_another_kind_are_not_mixed_in(tmp_path, raw, capsys):
    folder = run(tmp_path)
    for flags, message in [
        (("--feature_dtype", "float16"), "made with feature_dtype float32, not float16"),
        (("--pooled", "--modality", "visual"), "made with pooling tokens, not pooled"),
    ]:
        with pytest.raises(SystemExit, match="2"):
            run(tmp_path, *flags)
        assert message in capsys.readouterr().err
    with h5py.File(folder / AUDIO, "w") as released:
        released["some id"] = np.zeros(768, np.float32)
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path)
    assert "not a file of ours" in capsys.readouterr().err
    assert list(content(folder / AUDIO)[0]) == ["some id"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--audio_encoder", "audiomae"), "pass the file as --audio_checkpoint"),
        (("--audio_checkpoint", "x.pth"), "logmel has no weights"),
        (("--visual_encoder", "nonsense"), "--visual_encoder nonsense"),
        (("--normalize_fbank",), "logmel is normalised in any case"),
        (("--device", "cuda:77"), "--device cuda:77"),
        (("--dataset", "other"), "run sh extract_audios_frames.sh 'other' first"),
        (("--batchsize", "3"), "unrecognized arguments"),
        (("--precision", "int8"), "invalid choice"),
    ],
)
def test_bad_input_is_one_line(tmp_path, raw, capsys, flags, message):
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, *flags)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_videomae_end_to_end_from_a_local_folder(tmp_path, raw):
    small_videomae(tmp_path / "videomae", safe=True)
    encoders = ("--visual_encoder", "videomae", "--visual_checkpoint", tmp_path / "videomae", "--modality", "visual")
    folder = run(tmp_path, "--precision", "bfloat16", encoders=encoders)
    features, attributes = content(folder / VISUAL)
    assert features["-x"][:2] == ("float32", (2, 4, 32)) and len(features) == 7
    assert len(attributes["checkpoint_sha256"]) == 64 and attributes["precision"] == "bfloat16"


def test_precisions_have_the_words_of_training_and_files_keep_theirs(tmp_path, raw, capsys):
    folder = run(tmp_path, "--precision", "bf16", "--modality", "visual")
    assert content(folder / VISUAL)[1]["precision"] == "bfloat16"
    run(tmp_path, "--precision", "bfloat16", "--modality", "visual")
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, "--modality", "visual")
    assert "made with precision bfloat16, not float32" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, "--precision", "tf32", "--modality", "visual")
    assert "--precision tf32: a format of GPUs" in capsys.readouterr().err


def test_a_command_that_does_little_does_not_end_well(tmp_path, raw, capsys):
    ids = [f"clip {number}" for number in range(15)]
    (tmp_path / "ids.txt").write_text("\n".join(ids))
    with pytest.raises(SystemExit, match="1"):
        run(tmp_path, "--id_file", tmp_path / "ids.txt")
    captured = capsys.readouterr()
    assert "20 failed (no audio extracted yet: 10, no frames extracted yet: 10)" in captured.out
    assert "error: 20 of 30 pieces failed, see " in captured.err


def test_names_by_hand_that_can_be_no_ids_are_listed(tmp_path, raw):
    os.rename(raw / "audios" / "clip 0.wav", os.fsencode(raw) + b"/audios/\xff.wav")
    (raw / "frames" / "a\\b").mkdir()
    (raw / "frames" / "a\\b" / "000001.jpg").touch()
    folder = run(tmp_path)
    assert "not UTF-8" in failures(folder)["\\udcff", "audio_feature"]
    assert "path separator" in failures(folder)["a\\b", "visual_feature"]
    assert len(content(folder / AUDIO)[0]) == 6


def test_whatever_a_clip_raises_concerns_that_clip(tmp_path, raw, monkeypatch):
    prepare = factory.read_wav

    def odd(path, rate):
        if path.endswith("clip 3.wav"):
            raise ZeroDivisionError("nobody thought of this")
        return prepare(path, rate)

    monkeypatch.setattr(factory, "read_wav", odd)
    folder = run(tmp_path)
    assert failures(folder) == {("clip 3", "audio_feature"): "ZeroDivisionError: nobody thought of this"}


def test_workers_need_no_shared_memory_and_say_what_the_machine_lacks():
    def prepare(path):
        if path == "one too many":
            raise OSError(errno.EMFILE, "Too many open files")
        return torch.zeros(3)

    batches = PreparedBatches([["a"], ["a", "b"]], {"a": "fine", "b": "one too many"}, prepare)
    ids, inputs, failed = batches[0]
    assert ids == ["a"] and isinstance(inputs, np.ndarray) and not failed
    assert batches[1].errno == errno.EMFILE
    with pytest.raises(OSError, match="Too many open files"):
        list(pipeline._whole(batches))


def test_features_that_do_not_fit_the_disk_are_refused(tmp_path, raw, monkeypatch, capsys):
    monkeypatch.setattr(pipeline.shutil, "disk_usage", lambda folder: SimpleNamespace(free=30_000))
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, "--modality", "audio")
    assert "audio_features: 0.00 GB to write" in capsys.readouterr().err


def test_two_processes_make_one_store(tmp_path, raw):
    alone = run(tmp_path, "--batch_size", 2)
    os.rename(alone, tmp_path / "alone")
    (raw / "audios" / "clip 0.wav").unlink()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*torchrun, PROJECT / "extract_pretrained_features.py", *arguments(tmp_path, "--batch_size", 2)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Wrote") == 1 and "audio features of 6 clips (6 in all)" in done.stdout
    folder = tmp_path / "data" / "mine"
    ours, theirs = content(folder / AUDIO)[0], content(tmp_path / "alone" / AUDIO)[0]
    assert ours == {video: value for video, value in theirs.items() if video != "clip 0"}
    assert content(folder / VISUAL) == content(tmp_path / "alone" / VISUAL)
    assert list(failures(folder)) == [("clip 0", "audio_feature")]


def test_values_that_are_not_finite_are_failures(tmp_path):
    class Odd(nn.Module):
        def forward(self, inputs):
            return inputs * 1e5

    options = SimpleNamespace(
        what="audio_feature", precision="fp32", feature_dtype="float16", num_workers=0, show_progress=False
    )
    options.device = torch.device("cpu")
    encoder = Encoder("odd", lambda path: torch.full((3,), float(path)), Odd(), {})
    writer = FeatureWriter(tmp_path / "a.h5", {"encoder": "odd"})
    count, failed = extract_features(encoder, writer, [["a", "b"]], {"a": "1", "b": "0.1"}, options)
    assert count == 1 and writer.merge() == 1
    assert [(failure.id, failure.what) for failure in failed] == [("a", "audio_feature")]
    assert "not finite in float16" in failed[0].reason


def test_a_second_writer_is_refused(tmp_path, raw, capsys):
    (tmp_path / "data" / "mine").mkdir(parents=True)
    lock = tmp_path / "data" / "mine" / ".extraction.lock"
    code = f"from utils.files import file_lock\nwith file_lock({str(lock)!r}, 'x'): print('held'), input()"
    other = subprocess.Popen([sys.executable, "-uc", code], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"held\n"
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path)
    assert "another process is writing" in capsys.readouterr().err
    other.kill()
    other.communicate()
    run(tmp_path)


def test_plan_depends_on_ids_alone():
    ids = [f"{number:03d}" for number in range(25)]
    whole = plan_batches(ids, 4)
    assert plan_batches(reversed(ids), 4) == whole and [len(batch) for batch in whole] == [4] * 6 + [1]
    assert plan_batches(ids, 4, 0, 2) == whole[::2] and plan_batches(ids, 4, 1, 2) == whole[1::2]


def test_merging_again_after_a_kill_between_its_last_steps(tmp_path):
    writer = FeatureWriter(tmp_path / "a.h5", {"encoder": "x"})
    writer.write_part({"a": np.ones(3), "b": np.zeros(3)})
    kept = [(part, part.read_bytes()) for part in writer.parts.iterdir()]
    assert writer.merge() == 2 and not writer.parts.exists()
    before = content(writer.path)
    writer.parts.mkdir()
    for part, data in kept:
        part.write_bytes(data)
    assert writer.merge() == 2 and content(writer.path) == before and not writer.parts.exists()


def test_merging_follows_no_link_and_names_damage(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["encoder"] = "x"
        file["b"] = h5py.ExternalLink(str(tmp_path / "pipe"), "x")
    writer = FeatureWriter(tmp_path / "a.h5", {"encoder": "x"})
    writer.check()
    writer.write_part({"a": np.ones(3)})
    with pytest.raises(InputError, match="'b' is an external link"):
        writer.merge()
    assert len(writer.written()) == 1


def extract_slowly(flags, delay):
    """The whole command, with a pause within each part's writing so that kills fall there too."""
    from features import writer as feature_writer

    create = h5py.File.create_dataset

    def slow(self, *positional, **named):
        time.sleep(delay)
        return create(self, *positional, **named)

    feature_writer.h5py.File.create_dataset = slow
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    main(flags)


def test_ten_kills_leave_what_an_undisturbed_run_leaves(tmp_path, raw):
    make_clips(tmp_path, [f"more {number}" for number in range(43)], frames=3)
    undisturbed = run(tmp_path, "--batch_size", 2)
    os.rename(undisturbed, tmp_path / "undisturbed")

    generator = random.Random(5)
    # Processes forked from a server that has imported torch start in no time.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    flags = arguments(tmp_path, "--batch_size", 2)
    halfway = 0
    for _ in range(10):
        process = context.Process(target=extract_slowly, args=(flags, 0.02))
        process.start()
        before = number_of_parts(tmp_path)
        while process.is_alive() and number_of_parts(tmp_path) == before:
            time.sleep(0.002)
        time.sleep(generator.uniform(0, 0.1))
        process.kill()  # a process that has just ended is no error
        process.join()
        halfway += not (tmp_path / "data" / "mine" / VISUAL).exists()
    assert halfway >= 5
    run(tmp_path, "--batch_size", 2)
    for name in (AUDIO, VISUAL):
        assert content(tmp_path / "data" / "mine" / name) == content(tmp_path / "undisturbed" / name)
    leftovers = [path for path in (tmp_path / "data").rglob("*") if "parts" in path.name or "-" in path.name]
    assert leftovers == []


def number_of_parts(tmp_path):
    return len(list((tmp_path / "data").rglob("[!.]*.h5")))
