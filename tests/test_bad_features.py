"""Feature files that are damaged, or hold what no training can use."""

import random

import h5py
import numpy as np
import pytest

from features.checks import check_features
from features.npy_dict import load_npy_dict
from features.sources import HDF5Features
from tests.helpers import tiny
from tests.helpers.tiny import change, features, refused
from utils.errors import InputError


@pytest.fixture
def data(tmp_path):
    tiny.make(tmp_path)
    return tmp_path


def put_into_hdf5(data, put):
    """Replace the visual features by an HDF5 file; ``put(file, id, array)`` writes each clip."""
    arrays = load_npy_dict(features(data, "visual"))
    features(data, "visual").unlink()
    with h5py.File(features(data, "visual").parent / "visual_features.h5", "w") as file:
        for video, array in arrays.items():
            put(file, video, array)


def test_infinities_of_both_signs_say_one_line(data):
    change(data, "visual", lambda arrays: arrays["-test_1_2"].__setitem__((0, slice(2)), (np.inf, -np.inf)))
    assert "infinite" in refused(data)


def test_values_too_large_for_float32(data):
    def widen(arrays):
        arrays.update({video: array.astype(np.float64) for video, array in arrays.items()})
        arrays["-train_4_0"][3] = -1e300

    change(data, "audio", widen)
    line = refused(data)
    assert "too large for float32: -train_4_0" in line and "1 clips" in line


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ([[1.0, 2.0], [3.0]], "lists of unequal lengths"),
        ({"a": 1.0}, "shape ()"),
        (None, "shape ()"),
        (np.arange(12), "holds int64"),
        (np.array(["x"] * 12), "expected float16, float32 or float64"),
        (np.zeros(0, np.float32), "shape (0,)"),
    ],
)
def test_values_that_are_no_features(data, value, word):
    content = load_npy_dict(features(data, "audio"))
    np.save(features(data, "audio"), dict.fromkeys(content, value))
    assert word in refused(data)


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        (lambda file, video, array: file.__setitem__(video, h5py.SoftLink("/nowhere")), "unreadable"),
        (lambda file, video, array: file.__setitem__(video, h5py.ExternalLink("none.h5", "/x")), "unreadable"),
        (lambda file, video, array: file.create_dataset(video, data=h5py.Empty("f4")), "shape ()"),
        (lambda file, video, array: file.create_dataset(video, data="text"), "shape ()"),
        (lambda file, video, array: file.create_group(video), "is a group"),
    ],
)
def test_hdf5_entries_that_are_no_features(data, entry, word):
    put_into_hdf5(data, entry)
    line = refused(data)
    assert word in line and "'-train_0_0'" in line and "visual_features.h5" in line


def test_damaged_hdf5_is_read_or_refused(tmp_path):
    ids = [str(number) for number in range(8)]
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        for video in ids:
            file.create_dataset(video, data=np.ones((16, 3), np.float32), compression="gzip" if video > "5" else None)
    whole = (tmp_path / "whole.h5").read_bytes()
    rng, refusals = random.Random(0), 0
    for number in range(200):
        content = bytearray(whole[: rng.randrange(len(whole))] if number % 4 == 0 else whole)
        for _ in range(rng.randint(1, 20)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path = tmp_path / f"{number}.h5"
        path.write_bytes(content)
        try:
            file = HDF5Features(path)
            check_features(file, [video for video in ids if video in file] or ids, (2,), lambda videos: videos)
        except InputError as error:
            refusals += 1
            assert str(path) in str(error) and "\n" not in str(error)
        finally:
            path.unlink()
    assert refusals > 100
