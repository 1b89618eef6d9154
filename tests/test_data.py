"""Reading features and splits."""

import errno

import h5py
import numpy as np
import pytest
import torch

from dataloader import open_data
from engine.options import parse, resolve
from engine.run_identity import run_path
from features.cache import CacheOptions
from features.npy_dict import load_npy_dict
from features.pickled_arrays import ArrayInFile
from features.sources import DictFeatures
from splits.formats import SPLITS
from tests.helpers import tiny
from utils.files import WAITS, retried


def features_file(folder, sense):
    return folder / f"{sense}_pretrained_feature" / f"{sense}_pretrained_feature_dict.npy"


def to_hdf5(folder, reshape=None):
    """Put the visual features into HDF5, as larger data sets have them."""
    arrays = load_npy_dict(features_file(folder, "visual"))
    features_file(folder, "visual").unlink()
    with h5py.File(folder / "visual_pretrained_feature" / "visual_features.h5", "w") as file:
        for video, array in arrays.items():
            file[video] = array.reshape(reshape) if reshape else array


def everything(data):
    return data.load(np.arange(len(data.ids)))


def tokens(data):
    return everything(data).visual.tensor()


@pytest.mark.parametrize("form", ["flat hdf5", "frames first", "float16"])
def test_forms_of_the_same_features(tmp_path, form):
    folder = tiny.make(tmp_path, dtype=np.float16 if form == "float16" else np.float32)
    plain = tokens(open_data("tiny", data_root=tmp_path))
    arrays = load_npy_dict(features_file(folder, "visual"))
    to_hdf5(folder, (8, 2, 12) if form == "frames first" else None)
    data = open_data("tiny", data_root=tmp_path)
    ours = tokens(data)
    assert ours.shape == (96, 8, 2, 12) and ours.dtype == (torch.float16 if form == "float16" else torch.float32)
    torch.testing.assert_close(ours, plain, rtol=0, atol=0)
    # Flat tokens are frame-major.
    np.testing.assert_array_equal(ours[3, 1, 0], arrays[data.ids[3]][2])


def test_number_of_frames(tmp_path):
    tiny.make(tmp_path)
    assert open_data("tiny", data_root=tmp_path, num_frames=4).visual_shape == (4, 4, 12)


def test_audio_runs_never_open_the_visual_file(tmp_path):
    folder = tiny.make(tmp_path)
    features_file(folder, "visual").write_bytes(b"garbage")
    data = open_data("tiny", "audio", data_root=tmp_path)
    assert everything(data).visual is None and list(data.features) == ["audio"]
    features_file(folder, "audio").unlink()
    np.save(features_file(folder, "visual"), {video: np.zeros((16, 12), np.float32) for video in data.ids})
    assert everything(open_data("tiny", "visual", data_root=tmp_path)).audio is None


def test_large_arrays_stay_in_the_file(tmp_path):
    path = tmp_path / "x.npy"
    rng = np.random.default_rng(0)
    arrays = {f"v{n}": rng.standard_normal((8, 80)).astype(kind) for n, kind in enumerate("efd")}
    arrays |= {"small": np.ones(3, np.float32), "fortran": np.asfortranarray(arrays["v1"]), "swapped": arrays["v1"]}
    arrays["swapped"] = arrays["swapped"].astype(">f4")
    np.save(path, arrays)
    features = DictFeatures(path)
    kinds = {video: type(array) for video, array in features.arrays.items()}
    assert kinds.pop("small") is np.ndarray and set(kinds.values()) == {ArrayInFile}
    for video, array in arrays.items():
        assert features.describe(video) == (array.shape, array.dtype)
        np.testing.assert_array_equal(features[video], array)


def test_splits_as_a_table(tmp_path):
    folder = tiny.make(tmp_path)
    released = open_data("tiny", data_root=tmp_path)
    rows = ["video_id,label,split"]
    for split in ("train", "val", "test"):
        for clip in released.clips(split, slice(0, 6)):
            rows.append(f'"{released.ids[clip]}","{released.classes[released.label[clip]]}",{split}')
    (folder / "splits.csv").write_text("\n".join(reversed(rows[1:])) + "\n")
    (folder / "splits.csv").write_text("\n".join([rows[0], *reversed(rows[1:])]) + "\n")
    # Without a list of classes, the order is that of first appearance: here the last class comes first.
    assert open_data("tiny", data_root=tmp_path).classes == released.classes[::-1]
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in released.classes))
    table = open_data("tiny", data_root=tmp_path)
    assert table.classes == released.classes
    pairs = [{(d.ids[clip], int(d.label[clip])) for clip in range(96)} for d in (table, released)]
    assert pairs[0] == pairs[1]


def test_clips_come_class_by_class_in_the_order_of_the_file(tmp_path):
    tiny.make(tmp_path)
    data = open_data("tiny", "audio", data_root=tmp_path)
    clips = data.clips("train", slice(2, 4))
    assert [data.ids[clip] for clip in clips] == [f"-train_{c}_{n}" for c in (2, 3) for n in range(9)]


