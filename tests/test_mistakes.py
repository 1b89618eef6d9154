"""The mistakes of a new user: each ends in one line with the right cure, and nothing is written."""

import importlib
import os
import subprocess

import pytest
import torch

from tests.helpers import tiny
from tests.helpers.shared import REPO

TRAIN = "train_incremental"
AT = ["--data_root", "data", "--save_root", "save"]
TINY = ["--dataset", "tiny", "--method", "fine_tuning", *AT]
STEPS = [*TINY, "--classes_per_step"]
EXTRACT = ["--data_root", "data", "--raw_root", "raw"]
REPLAY = ["--dataset", "tiny", "--method", "ssil", *AT, "--memory_size"]

# What is typed: (command, its words, what the line must say).
MISTAKES = {
    # the name of the data set
    "in lower case": (TRAIN, ["--dataset", "ave", *AT], ["did you mean AVE?"]),
    "half of the name": (TRAIN, ["--dataset", "VGGSound", *AT], ["did you mean VGGSound_100?"]),
    "mistyped": (TRAIN, ["--dataset", "tinny", *AT], ["did you mean tiny?", "data sets in data: ksounds, tiny"]),
    "not downloaded": (TRAIN, ["--dataset", "AVE", *AT], ["no folder data/AVE", "sh download.sh 'AVE'"]),
    "in the wrong folder": (TRAIN, ["--dataset", "ksounds", *AT], ["data/kinetics-sounds", "sh download.sh 'ksounds'"]),
    "not made yet": (TRAIN, ["--dataset", "pets", *AT], ["sh extract_audios_frames.sh 'pets' --videos FOLDER"]),
    "a path": (TRAIN, ["--dataset", "data/tiny", *AT], ["not a path"]),
    "none": (TRAIN, [], ["--dataset"]),
    # words
    "another method": (TRAIN, ["--dataset", "tiny", "--method", "avcli"], ["did you mean avcil?", "lwf"]),
    "a modality run together": (TRAIN, [*TINY, "--modality", "audiovisual"], ["did you mean audio-visual?"]),
    "a modality of another name": (TRAIN, [*TINY, "--modality", "video"], ["'video'", "audio-visual"]),
    "AV-CIL on sound alone": (TRAIN, ["--dataset", "tiny", "--modality", "audio", *AT], ["avcil takes audio-visual"]),
    "a classifier of another method": (TRAIN, [*TINY, "--classifier", "NME"], ["fine_tuning takes linear"]),
    "a flag half written": (TRAIN, [*TINY, "--max_epoch", "5"], ["did you mean --max_epochs?"]),
    "a flag with hyphens": (TRAIN, [*TINY, "--memory-size", "5"], ["did you mean --memory_size?"]),
    "a flag of another method": (TRAIN, [*TINY, "--lam_I", "1"], ["--lam_I", "--help"]),
    "a precision of another library": (TRAIN, [*TINY, "--precision", "fp16"], ["fp16", "fp32", "tf32", "bf16"]),
    "a precision of GPUs": (TRAIN, [*TINY, "--precision", "tf32", "--device", "cpu"], ["use fp32 or bf16"]),
    "a device of no name": (TRAIN, [*TINY, "--device", "gpu"], ["--device gpu", "auto or cpu"]),
    # numbers
    "a rate of nothing": (TRAIN, [*TINY, "--lr", "0"], ["--lr", "'0' is not a number above 0"]),
    "a rate in words": (TRAIN, [*TINY, "--lr", "fast"], ["'fast' is not a number above 0"]),
    "no epochs": (TRAIN, [*TINY, "--max_epochs", "0"], ["a whole number of 1 or more"]),
    "half an epoch": (TRAIN, [*TINY, "--max_epochs", "1.5"], ["a whole number of 1 or more"]),
    "a seed below 0": (TRAIN, [*TINY, "--seed", "-1"], ["--seed", "from 0 to 4294967295"]),
    "a batch of nothing": (TRAIN, [*TINY, "--train_batch_size", "0"], ["a whole number of 1 or more"]),
    "steps that leave a rest": (TRAIN, [*STEPS, "4"], ["leave a remainder of 2", "--last_step_remainder"]),
    "steps of too few classes": (TRAIN, [*STEPS, "2", "2"], ["4 classes in all, the data has 6", "--num_classes 4"]),
    "steps of too many classes": (TRAIN, [*STEPS, "7"], ["more classes than the 6"]),
    "one class for a loss of two": (
        TRAIN,
        ["--dataset", "tiny", "--method", "afc", *AT, "--variant", "corrected", "--classes_per_step", "1"],
        ["--classes_per_step", "two or more", "--variant released"],
    ),
    "one class for a loss of two, once": (
        TRAIN,
        ["--dataset", "tiny", "--method", "afc", *AT, "--variant", "corrected", "--classes_per_step", "1", "5"],
        ["--classes_per_step", "two or more"],
    ),
    "more classes than there are": (TRAIN, [*TINY, "--num_classes", "99"], ["tiny", "has 6 classes"]),
    "a memory that is too small": (TRAIN, [*REPLAY, "2"], ["smaller than the 6 classes", "at least 6"]),
    # order
    "frames before videos": ("extract_audios_frames", ["--dataset", "pets", *EXTRACT], ["raw/pets/videos"]),
    "features before frames": (
        "extract_pretrained_features",
        ["--dataset", "pets", *EXTRACT, "--audio_encoder", "logmel"],
        ["run sh extract_audios_frames.sh 'pets' first"],
    ),
    "videos that are elsewhere": (
        "extract_audios_frames",
        ["--dataset", "pets", *EXTRACT, "--videos", "my_clips"],
        ["my_clips"],
    ),
    "conversion before the download": (
        "features.convert",
        ["--dataset", "AVE", "--data_root", "data"],
        ["sh download.sh 'AVE'"],
    ),
    "a download of one's own": ("download", ["--dataset", "pets", "--data_root", "data"], ["extract_audios_frames.sh"]),
    "annotations that are not there": (
        "splits.build",
        ["ave", "--annotations", "AVE_Dataset", "--data_root", "data"],
        ["AVE_Dataset"],
    ),
    "a report before a run": ("report", ["save"], ["save"]),
    "a report of a layout of no name": ("report", ["save", "--layout", "method"], ["did you mean methods?"]),
    "a prediction before a run": ("predict", ["--run", "save/demo/avcil-linear", "a.mp4"], ["save/demo/avcil-linear"]),
    "attention before a run": ("visualize_attention", ["--run", "save/x", "--clip", "a"], ["save/x"]),
    "a sweep of a method of no name": ("run_all", ["--dataset", "tiny", "--methods", "avcli"], ["did you mean avcil?"]),
    "a sweep of a data set that is not there": ("run_all", ["--dataset", "AVE", *AT], ["sh download.sh 'AVE'"]),
}

