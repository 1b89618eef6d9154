"""Bad input ends a command with exit code 2 and one line that says what is wrong, and nothing is written."""

import shutil

import h5py
import numpy as np
import pytest

import report
from features.npy_dict import load_npy_dict
from tests.helpers import tiny
from tests.helpers.tiny import change, features, refused


@pytest.fixture
def data(tmp_path):
    tiny.make(tmp_path)
    return tmp_path


def test_missing_feature_file(data):
    features(data, "visual").unlink()
    assert "visual_pretrained_feature: no visual_features.h5" in refused(data)


def test_missing_ids_and_their_cure(data, capsys):
    change(data, "audio", lambda arrays: [arrays.pop(video) for video in list(arrays)[:7]])
    line = refused(data)
    assert "no feature for 7 clips" in line and line.count("-train_") == 5 and "--allow_missing" in line
    printed, _ = tiny.train(data, "fine_tuning", "--allow_missing")
    assert "47 / 18 / 24 clips" in printed
    assert "left out of every split" in printed


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_values_that_are_no_numbers(data, value, word):
    change(data, "visual", lambda arrays: arrays["-val_2_1"].__setitem__((3, 4), value))
    line = refused(data)
    assert word in line and "-val_2_1" in line


def test_wrong_shapes(data):
    change(data, "audio", lambda arrays: arrays.update({"-test_0_0": np.zeros(5, np.float32)}))
    assert "'-test_0_0' has shape (5,)" in refused(data)
    change(data, "audio", lambda arrays: arrays.update({video: np.zeros((2, 2), np.float32) for video in arrays}))
    assert "expected 1 axes" in refused(data)


def test_tokens_that_do_not_fit_the_frames(data):
    assert "16 tokens are not a multiple of 7 frames" in refused(data, "--num_frames", "7")


def splits(data, edit):
    path = data / "tiny" / "all_classId_vid_dict.npy"
    content = load_npy_dict(path)
    edit(content)
    np.save(path, content)


def test_class_without_training_clips(data):
    splits(data, lambda content: content["train"].update({3: []}))
    assert "class 'class 3' has no train clip" in refused(data)


def test_label_in_val_that_train_lacks(data):
    splits(data, lambda content: content["train"].pop(5))
    assert "class 'class 5' has no train clip" in refused(data)


def test_empty_split(data):
    splits(data, lambda content: content["val"].clear())
    assert "no clip in split val" in refused(data)


def test_clip_on_two_sides(data):
    splits(data, lambda content: content["test"][0].append("-train_0_0"))
    assert "'-train_0_0' stands twice, in train and test" in refused(data)


def test_steps_that_do_not_fit_the_classes(data):
    assert "more classes than the 6 of the data" in refused(data, "--classes_per_step", "7")
    assert "remainder of 2" in refused(data, "--classes_per_step", "4")
    assert "5 classes in all, the data has 6" in refused(data, "--classes_per_step", "3", "2")
    assert "0" in refused(data, "--classes_per_step", "0")
    assert "has 6 classes" in refused(data, "--num_classes", "7")


def test_memory_smaller_than_the_classes(data):
    assert "--memory_size 5: smaller than the 6 classes" in refused(data, "--memory_size", "5", method="ssil")


def test_dataset_that_does_not_exist_lists_those_that_do(data):
    line = refused(data, "--dataset", "AVEE")
    assert "--dataset AVEE" in line and "tiny" in line
    assert "not a path" in refused(data, "--dataset", "../tiny")


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--lamda", "1"], "--lamda"),
        (["--lam", "1"], "--lam"),
        (["--modality", "smell"], "smell"),
        (["--classifier", "NME"], "fine_tuning takes linear"),
        (["--lr", "fast"], "'fast' is not a number above 0"),
        (["--lr", "nan"], "above 0"),
        (["--max_epochs", "0"], "whole number of 1 or more"),
        (["--memory_size", "1" + 30 * "0"], "below 2^31"),
        (["--max_epochs", 5000 * "1"], f"'{40 * '1'}' is not a whole number"),
        (["--device", "abacus"], "--device abacus"),
        (["--device", "meta"], "--device meta"),
        (["--seed", "-1"], "'-1' is not a whole number from 0"),
        (["--class_order_seed", "5000000000"], "4294967295"),
        (["--method", "magic"], "no such method"),
    ],
)
def test_flags_that_make_no_sense(data, flags, word):
    assert word in refused(data, *flags)


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--expansion", "30000000"], "at most"),
        (["--balance", "500"], "a number from 0 to 1"),
        (["--penalties", "1e308"], "1e12 at most"),
    ],
)
def test_closed_form_that_cannot_be_computed(data, flags, word):
    assert word in refused(data, *flags, method="analytic")


def test_modality_that_a_method_does_not_take(data):
    assert "avcil takes audio-visual" in refused(data, "--modality", "audio", method="avcil")


def test_damaged_files(data):
    path = features(data, "visual")
    path.write_bytes(path.read_bytes()[:5000])
    assert "damaged or truncated" in refused(data)
    path.unlink()
    (path.parent / "visual_features.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert "no readable HDF5 file" in refused(data)
    (path.parent / "visual_features.h5").unlink()
    with h5py.File(path.parent / "visual_features.h5", "w") as file:
        file.create_group("-train_0_0")
    assert "no feature for 95 clips" in refused(data)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("video,label,split\na,b,train\n", "no column video_id"),
        ("video_id,label,split\na,b,training\n", "line 2: split 'training'"),
        ("video_id,label,split\na,b,train\na,b,val\n", "line 3: 'a' is already on line 2"),
        ("video_id,label,split\na,,train\n", "line 2: empty"),
        ("video_id,label,split\na,b,c,train\n", "line 2: not as many values"),
        ("video_id,label,split\n", "no clip in split train"),
        ("\xff\xfe", "not UTF-8 at byte 0"),
    ],
)
def test_damaged_split_tables(data, content, word):
    (data / "tiny" / "splits.csv").write_bytes(content.encode("latin1"))
    assert word in refused(data)


def test_another_run_in_the_folder_is_kept(data):
    tiny.train(data, "fine_tuning")
    before = (data / "run" / "results.json").read_text()
    line = refused(data, "--run_dir", str(data / "run"), "--seed", "7")
    assert "--seed 42 there, 7 now" in line
    assert (data / "run" / "results.json").read_text() == before
    shutil.rmtree(data / "run")
    (data / "run").mkdir()
    (data / "run" / "thesis.tex").write_text("years of work")
    assert "not the folder of a run" in refused(data, "--run_dir", str(data / "run"))


def test_report_says_what_it_lacks(tmp_path):
    assert "no such folder" in refused(tmp_path, str(tmp_path / "none"), main=report.main)
    assert "no finished run" in refused(tmp_path, str(tmp_path), main=report.main)
    (tmp_path / "results.json").write_text("{")
    assert "not a readable results file" in refused(tmp_path, str(tmp_path), main=report.main)
    (tmp_path / "results.json").write_text("[]")
    assert "lacks" in refused(tmp_path, str(tmp_path), main=report.main)


def test_precisions_that_do_nothing(data):
    assert "--precision tf32: a format of GPUs" in refused(data, "--precision", "tf32", "--device", "cpu")
    assert "--precision bf16: audio runs" in refused(data, "--precision", "bf16", "--modality", "audio")


@pytest.mark.parametrize("value", ["-1", "much", "inf", "nan"])
def test_caches_that_are_no_size(data, value):
    assert f"--device_cache: '{value}' is not a number of GB" in refused(data, f"--device_cache={value}")
