"""Feature files that are damaged, or hold what no training can use."""

import contextlib
import json
import os
import random
import resource
import subprocess
import sys

import h5py
import numpy as np
import pytest

from features.checks import common_shape, read_all
from features.npy_dict import load_npy_dict
from features.sources import HDF5Features
from tests.helpers import tiny
from tests.helpers.hostile import ATTRIBUTES, ELSEWHERE
from tests.helpers.shared import REPO
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
        (lambda file, video, array: file.__setitem__(video, h5py.SoftLink("/nowhere")), "is a soft link"),
        (lambda file, video, array: file.__setitem__(video, h5py.ExternalLink("none.h5", "/x")), "is an external link"),
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
            videos = [video for video in ids if video in file] or ids
            common_shape(file, videos, (2,))
            read_all(file, videos, iter)
        except InputError as error:
            refusals += 1
            assert str(path) in str(error) and "\n" not in str(error)
        finally:
            path.unlink()
    assert refusals > 100


@pytest.mark.parametrize("storage", ELSEWHERE)
@pytest.mark.parametrize("target", ["secret", "missing", "pipe"])
def test_only_values_in_the_file_itself_are_read(tmp_path, storage, target):
    outside, (put, words) = tmp_path / target, ELSEWHERE[storage]
    if target == "secret":
        outside.write_bytes(b"root:x:0:0:root:/root:/bin/bash\n")
    elif target == "pipe":
        os.mkfifo(outside)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["whole"] = np.ones(8, np.float32)
        put(file, "clip", outside)
    features = HDF5Features(tmp_path / "a.h5")
    assert features["whole"].sum() == 8
    for read in (features.describe, features.__getitem__):
        with pytest.raises(InputError, match=f"'clip' is .*{words}"):
            read("clip")


def test_attributes_of_any_type_are_numbers_or_text(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.ones(4, np.float32)
        file.attrs.update(ATTRIBUTES)
    attributes = HDF5Features(tmp_path / "a.h5").attributes
    assert attributes.keys() == ATTRIBUTES.keys() and json.loads(json.dumps(attributes)) == attributes
    assert (attributes["text"], attributes["yes"], attributes["number"]) == ("ü", True, 3)


def test_what_goes_wrong_around_a_file_is_not_called_damage(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.ones(4, np.float32)
        file.flush()
        code = f"from features.sources import HDF5Features\nHDF5Features({str(path)!r})"
        command = [sys.executable, "-c", code]
        locked = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False).stderr
    assert "open for writing in another process; wait for it to end" in locked
    with pytest.raises(OSError, match="Too many open files") as failed, no_more_files():
        HDF5Features(path)
    assert failed.value.filename == str(path)


@pytest.mark.parametrize("ended", ["open", "killed"])
@pytest.mark.parametrize("swmr", [False, True])
def test_a_file_that_its_writer_has_not_closed_is_not_called_damage(tmp_path, ended, swmr):
    """The newer format has a mark of its own in the file, which stays when its writer is killed."""
    path = tmp_path / "a.h5"
    code = f"import h5py\nfile = h5py.File({str(path)!r}, 'w', libver='latest')\nfile['a'] = [1.0]\nfile.flush()\n"
    code += f"{'file.swmr_mode = True' if swmr else ''}\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        if ended == "killed":
            writer.kill()
            writer.wait()
        with pytest.raises(InputError, match="open for writing in another process.*; wait for it to end"):
            HDF5Features(path)
        writer.kill()


def test_training_takes_no_few_bytes_for_many(data):
    path = features(data, "visual").with_name("visual_features.h5")
    ids = list(load_npy_dict(features(data, "visual")))
    features(data, "visual").unlink()
    with h5py.File(path, "w") as file:
        for video in ids:
            file.create_dataset(video, (8, 2000, 768), "f4", chunks=(1, 2000, 768), compression="gzip")
    line = refused(data, "--modality", "visual")
    assert "would become 4.72 GB of features; if that is meant" in line and "--yes_expand" in line


@contextlib.contextmanager
def no_more_files():
    """This process has as many files open as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_free = os.open(os.devnull, os.O_RDONLY)
    os.close(next_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
