"""The second step as a whole: stores that survive kills and grow, several processes, and clips that fail."""

import csv
import errno
import json
import multiprocessing
import os
import random
import re
import shlex
import shutil
import signal
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

import extract_pretrained_features
from extract_pretrained_features import main
from extraction import pipeline
from extraction.pipeline import Job, PreparedBatches, extract_features, plan_batches
from features.convert import main as convert
from features.row_file import RowFile
from features.store import StoreFeatures, index_path, open_features, plan_path
from features.store_writer import StoreWriter
from model.encoders import factory
from model.encoders.factory import Encoder
from tests.helpers.children import two_ranks
from tests.test_encoders import small_videomae, write_wav
from utils.errors import InputError
from utils.files import write_json

PROJECT = Path(__file__).resolve().parent.parent
# Processes forked from a server that has imported torch start in no time.
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload([__name__])
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


def content(folder, modality):
    """id -> (type, shape, bytes, bytes of the mean token), and the attributes."""
    store = open_features(folder, modality)
    assert isinstance(store, StoreFeatures)
    clips = {}
    for video in store.all_ids():
        array, mean = store[video], store.means[store.rows([video])[0]] if store.means is not None else np.empty(0)
        clips[video] = str(array.dtype), array.shape, array.tobytes(), mean.tobytes()
    return clips, store.attributes


def files(folder, modality):
    """Names of what is in the folder of the store, tags left out."""
    names = os.listdir(folder / f"{modality}_pretrained_feature")
    return sorted(re.sub("-[0-9a-f]{8}", "", name) for name in names)


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
    names = ["visual_means.npy", "visual_store.json", "visual_store.json.lock", "visual_store.npy"]
    assert files(folder, "visual") == names and files(folder, "audio") == [f"audio{name[6:]}" for name in names[1:]]
    assert audio.all_ids() == sorted(audio.all_ids())


def test_features_do_not_depend_on_batches_or_workers(tmp_path, raw):
    one = run(tmp_path, "--batch_size", 1)
    (tmp_path / "other").mkdir()
    os.rename(one, tmp_path / "other" / "mine")
    many = run(tmp_path, "--batch_size", 4, "--num_workers", 2)
    for modality in ("audio", "visual"):
        assert content(many, modality) == content(tmp_path / "other" / "mine", modality)


def test_new_clips_are_added_and_nothing_is_made_twice(tmp_path, raw, capsys):
    folder = run(tmp_path)
    before, written = content(folder, "visual")[0], stamps(folder)
    run(tmp_path)
    assert stamps(folder) == written
    make_clips(tmp_path, ["one more", "a first"])
    # What a run leaves that was killed before its plan was known:
    leftover = folder / "visual_pretrained_feature" / "visual_store-0123abcd.npy"
    leftover.write_bytes(b"half a header")
    capsys.readouterr()
    run(tmp_path)
    assert not leftover.exists()
    assert "visual features of 2 clips (9 in all)" in capsys.readouterr().out
    after = content(folder, "visual")[0]
    assert after.keys() - before.keys() == {"one more", "a first"} and before.items() <= after.items()
    assert stamps(folder).keys() == written.keys()  # the arrays have grown where they were
    assert np.load(next(leftover.parent.glob("visual_store-*.npy"))).shape == (9, 8, 4, 256)


