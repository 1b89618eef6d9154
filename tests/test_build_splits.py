"""Splits: from official annotation files, from the release, from a user's table and folders."""

import csv
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splits.annotations import KSOUNDS_CLASSES
from splits.build import main
from splits.draw import by_share, draw, separate_by_video, source_video
from splits.formats import SPLITS, read_released_splits, read_splits
from tests.helpers.shared import shared

PROJECT = Path(__file__).resolve().parent.parent


def named(splits):
    """split -> {video id: class name}."""
    return {split: {v: splits.classes[c] for v, c in splits.clips[split].items()} for split in SPLITS}


def build(tmp_path, *arguments, folder):
    main([*map(str, arguments), "--data_root", str(tmp_path)])
    return read_splits(tmp_path / folder)


def test_ave_equals_the_released_split_id_by_id(tmp_path):
    ours = build(tmp_path, "ave", "--annotations", shared("data/annotations/AVE"), folder="AVE")
    released = read_released_splits(shared("data/splits/AVE"))
    assert ours.classes == released.classes
    assert named(ours) == named(released)
    assert [len(ours.clips[split]) for split in SPLITS] == [3294, 391, 394]


def test_released_triple_becomes_a_table_of_the_same_content(tmp_path):
    folder = shared("data/splits/kinetics-sounds")
    ours = build(tmp_path, "released", "--folder", folder, "--dataset", "ksounds", folder="kinetics-sounds")
    assert ours.classes == KSOUNDS_CLASSES
    assert ours.clips == read_released_splits(folder).clips


@pytest.fixture
def vggsound_csv(tmp_path):
    """The released clips as the official file writes them, with their own classes and one class more."""
    folder = shared("data/splits/VGGSound_100")
    released = read_released_splits(folder)
    path = tmp_path / "vggsound.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        for split in SPLITS:
            for clip, label in released.clips[split].items():
                name = released.classes[label].replace("subway, metr", "subway, metro, underground")
                rows.writerow([clip[:11], int(clip[12:]), name, "train"])
        rows.writerow(["00000000000", 3, "a class nobody asked for", "test"])
    return path, folder, released


def test_vggsound_has_50_val_and_50_test_clips_a_class(tmp_path, vggsound_csv, capsys):
    path, folder, released = vggsound_csv
    arguments = ("vggsound", "--annotations", path, "--classes", folder / "category_encode_dict.npy")
    ours = build(tmp_path, *arguments, folder="VGGSound_100")
    assert "subway, metro, underground" in ours.classes and len(ours.classes) == 100
    for split in ("val", "test"):
        assert set(Counter(ours.clips[split].values()).values()) == {50}
    everything = {clip for split in SPLITS for clip in ours.clips[split]}
    assert everything == {clip for split in SPLITS for clip in released.clips[split]}
    assert "test clips cut from a video that train has clips of too: 16" in capsys.readouterr().out  # 33 %, as released
    again = build(tmp_path, *arguments, "--overwrite", folder="VGGSound_100")
    assert again.clips == ours.clips
    other = build(tmp_path, *arguments, "--overwrite", "--seed", 1, folder="VGGSound_100")
    assert other.clips != ours.clips


def test_vggsound_grouped_by_video_shares_no_video(tmp_path, vggsound_csv):
    path, folder, _ = vggsound_csv
    arguments = ("vggsound", "--annotations", path, "--classes", folder / "category_encode_dict.npy")
    ours = build(tmp_path, *arguments, "--group_by_video", folder="VGGSound_100")
    videos = [{source_video(clip) for clip in ours.clips[split]} for split in SPLITS]
    assert not videos[0] & videos[1] and not videos[0] & videos[2] and not videos[1] & videos[2]
    for split in ("val", "test"):
        assert set(Counter(ours.clips[split].values()).values()) == {50}


def test_vggsound_draws_classes_when_none_are_given(tmp_path):
    path = shared("data/annotations/VGGSound/test.csv")
    counts = ("--val_clips", 10, "--test_clips", 10)
    ours = build(tmp_path, "vggsound", "--annotations", path, *counts, folder="VGGSound_100")
    assert len(ours.classes) == 100 and min(Counter(ours.clips["train"].values()).values()) >= 1


def test_kinetics_halves_the_held_out_clips(tmp_path):
    held_out = shared("data/annotations/Kinetics/kinetics-400_val.csv")
    train = tmp_path / "train.csv"
    lines = ["label,youtube_id,time_start,time_end,split,is_cc"]
    lines += [f"{name},{name.replace(' ', '')[:9]:_<9}{i:02d},0,10,train,0" for name in KSOUNDS_CLASSES for i in (1, 2)]
    train.write_text("\n".join([*lines, "abseiling,XXXXXXXXXXX,0,10,train,0"]))
    ids = tmp_path / "ids.txt"
    arguments = ("kinetics", "--train", train, "--held_out", held_out, "--list_ids", ids)
    ours = build(tmp_path, *arguments, folder="kinetics-sounds")
    assert ours.classes == KSOUNDS_CLASSES
    val, test = (Counter(ours.clips[split].values()) for split in ("val", "test"))
    assert all(test[c] - val[c] in (0, 1) for c in range(30)) and sum(val.values()) > 600
    assert ids.read_text().split() == [clip for split in SPLITS for clip in ours.clips[split]]


