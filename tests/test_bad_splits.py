"""Splits that are damaged or contradict themselves: one line for whatever stands in them, and never a traceback."""

import re
import shutil
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.npy_dict import load_npy_dict
from splits.formats import SPLITS, name_problem, read_splits
from tests.helpers import tiny
from tests.helpers.tiny import refused
from utils.errors import InputError

TRIPLE = ("all_classId_vid_dict", "all_id_category_dict", "category_encode_dict")
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ODD = st.recursive(
    st.none() | st.integers(-1, 7) | st.sampled_from(["train", "class 0", "-train_0_0", ""]) | st.floats(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["train", 0, "x"]), inner, max_size=2),
    max_leaves=4,
)


@pytest.fixture
def data(tmp_path):
    tiny.make(tmp_path)
    return tmp_path


def edit(data, name, change):
    path = data / "tiny" / f"{name}.npy"
    content = load_npy_dict(path)
    change(content)
    np.save(path, content)


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("all_id_category_dict", lambda content: content["train"].update({"-train_0_0": ["class 0"]}), "'-train_0_0'"),
        ("all_id_category_dict", lambda content: content.update(val=[1]), "one release"),
        ("all_id_category_dict", lambda content: content["test"].update({"-test_3_1": "class 4"}), "'-test_3_1'"),
        ("category_encode_dict", lambda content: content.update({"class 0": "zero"}), "class name -> class id"),
        ("category_encode_dict", lambda content: content.update({"class 0": 1}), "not 0..5"),
        ("category_encode_dict", lambda content: content.clear(), "expected a dict"),
        ("all_classId_vid_dict", lambda content: content["val"].update({"two": []}), "class id 'two'"),
        ("all_classId_vid_dict", lambda content: content["val"].update({2: "abc"}), "not a list of video ids"),
        ("all_classId_vid_dict", lambda content: content.pop("test"), "expected the splits"),
    ],
)
def test_triple_that_contradicts_itself(data, name, change, word):
    edit(data, name, change)
    line = refused(data)
    assert word in line and name in line


@pytest.mark.parametrize(("names", "word"), [("b\nb\n", "class 'b' stands in it twice"), ("c\n", "label 'b'")])
def test_class_list_that_does_not_fit(data, names, word):
    (data / "tiny" / "splits.csv").write_text("video_id,label,split\na,b,train\n")
    (data / "tiny" / "classes.txt").write_text(names)
    assert word in refused(data)


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        ('a,"x\ny",train\n', "class 'x\\ny' cannot have this name"),
        ("a,\x1b[31mred,train\n", "control character"),
        ("a\x1b[2J,x,train\n", "cannot be a video id"),
        ("a,caf\u00e9,train\nb,cafe\u0301,val\n", "two spellings"),
    ],
)
def test_names_that_cannot_be_written_and_read_again(tmp_path, rows, word):
    (tmp_path / "splits.csv").write_text(f"video_id,label,split\n{rows}")
    with pytest.raises(InputError, match=re.escape(word)):
        read_splits(tmp_path)


def test_a_line_break_at_the_end_of_a_name_is_not_called_a_space():
    assert "line break" in name_problem("dog\n") and "space" in name_problem("dog ")


def test_a_list_of_many_classes_takes_no_time(tmp_path):
    names = "".join(f"class {number}\n" for number in range(100_000))
    (tmp_path / "splits.csv").write_text("video_id,label,split\na,class 1,train\n")
    (tmp_path / "classes.txt").write_text(names)
    started = time.process_time()
    assert len(read_splits(tmp_path).classes) == 100_000
    assert time.process_time() - started < 10  # seconds of CPU; each name looked for among all took minutes


def check_readable_or_refused(folder):
    try:
        splits = read_splits(folder)
    except InputError as error:
        assert "\n" not in str(error)
        return
    assert set(splits.clips) == set(SPLITS)
    for part in splits.clips.values():
        assert all(0 <= label < len(splits.classes) for label in part.values())


@FUZZ
@given(st.data())
def test_anything_in_the_triple(tmp_path, data):
    folder = tmp_path / "tiny"
    shutil.rmtree(folder, ignore_errors=True)
    tiny.make(tmp_path, {"train": 1, "val": 1, "test": 1})
    contents = {name: load_npy_dict(folder / f"{name}.npy") for name in TRIPLE}
    name = data.draw(st.sampled_from(TRIPLE))
    changed = contents[name]
    if name != "category_encode_dict" and data.draw(st.booleans()):
        changed = changed["train"]
    changed[data.draw(st.sampled_from([*changed, "x", 99]))] = data.draw(ODD)
    np.save(folder / f"{name}.npy", contents[name])
    check_readable_or_refused(folder)


@FUZZ
@given(
    head=st.sampled_from(["video_id,label,split", "split,video_id,label,note", "video_id,video_id,split"]),
    rows=st.lists(
        st.lists(st.sampled_from(["train", "val", "a", "b", "", '"', "ü", "\x00", " "]), max_size=5), max_size=6
    ),
    raw=st.binary(max_size=8),
)
def test_anything_in_the_table(tmp_path, head, rows, raw):
    lines = [head, *(",".join(row) for row in rows)]
    (tmp_path / "splits.csv").write_bytes("\n".join(lines).encode() + raw)
    check_readable_or_refused(tmp_path)