def stamps(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*_pretrained_feature/*")}


def test_a_clip_that_was_mended_takes_the_row_it_had_left_free(tmp_path, raw):
    good = (raw / "audios" / "clip 1.wav").read_bytes()
    (raw / "audios" / "clip 1.wav").write_bytes(b"RIFFnonsense")
    folder = run(tmp_path, "--modality", "audio")
    assert len(content(folder, "audio")[0]) == 6 and open_features(folder, "audio").rows(["-x", "猫"]).tolist() == [
        0,
        6,
    ]
    for _ in range(3):  # clips that fail again and again do not make the arrays any longer
        run(tmp_path, "--modality", "audio")
    assert np.load(next((folder / "audio_pretrained_feature").glob("*.npy"))).shape == (7, 768)
    (raw / "audios" / "clip 1.wav").write_bytes(good)
    run(tmp_path, "--modality", "audio")
    clips = content(folder, "audio")[0]
    assert open_features(folder, "audio").rows(["clip 1"]).tolist() == [2]
    run(tmp_path, "--data_root", tmp_path / "fresh", "--modality", "audio")
    assert content(tmp_path / "fresh" / "mine", "audio")[0] == clips


def test_an_unfinished_store_is_not_read_and_says_what_goes_on(tmp_path, raw, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        patched.setattr(StoreWriter, "finish", lambda self: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(SystemExit, match="130"):
            run(tmp_path, "--modality", "audio")
    folder = tmp_path / "data" / "mine"
    with pytest.raises(InputError) as refused:
        open_features(folder, "audio")
    assert "the extraction of audio features is not finished; go on by" in str(refused.value)
    line = shlex.split(str(refused.value).partition(" go on by ")[2])
    assert line[:2] == [".venv/bin/python", "extract_pretrained_features.py"]
    # Nor is it given up for features of another kind, or of another form.
    capsys.readouterr()
    for other in (run, lambda root: convert(["--dataset", "mine", "--data_root", str(root / "data")])):
        flags = (tmp_path, "--modality", "audio", "--feature_dtype", "float16") if other is run else (tmp_path,)
        if other is not run:
            with h5py.File(folder / "audio_pretrained_feature" / "audio_features.h5", "w") as file:
                file["a"] = np.zeros(768, np.float32)
        with pytest.raises(SystemExit, match="2"):
            other(*flags)
    errors = capsys.readouterr().err
    assert "made with feature_dtype float32, not float16" in errors and "is not finished; go on by" in errors
    (folder / "audio_pretrained_feature" / "audio_features.h5").unlink()
    main(line[2:])
    assert "audio features of 0 clips (7 in all)" in capsys.readouterr().out
    assert len(content(folder, "audio")[0]) == 7


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
    assert content(folder, "audio")[0].keys() == {"clip 4", "-x", "猫"}
    # Mended clips are added by the next run, and leave the list.
    write_wav(raw / "audios" / "clip 2.wav", np.zeros((1, 8000)), 11430)
    run(tmp_path, "--modality", "audio")
    assert content(folder, "audio")[0].keys() == {"clip 2", "clip 4", "-x", "猫"}
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
    index = Path(index_path(folder, "audio"))
    index.write_text(json.dumps(json.loads(index.read_text()) | {"attributes": {}}))
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path)
    assert "not a store of ours" in capsys.readouterr().err


def test_clips_are_added_to_hdf5_of_earlier_extractions_once_it_is_a_store(tmp_path, raw, capsys):
    folder = run(tmp_path, "--modality", "audio")
    expected, attributes = content(folder, "audio")
    store = open_features(folder, "audio")
    path = folder / "audio_pretrained_feature" / "audio_features.h5"
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes)
        for video in list(expected)[:5]:
            file[video] = store[video]
    for name in list(path.parent.glob("audio_store*")):
        name.unlink()
    assert open_features(folder, "audio").all_ids() == list(expected)[:5]
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, "--modality", "audio")
    assert "audio_features.h5: features in another form" in capsys.readouterr().err
    convert(["--dataset", "mine", "--data_root", str(tmp_path / "data"), "--modality", "audio"])
    path.unlink()
    run(tmp_path, "--modality", "audio")
    assert "audio features of 2 clips (7 in all)" in capsys.readouterr().out
    assert content(folder, "audio") == (expected, attributes)


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
    features, attributes = content(folder, "visual")
    assert features["-x"][:2] == ("float32", (2, 4, 32)) and len(features) == 7
    assert len(attributes["checkpoint_sha256"]) == 64 and attributes["precision"] == "bfloat16"


def test_precisions_have_the_words_of_training_and_files_keep_theirs(tmp_path, raw, capsys):
    folder = run(tmp_path, "--precision", "bf16", "--modality", "visual")
    assert content(folder, "visual")[1]["precision"] == "bfloat16"
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


def test_a_command_without_a_single_sound_does_not_end_well(tmp_path, raw, capsys):
    for path in (raw / "audios").iterdir():
        path.write_bytes(b"")
    with pytest.raises(SystemExit, match="1"):
        run(tmp_path)
    captured = capsys.readouterr()
    assert "audio features of 0 clips" in captured.out and "error: 7 of 14 pieces failed, see " in captured.err


def test_names_by_hand_that_can_be_no_ids_are_listed(tmp_path, raw):
    os.rename(raw / "audios" / "clip 0.wav", os.fsencode(raw) + b"/audios/\xff.wav")
    (raw / "frames" / "a\\b").mkdir()
    (raw / "frames" / "a\\b" / "000001.jpg").touch()
    folder = run(tmp_path)
    assert "not UTF-8" in failures(folder)["\\udcff", "audio_feature"]
    assert "path separator" in failures(folder)["a\\b", "visual_feature"]
    assert len(content(folder, "audio")[0]) == 6


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
    def prepare(video, modalities):
        error = OSError(errno.EMFILE, "Too many open files")
        return dict.fromkeys(modalities, error if video == "b" else torch.zeros(3))

    batches = PreparedBatches([{"a": ["audio"]}, {"a": ["audio"], "b": ["audio"]}], prepare)
    ids, inputs, failed = batches[0]["audio"]
    assert ids == ["a"] and isinstance(inputs, np.ndarray) and not failed
    assert batches[1].errno == errno.EMFILE
    with pytest.raises(OSError, match="Too many open files"):
        list(pipeline._whole(batches))


def test_features_that_do_not_fit_the_disk_are_refused(tmp_path, raw, monkeypatch, capsys):
    # 7 clips of 768 numbers, and of 8 x 4 x 256 with a mean of 256.
    for modality, size in (("audio", 7 * 3072), ("visual", 7 * (32768 + 1024)), ("audio-visual", 7 * 36864)):
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, size=size: SimpleNamespace(free=size - 1))
        with pytest.raises(SystemExit, match="2"):
            run(tmp_path, "--modality", modality)
        assert "the store takes 0.00 GB and 0.00 GB are free; make room" in capsys.readouterr().err
        assert not [path for path in (tmp_path / "data").rglob("*") if path.suffix in (".npy", ".json")]
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, size=size: SimpleNamespace(free=size))
        run(tmp_path, "--modality", modality, "--data_root", tmp_path / modality)


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(tmp_path, raw, monkeypatch, capsys):
    run(tmp_path, "--data_root", tmp_path / "other")
    expected = content(tmp_path / "other" / "mine", "visual")
    left, write = [20_000_000], os.pwrite

    def full(handle, data, offset):
        left[0] -= len(data)
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    for room in (150_000, 60_000):
        left[0] = room
        capsys.readouterr()
        with pytest.raises(SystemExit, match="2"):
            run(tmp_path, "--modality", "visual", "--batch_size", 2)
        error = capsys.readouterr().err
        assert re.fullmatch("error: No space left on device: .*/visual_store-[0-9a-f]{8}.npy\n", error)
    assert 0 < done_lines(tmp_path / "data" / "mine") < 4
    left[0] = 20_000_000
    folder = run(tmp_path, "--modality", "visual", "--batch_size", 2)
    assert "visual features of 7 clips" not in capsys.readouterr().out and content(folder, "visual") == expected


def test_two_processes_make_one_store(tmp_path, raw):
    alone = run(tmp_path, "--batch_size", 2)
    os.rename(alone, tmp_path / "alone")
    (raw / "audios" / "clip 0.wav").unlink()
    ranks = two_ranks(lambda: main(arguments(tmp_path, "--batch_size", 2)), tmp_path)
    assert [rank.wait() for rank in ranks] == [0, 0], ranks[0].said() + ranks[1].said()
    printed = "".join(rank.said("out") for rank in ranks)
    assert printed.count("Wrote") == 1 and "audio features of 6 clips (6 in all)" in printed
    folder = tmp_path / "data" / "mine"
    ours, theirs = content(folder, "audio")[0], content(tmp_path / "alone", "audio")[0]
    assert ours == {video: value for video, value in theirs.items() if video != "clip 0"}
    assert content(folder, "visual") == content(tmp_path / "alone", "visual")
    assert list(failures(folder)) == [("clip 0", "audio_feature")]


def test_values_that_are_not_finite_are_failures(tmp_path):
    class Odd(nn.Module):
        def forward(self, inputs):
            return inputs * 1e5

    options = SimpleNamespace(precision="fp32", feature_dtype="float16", num_workers=0, show_progress=False)
    options.device = torch.device("cpu")
    encoder = Encoder("odd", lambda path: torch.full((3,), float(path)), Odd(), (3,), {})
    writer = StoreWriter(str(tmp_path), "audio", (3,), "float16", {"encoder": "odd"}, "again")
    assert writer.plan(["a", "b"]) == 12
    writer.begin()
    inputs = lambda video, modalities: {"audio": encoder.prepare({"a": "1", "b": "0.1"}[video])}  # noqa: E731
    job = Job("audio", ["a", "b"], encoder, writer, inputs)
    count, failed = extract_features([job], [{"a": ["audio"], "b": ["audio"]}], options)["audio"]
    assert count == 1 and writer.finish() == 1
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
    assert [len(batch) for batch in whole] == [4] * 6 + [1]
    assert plan_batches(ids, 4, 0, 2) == whole[::2] and plan_batches(ids, 4, 1, 2) == whole[1::2]


def test_a_kill_between_the_last_steps_is_mended(tmp_path):
    def writer():
        return StoreWriter(str(tmp_path), "audio", (3,), "float32", {"encoder": "x"}, "again")

    first = writer()
    first.plan(["b", "a"])
    first.begin()
    first.write({"a": np.ones(3), "b": np.zeros(3)})
    kept = {
        path: path.read_bytes() for path in bytes_of_files(tmp_path) if path.name.endswith((".done", "unfinished.json"))
    }
    assert first.finish() == 2 and len(kept) == 2
    before = {path: path.read_bytes() for path in bytes_of_files(tmp_path)}
    assert len(before) == 2
    for path, data in kept.items():
        path.write_bytes(data)
    again = writer()
    assert again.plan(["a", "b"]) == 0
    again.begin()
    assert again.finish() == 2 and {path: path.read_bytes() for path in bytes_of_files(tmp_path)} == before


def bytes_of_files(tmp_path):
    return sorted(path for path in tmp_path.rglob("*") if path.is_file())


def test_a_line_that_a_kill_cut_short_does_not_count(tmp_path):
    writer = StoreWriter(str(tmp_path), "audio", (3,), "float32", {"encoder": "x"}, "again")
    writer.plan("abc")
    writer.begin()
    for video in "abc":
        writer.write({video: np.full(3, ord(video))})
    (path,) = tmp_path.rglob("*.done")
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        other = StoreWriter(str(tmp_path), "audio", (3,), "float32", {"encoder": "x"}, "again")
        other.join()
        whole = data[:length].count(b"}")
        assert other.done().keys() == set("abc"[:whole])


def test_rows_that_do_not_read_back_are_named(tmp_path):
    writer = StoreWriter(str(tmp_path), "audio", (3,), "float32", {"encoder": "x"}, "again")
    writer.plan(["a", "b"])
    writer.begin()
    writer.write({"a": np.ones(3), "b": np.zeros(3)})
    writer.arrays[0].write(1, np.ones(3, np.float32))
    with pytest.raises(
        InputError, match="'b' does not read back as it was written; check the disk, then remove .*json"
    ):
        writer.finish()
    assert not os.path.exists(writer.index)


@pytest.mark.parametrize("text", ["{", "[]", '{"array": 1}', '{"array": "a", "means": null, "rows": {"a": -1}}'])
def test_a_damaged_plan_is_named(tmp_path, raw, capsys, text):
    folder = tmp_path / "data" / "mine"
    path = Path(plan_path(folder, "audio"))
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path)
    assert f"{path}: not " in capsys.readouterr().err
    with pytest.raises(InputError, match="remove it to begin anew"):
        open_features(folder, "audio")