def test_kinetics_test_file_without_labels_is_refused(tmp_path, capsys):
    path = shared("data/annotations/Kinetics/kinetics-400_test.csv")
    with pytest.raises(SystemExit, match="2"):
        main(["kinetics", "--train", str(path), "--held_out", str(path), "--data_root", str(tmp_path)])
    assert "no column label; take Kinetics' csv files that have labels" in capsys.readouterr().err


def test_a_users_table_with_and_without_split(tmp_path):
    with_split = tmp_path / "a.csv"
    with_split.write_text("video_id,label,split\nx,dog,train\ny,cat,test\n-z,cat,val\n")
    ours = build(tmp_path, "csv", "--table", with_split, "--dataset", "a", folder="a")
    assert named(ours) == {"train": {"x": "dog"}, "val": {"-z": "cat"}, "test": {"y": "cat"}}
    drawn = tmp_path / "b.csv"
    rows = [f"clip {i},{'dog' if i % 2 else 'cat'},film {i // 4}" for i in range(80)]
    drawn.write_text("\n".join(["video_id,label,source", *rows]))
    ours = build(tmp_path, "csv", "--table", drawn, "--dataset", "b", "--group_by_video", "--val", "0.2", folder="b")
    films = [{int(clip[5:]) // 4 for clip in ours.clips[split]} for split in SPLITS]
    assert [len(ours.clips[split]) for split in SPLITS] == [56, 16, 8]
    assert not films[0] & films[1] and not films[0] & films[2] and not films[1] & films[2]


def test_folders_of_classes(tmp_path):
    for name in ("dog", "big cat", "vögel"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for number in range(10):
            (tmp_path / "clips" / name / f"{number}.MP4").touch()
        (tmp_path / "clips" / name / "notes.txt").touch()
    ours = build(tmp_path, "folders", "--videos", tmp_path / "clips", "--dataset", "pets", folder="pets")
    assert ours.classes == ["big cat", "dog", "vögel"]
    assert [len(ours.clips[split]) for split in SPLITS] == [24, 3, 3]
    assert all(clip.startswith(ours.classes[label]) for clip, label in ours.clips["train"].items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ave", "--annotations", "/nowhere"], "No such file"),
        (["folders", "--videos", ".", "--dataset", "x"], "no video files"),
        (["folders", "--videos", ".", "--dataset", "x", "--val", "1.5"], "a share from 0 up to 1"),
        (["folders", "--videos", ".", "--dataset", "../x"], "not a path"),
        (["csv", "--table", "table.csv", "--dataset", "x"], "path separator"),
        (["csv", "--table", "table.csv", "--dataset", "x", "--vall", "0.1"], "--vall"),
        (["everything"], "invalid choice"),
        ([], "source"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text("video_id,label\n../a,dog\nb,dog\nc,cat\n")
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, *(["--data_root", str(tmp_path)] if arguments else [])])
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_splits_that_are_there_are_not_replaced_unasked(tmp_path, capsys):
    table = tmp_path / "t.csv"
    table.write_text("video_id,label,split\nx,dog,train\n")
    arguments = ["csv", "--table", str(table), "--dataset", "a", "--data_root", str(tmp_path)]
    main(arguments)
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "--overwrite" in capsys.readouterr().err
    main([*arguments, "--overwrite"])


def test_runs_by_its_path_from_another_folder(tmp_path):
    command = [sys.executable, os.path.join(PROJECT, "splits", "build.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "folders" in done.stdout


@given(st.dictionaries(st.text(min_size=1), st.sampled_from("abc"), min_size=1), st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_drawing_keeps_every_clip_once_and_meets_the_quota(pool, seed):
    drawn = draw(pool, by_share(0.2, 0.2), seed)
    assert sorted(clip for split in SPLITS for clip in drawn[split]) == sorted(pool)
    sizes = Counter(pool.values())
    for place, split in enumerate(("val", "test")):
        counts = Counter(pool[clip] for clip in drawn[split])
        assert all(counts[label] == by_share(0.2, 0.2)(size)[place] for label, size in sizes.items())


def test_released_splits_without_shared_videos(tmp_path, capsys):
    folder = shared("data/splits/VGGSound_100")
    before = read_released_splits(folder)
    flags = ["released", "--folder", folder, "--dataset", "VGGSound_100", "--group_by_video"]
    after = build(tmp_path, *flags, folder="VGGSound_100")
    printed = capsys.readouterr().out
    assert "so that no video is on two sides" in printed
    assert "test clips cut from a video that train has clips of too: 0 (0.0 %)" in printed
    sides = {}
    for split in SPLITS:
        for clip in after.clips[split]:
            assert sides.setdefault(source_video(clip), split) == split
    # Every clip is still there with its class, and classes keep their numbers.
    pooled = [{c: d for part in named(splits).values() for c, d in part.items()} for splits in (before, after)]
    assert pooled[0] == pooled[1]
    for split in ("val", "test"):
        counts = Counter(after.clips[split].values())
        assert all(48 <= counts[label] <= 50 for label in range(100)), counts


def test_splits_that_share_nothing_stay_as_they_are(tmp_path):
    before = read_released_splits(shared("data/splits/AVE"))
    assert separate_by_video(before).clips == before.clips