# What is typed after sh: (words, what the line must say).
LAUNCHED = {
    "no data set": (["run_incremental_ours.sh"], ["no dataset given", "run_incremental_ours.sh 'dataset'"]),
    "no modality": (["run_incremental_ssil.sh", "AVE"], ["no modality given", "'dataset' 'modality'"]),
    "no classifier": (["run_incremental_icarl.sh", "AVE", "audio"], ["no classifier given"]),
    "a flag in the place of a word": (["run_incremental_lwf.sh", "AVE", "--seed", "1"], ["no modality given"]),
    "nothing to download": (["download.sh"], ["no dataset given"]),
    "an option of no demonstration": (["run_demo.sh", "--full"], ["--full", "sh run_demo.sh"]),
    "an option of no environment": (["setup.sh", "--gpu"], ["--gpu", "sh setup.sh [--cpu] [--dev]"]),
}


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def check(error, parts):
    assert error.count("\n") == 1 and error.startswith("error: "), error
    missing = [part for part in parts if part not in error]
    assert not missing, error


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the user stands: a data set that is there, and one whose folder has another name than it should."""
    folder = tmp_path_factory.mktemp("user")
    tiny.make(folder / "data")
    (folder / "data" / "ksounds").mkdir()
    return folder


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_line_with_the_cure(place, mistake, monkeypatch, capsys):
    command, words, parts = MISTAKES[mistake]
    monkeypatch.chdir(place)
    before = listing(place)
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(command).main(words)
    printed, error = capsys.readouterr()
    assert ended.value.code == 2, printed
    check(error, parts)
    assert listing(place) == before


@pytest.mark.parametrize("mistake", LAUNCHED)
def test_launchers_say_it_before_anything_starts(tmp_path, mistake):
    words, parts = LAUNCHED[mistake]
    environment = os.environ | {"PATH": os.environ["PATH"], "PYTHON": "no-python-is-needed"}
    command = ["sh", str(REPO / words[0]), *words[1:]]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and not done.stdout
    check(done.stderr, parts)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    with pytest.raises(SystemExit):
        importlib.import_module(TRAIN).main([*TINY, "--device", "cuda"])
    check(capsys.readouterr().err, ["--device cuda", "auto or cpu"])


def spoil(folder, name, content):
    path = folder / "data" / "tiny" / "visual_pretrained_feature" / name
    for file in path.parent.iterdir():
        file.unlink()
    if content is not None:
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("x", None, ["no visual_features.h5 or visual_pretrained_feature_dict.npy", "extract_audios_frames.sh 'tiny'"]),
        ("AVE_features.zip", b"PK", ["no visual_features.h5 or visual_pretrained_feature_dict.npy"]),
        ("visual_pretrained_feature_dict.npy", b"<html>sign in</html>", ["visual_pretrained_feature_dict.npy"]),
        ("visual_features.h5", b"\x89HDF\r\n\x1a\n half", ["visual_features.h5"]),
    ],
)
def test_features_that_came_half_or_not_at_all(tmp_path, monkeypatch, capsys, name, content, parts):
    tiny.make(tmp_path / "data")
    spoil(tmp_path, name, content)
    monkeypatch.chdir(tmp_path)
    before = listing(tmp_path)
    with pytest.raises(SystemExit):
        importlib.import_module(TRAIN).main(TINY)
    check(capsys.readouterr().err, parts)
    assert listing(tmp_path) == before


def test_there_are_forty():
    assert len(MISTAKES) + len(LAUNCHED) >= 40
