"""Writing and reading files: whole or absent, and one line whatever a file holds."""

import errno
import json
import os
import subprocess
import sys

import pytest

from engine import checkpoints
from features.npy_dict import load_npy_dict
from tests.helpers.shared import REPO
from utils.errors import InputError
from utils.files import (
    atomic_path,
    csv_text,
    file_lock,
    of_cell,
    read_json,
    read_lines,
    read_rows,
    read_table,
    write_text,
)

READERS = {
    "lines": read_lines,
    "rows": lambda path: list(read_rows(path)),
    "table": lambda path: list(read_table(path, ("a", "b"))),
    "JSON": read_json,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("content", [b"a,b\n\xff,1\n", b"a,b\n\x00,1\n"], ids=["not UTF-8", "zero bytes"])
def test_what_is_no_text_is_refused_in_one_line(tmp_path, reader, content):
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.txt: not a readable .* \(.*\); ") as refused:
        READERS[reader](path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, reader):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a regular file"):
        READERS[reader](tmp_path / "pipe")


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file that cannot be read")
@pytest.mark.parametrize("reader", [*READERS.values(), load_npy_dict, checkpoints.load])
def test_an_error_of_the_disk_is_not_called_damage(tmp_path, reader):
    (tmp_path / "file").symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match="Input/output error") as refused:
        reader(str(tmp_path / "file"))
    assert refused.value.errno == errno.EIO and refused.value.filename == str(tmp_path / "file")


@pytest.mark.parametrize("reader", READERS)
def test_a_file_of_gigabytes_is_refused_unread(tmp_path, reader):
    path = tmp_path / "x.txt"
    with open(path, "wb") as file:
        file.truncate(2**33)
    with pytest.raises(InputError, match="larger than 64 MB"):
        READERS[reader](path)


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_file_and_a_folder_are_named_as_what_they_are(tmp_path, reader):
    with pytest.raises(FileNotFoundError):
        READERS[reader](tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        READERS[reader](tmp_path)


HOSTILE_JSON = {
    "deep for the parser": "[" * 100_000 + "]" * 100_000,
    "deep for what comes after": "[" * 50 + "]" * 50,
    "half a character": json.dumps({"a": ["\ud800"]}),
    "half a character as a key": json.dumps({"\udc00": 1}),
    "a number of 400 digits": "[" + "9" * 400 + "]",
    "a number of 5000 digits": "[" + "9" * 5000 + "]",
    "many lists": "[" + "[]," * 3_000_000 + "[]]",
    "cut short": '{"a": [1, 2',
    "nothing": "",
}


@pytest.mark.parametrize("text", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
def test_hostile_json_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=r"x\.json: not a readable JSON file"):
        read_json(tmp_path / "x.json")


def test_json_reads_what_json_writes(tmp_path):
    value = {"ünï": [1, -(2**63), 2**63 - 1, 0.5, None, True, "\U0001f600"], "[": {"nested": [[[]]]}}
    (tmp_path / "x.json").write_text(json.dumps(value))
    assert read_json(tmp_path / "x.json") == value


def test_lines_and_tables_of_other_editors(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes('\ufeffa, b,c\r\n\r\n1,2,3\r\n"4\n5",6,7\r\n'.encode())
    assert list(read_table(path, ("a", "b"))) == [
        (3, {"a": "1", "b": "2", "c": "3"}),
        (5, {"a": "4\n5", "b": "6", "c": "7"}),
    ]
    assert read_lines(path) == ["a, b,c", "1,2,3", '"4', '5",6,7']


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,c\n1,2\n", "no column b; the header is a,b"),
        ("", "no column a, b"),
        ("a,b,a\n1,2,3\n", "twice"),
        ("a,b\n1,2\n1\n", "line 3: not as many values"),
        ("a,b\n1,2,3\n", "line 2: not as many values"),
        ("a,b\n" + "x" * 200_000 + ",2\n", "not a readable csv file"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, text, words):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        list(read_table(tmp_path / "x.csv", ("a", "b")))


def test_a_failed_write_leaves_the_old_file_and_names_it(tmp_path):
    path = tmp_path / "x.txt"
    write_text(path, "old")
    with pytest.raises(OSError) as failed, atomic_path(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert failed.value.filename == str(path)
    with pytest.raises(OSError) as failed, atomic_path(tmp_path / "none" / "y.txt"):
        pass
    assert failed.value.filename == str(tmp_path / "none" / "y.txt")
    assert os.listdir(tmp_path) == ["x.txt"] and path.read_text() == "old"


def test_a_lock_keeps_others_out_and_touches_nothing(tmp_path):
    lock, target = tmp_path / "lock", tmp_path / "target"
    target.write_text("precious")
    lock.symlink_to(target)
    with pytest.raises(InputError, match="symbolic link"), file_lock(lock, "this"):
        pass
    assert target.read_text() == "precious"
    lock.unlink()
    lock.write_text("a note")
    code = f"from utils.files import file_lock\nwith file_lock({str(lock)!r}, 'this'): pass"
    with file_lock(lock, "this"):
        other = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=False)
    assert "another process is writing this" in other.stderr
    assert lock.read_text() == "a note"


CELLS = ["=1+1", "'=1+1", "''=1", "@a", "+1", "-5+cmd", "-x_9.mp4", "'", "'a", "it's", "", "\tb", "plain", "-"]


@pytest.mark.parametrize("text", CELLS)
def test_no_cell_is_a_formula_and_every_cell_gives_its_text_back(text):
    cell = csv_text([[text, "other"]])[: -len(",other\n")]
    assert not cell.startswith(("=", "@", "+", "-5", "\t"))
    assert of_cell(cell) == text