def test_class_order(tmp_path):
    tiny.make(tmp_path)
    plain = open_data("tiny", "audio", data_root=tmp_path)
    shuffled = open_data("tiny", "audio", data_root=tmp_path, class_order_seed=3)
    assert shuffled.classes != plain.classes and sorted(shuffled.classes) == plain.classes
    for clip, video in enumerate(shuffled.ids):
        assert shuffled.classes[shuffled.label[clip]] == plain.classes[plain.label[plain.index[video]]]
    few = open_data("tiny", "audio", data_root=tmp_path, num_classes=4, class_order_seed=3)
    assert sorted(few.classes) == plain.classes[:4] and len(few.ids) == 64


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_do_not_depend_on_workers(tmp_path, workers):
    tiny.make(tmp_path)
    data = open_data("tiny", data_root=tmp_path, cache=CacheOptions(num_workers=workers))
    plan = [np.arange(start, start + 7) for start in range(0, 90, 7)]
    batches = list(data.batches([(clips, 2) for clips in plan]))
    assert [batch.clip.tolist() for batch in batches] == [clips.tolist() for clips in plan]
    for batch in batches:
        torch.testing.assert_close(batch.audio, data.load(batch.clip).audio, rtol=0, atol=0)
        assert batch.label[batch.replayed].tolist() == data.label[batch.clip][-2:].tolist()
        assert len(batch.label[batch.new]) == 5


def test_splits_lie_apart_from_the_features(tmp_path):
    tiny.make(tmp_path)
    whole = open_data("tiny", "audio", data_root=tmp_path)
    backwards = sorted(range(len(whole.ids)), key=lambda clip: -whole.label[clip])
    rows = [f"{whole.ids[clip]},{whole.classes[whole.label[clip]]},{SPLITS[whole.split[clip]]}\n" for clip in backwards]
    place = tmp_path / "orders" / "backwards.csv"
    place.parent.mkdir()
    place.write_text("video_id,label,split\n" + "".join(rows))
    other = open_data("tiny", "audio", data_root=tmp_path, splits=str(place))
    assert other.classes == whole.classes[::-1] and sorted(other.ids) == sorted(whole.ids)
    flags = ("--modality", "audio")
    first, again = (tiny.train(tmp_path, "lwf", *flags, *more)[1]["data"] for more in ((), ("--splits", str(place))))
    assert first["splits"] != again["splits"] and first["audio"] == again["audio"]
    args, method = parse(["--dataset", "AVE", "--splits", str(place)])
    assert run_path(resolve(args, 28), method).endswith("_splits-backwards")


def test_class_ids_may_be_text(tmp_path):
    folder = tiny.make(tmp_path)
    numbers = open_data("tiny", "audio", data_root=tmp_path)
    by_class = load_npy_dict(folder / "all_classId_vid_dict.npy")
    text = {split: {str(label): list(ids) for label, ids in part.items()} for split, part in by_class.items()}
    np.save(folder / "all_classId_vid_dict.npy", text)
    names = load_npy_dict(folder / "category_encode_dict.npy")
    np.save(folder / "category_encode_dict.npy", {name: str(label) for name, label in names.items()})
    text = open_data("tiny", "audio", data_root=tmp_path)
    assert (text.classes, text.ids, text.label.tolist()) == (numbers.classes, numbers.ids, numbers.label.tolist())


def test_features_may_lie_in_the_folder_of_the_data_set(tmp_path):
    folder = tiny.make(tmp_path)
    expected = open_data("tiny", data_root=tmp_path).feature_digests()
    for modality in ("audio", "visual"):
        source = folder / f"{modality}_pretrained_feature"
        (source / f"{modality}_pretrained_feature_dict.npy").rename(folder / f"{modality}_pretrained_feature_dict.npy")
        source.rmdir()
    assert open_data("tiny", data_root=tmp_path).feature_digests() == expected


@pytest.mark.parametrize("failures", [1, 5])
def test_storage_that_fails_for_a_while_is_asked_again(monkeypatch, failures):
    waited, left = [], [failures]
    monkeypatch.setattr("utils.files.time.sleep", waited.append)

    def read():
        if left[0]:
            left[0] -= 1
            raise OSError(errno.ESTALE, "Stale file handle")
        return "read"

    assert retried(read, "a") == "read"
    assert waited == list(WAITS[:failures])


@pytest.mark.parametrize(("code", "tries"), [(errno.EIO, 1 + len(WAITS)), (errno.EACCES, 1)])
def test_storage_that_goes_on_failing_is_named(monkeypatch, code, tries):
    monkeypatch.setattr("utils.files.time.sleep", lambda _: None)
    calls = []

    def read():
        calls.append(0)
        raise OSError(code, "no")

    with pytest.raises(OSError, match="no: 'a'"):
        retried(read, "a")
    assert len(calls) == tries
