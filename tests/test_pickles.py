"""Dictionaries in .npy files are read without running anything in them."""

import io
import os
import pathlib
import pickle
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features import data_pickle, npy_dict
from features.npy_dict import load_npy_dict, map_npy_dict
from tests.helpers.hostile import forge, forged
from utils.errors import InputError

CONTENT = {
    "-id": np.arange(6, dtype=np.float32).reshape(2, 3),
    "ünï": np.arange(4, dtype=np.float16)[::2],
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big-endian": np.arange(3, dtype=">i4"),
    "text": np.array(["a", "bc"]),
    "scalar": np.float64(2.5),
    "nested": {"train": {0: ["a", "b"], 1: []}, "n": None, "yes": True, "x": 1.5, "big": 2**40},
}


def write(path, value, protocol=4):
    """As numpy.save does, with any pickle protocol."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    array = np.empty((), dtype=object)
    array[()] = value
    path.write_bytes(header.getvalue() + pickle.dumps(array, protocol=protocol))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_what_numpy_saves(tmp_path, protocol):
    path = tmp_path / "x.npy"
    write(path, CONTENT, protocol)
    ours, theirs = load_npy_dict(path), np.load(path, allow_pickle=True).item()
    assert list(ours) == list(theirs)
    for name in CONTENT:
        np.testing.assert_array_equal(ours[name], theirs[name])
        if isinstance(theirs[name], np.ndarray):
            assert ours[name].dtype.newbyteorder("=") == theirs[name].dtype.newbyteorder("=")
    assert ours["nested"] == theirs["nested"]


class Calls:
    def __init__(self, function, *arguments):
        self.how = function, arguments

    def __reduce__(self):
        return self.how


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("where", ["value", "key", "instead", "array", "nested"])
def test_runs_nothing(tmp_path, protocol, where):
    bait = tmp_path / "created"
    evil = Calls(os.system, f"touch {bait}")
    array = np.empty(1, dtype=object)
    array[0] = evil
    content = {"value": {"a": evil}, "key": {(1, evil): 1}, "instead": evil, "array": {"a": array}}
    content["nested"] = {"a": {"b": [Calls(open, str(bait), "w"), Calls(pathlib.Path.touch, bait)]}}
    path = tmp_path / "x.npy"
    write(path, content[where], protocol)
    with pytest.raises(InputError):
        load_npy_dict(path)
    assert not bait.exists()


@pytest.mark.parametrize("where", ["bare", "state", "subclass"])
def test_refuses_other_ways_in(tmp_path, where):
    bait = tmp_path / "created"
    path = tmp_path / "x.npy"
    if where == "bare":
        path.write_bytes(pickle.dumps(Calls(os.system, f"touch {bait}")))
    else:
        write(path, {"a": Calls(eval, f"open({str(bait)!r}, 'w')") if where == "state" else np.ma.array([1, 2])})
    with pytest.raises(InputError):
        load_npy_dict(path)
    assert not bait.exists()


def test_truncated_anywhere(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, CONTENT)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 13):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"x\.npy"):
            load_npy_dict(path)


def test_other_kinds_of_files(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.arange(3))
    with pytest.raises(InputError, match="expected a dictionary"):
        load_npy_dict(path)
    np.save(path, np.array([{"a": 1}, {"b": 2}]))
    with pytest.raises(InputError, match="expected a dictionary"):
        load_npy_dict(path)
    write(path, ["a list"])
    with pytest.raises(InputError, match="holds list"):
        load_npy_dict(path)
    with pytest.raises(InputError, match="no such file"):
        load_npy_dict(tmp_path / "none.npy")


def test_forged_length_allocates_nothing(tmp_path):
    path = tmp_path / "x.npy"
    write(path, {"a": b"some bytes" * 40})
    whole = path.read_bytes()
    position = whole.index(b"B" + (400).to_bytes(4, "little"))
    path.write_bytes(whole[:position] + b"\x8e" + (2**62).to_bytes(8, "little") + whole[position + 5 :])
    with pytest.raises(InputError, match="ends early"):
        load_npy_dict(path)


def test_forged_header_allocates_nothing(tmp_path):
    path = tmp_path / "x.npy"
    path.write_bytes(b"\x93NUMPY\x02\x00" + (2**32 - 1).to_bytes(4, "little") + b"{")
    tracemalloc.start()
    with pytest.raises(InputError, match="ends early"):
        load_npy_dict(path)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_bytes_end_well(tmp_path, data):
    path = tmp_path / "x.npy"
    write(path, CONTENT, data.draw(st.sampled_from([2, 4])))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        assert isinstance(load_npy_dict(path), dict)
    except InputError as error:
        assert "\n" not in str(error)


FORGED = forged(300_000)


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("load", [load_npy_dict, map_npy_dict])
def test_forged_by_size_and_depth(tmp_path, name, load, monkeypatch):
    monkeypatch.setattr(npy_dict, "_MOST_READS", 250_000)  # the real bounds take minutes under tracemalloc
    monkeypatch.setattr(data_pickle, "_MOST_ITEMS", 250_000)
    path = tmp_path / "x.npy"
    forge(path, FORGED[name])
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(InputError, match=r"x\.npy") as refused:
        load(path)
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()
    assert time.process_time() - started < 20
    assert len(str(refused.value)) < 400


def test_numbers_of_64_bits_and_shared_values_are_data(tmp_path):
    array, names = np.arange(900.0), ["a", "b"]
    value = {"low": -(2**63), "high": 2**63 - 1, "a": array, "again": array, "x": {1: names, 2: names}, 3: (1, (2, 3))}
    np.save(tmp_path / "x.npy", value)
    read = load_npy_dict(tmp_path / "x.npy")
    assert read["low"] == -(2**63) and read["high"] == 2**63 - 1 and read["x"] == value["x"] and read[3] == (1, (2, 3))
    assert read["again"] is read["a"]


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "x.npy")
    with pytest.raises(InputError, match="not a regular file"):
        load_npy_dict(tmp_path / "x.npy")