def extract_slowly(flags, delay):
    """The whole command, with a pause after each row, so that kills fall within what is written together."""
    write = RowFile.write

    def slow(self, row, values):
        write(self, row, values)
        time.sleep(delay)

    RowFile.write = slow
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    main(flags)


@pytest.mark.parametrize("grows", [False, True], ids=["a new store", "a store that grows"])
def test_ten_kills_leave_what_an_undisturbed_run_leaves(tmp_path, raw, grows):
    if grows:
        run(tmp_path, "--batch_size", 2)
        shutil.copytree(tmp_path / "data", tmp_path / "copy")
    make_clips(tmp_path, [f"more {number}" for number in range(30)], frames=3)
    (raw / "audios" / "more 7.wav").write_bytes(b"RIFFnonsense")
    folder = tmp_path / "data" / "mine"
    run(tmp_path, "--batch_size", 2)
    os.rename(folder, tmp_path / "undisturbed")
    if grows:
        shutil.copytree(tmp_path / "copy" / "mine", folder)
    largest = halfway = 0
    random.seed(5)
    for _ in range(10):
        before = done_lines(folder)
        process = FORK.Process(target=extract_slowly, args=(arguments(tmp_path, "--batch_size", 2), 0.01))
        process.start()
        while process.is_alive() and done_lines(folder) == before:
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.05))
        process.kill()  # a process that has just ended is no error
        process.join()
        halfway += os.path.exists(plan_path(folder, "visual")) or os.path.exists(plan_path(folder, "audio"))
        largest = max(largest, used(folder))
    assert halfway >= 5
    run(tmp_path, "--batch_size", 2)
    for modality in ("audio", "visual"):
        assert content(folder, modality) == content(tmp_path / "undisturbed", modality)
        ours, theirs = ((place / f"{modality}_pretrained_feature") for place in (folder, tmp_path / "undisturbed"))
        for kind in ("store", "means"):
            arrays = [path.read_bytes() for place in (ours, theirs) for path in place.glob(f"{modality}_{kind}-*.npy")]
            assert arrays[: len(arrays) // 2] == arrays[len(arrays) // 2 :] and (arrays or modality == "audio")
        assert files(folder, modality) == files(tmp_path / "undisturbed", modality)
    # A block of the file system for each list and plan, and no second copy of the arrays.
    assert largest <= 1.05 * used(folder) + 15 * 4096


def done_lines(folder):
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob("*.done"))


def used(folder):
    """Bytes of disk that files under ``folder`` take."""
    return sum(512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("dataset", "flags", "normalized"),
    [
        ("mine", [], True),
        ("AVE", [], False),
        ("mine", ["--no-normalize_fbank"], False),
        ("AVE", ["--normalize_fbank"], True),
        ("mine", ["--audio_encoder", "logmel"], False),
    ],
)
def test_filter_banks_are_normalised_but_for_the_data_sets_of_the_release(monkeypatch, dataset, flags, normalized):
    asked = []
    monkeypatch.setattr(extract_pretrained_features, "build_audio_encoder", lambda *args: asked.append(args))
    args = extract_pretrained_features.parse(["--dataset", dataset, *flags])
    extract_pretrained_features.build(args, "audio", SimpleNamespace(sample_rate=8000))
    assert asked[0][2:] == (8000, normalized)
