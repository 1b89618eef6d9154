"""Released features and splits come from the hub whole, checked, and whatever breaks on the way."""

import io
import zipfile

import numpy as np
import pytest
from huggingface_hub import constants

import download
from features import archive
from features.store import open_features
from model.encoders.audiomae import HUB_FILE, HUB_NAME, hub_checkpoint
from splits.formats import read_splits
from splits.release import AVE_ANNOTATIONS, TRIPLE
from tests.helpers.hub import Hub
from tests.helpers.shared import shared
from utils.datasets import find_dataset
from utils.errors import InputError

AVE = find_dataset("AVE")
IDS = [f"{number:011d}" for number in range(sum(AVE.clips))]
PARTS = 3


def npy(value):
    file = io.BytesIO()
    np.save(file, np.array(value, object), allow_pickle=True)
    return file.getvalue()


@pytest.fixture(scope="module")
def release():
    """A made release of AVE's size in clips: the triple's bytes, and features by modality."""
    names = {f"class {label}": label for label in range(AVE.num_classes)}
    by_class, categories, first = {}, {}, 0
    for split, count in zip(("train", "val", "test"), AVE.clips, strict=True):
        part = IDS[first : first + count]
        by_class[split] = {label: part[label :: AVE.num_classes] for label in range(AVE.num_classes)}
        categories[split] = {clip: f"class {label}" for label, clips in by_class[split].items() for clip in clips}
        first += count
    raw = {f"AVE/{name}": npy(value) for name, value in zip(TRIPLE, (by_class, categories, names), strict=True)}
    rng = np.random.default_rng(0)
    audio = dict(zip(IDS, rng.standard_normal((len(IDS), 6)).astype(np.float32), strict=True))
    visual = dict(zip(IDS, rng.standard_normal((len(IDS), 16, 8)).astype(np.float32), strict=True))
    return raw, {"audio": audio, "visual": visual}


def packed(release, kind=zipfile.ZIP_DEFLATED, folder="some/where"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as made:
        made.writestr(f"{folder}/readme.txt", "hello")
        for modality, features in release[1].items():
            made.writestr(f"{folder}/{modality}_pretrained_feature_dict.npy", npy(features))
    return file.getvalue()


@pytest.fixture
def small(monkeypatch):
    """Blocks and saves as small as the made files, no waits, an empty environment of the hub's client."""
    monkeypatch.setattr(download, "BLOCK", 1 << 17)
    monkeypatch.setattr(archive, "CHUNK", 1 << 17)
    monkeypatch.setattr(archive, "SAVE_EVERY", 2)
    monkeypatch.setattr(archive, "WAITS", (0, 0, 0))
    monkeypatch.setattr("time.sleep", lambda _: None)


@pytest.fixture
def hub(release, small, monkeypatch):
    with Hub({download.HUB: {"AVE_features.zip": packed(release)}}, release[0]) as served:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield served


def run(hub, folder, *flags):
    download.main(["--dataset", "AVE", "--data_root", str(folder), "--splits_url", f"{hub.url}/raw", *flags])


def check(release, folder, dtype=np.float32):
    assert {split: len(clips) for split, clips in read_splits(str(folder / "AVE")).clips.items()} == dict(
        zip(("train", "val", "test"), AVE.clips, strict=True)
    )
    for modality, expected in release[1].items():
        features = open_features(str(folder / "AVE"), modality)
        assert set(features.all_ids()) == set(expected) and features.checked
        for clip in IDS[::400]:
            np.testing.assert_array_equal(features[clip], expected[clip].astype(dtype))


def files_of(folder):
    return {path.name for path in (folder / "AVE").rglob("*") if path.is_file()}


def test_from_nothing_to_the_store(hub, release, tmp_path, capsys):
    run(hub, tmp_path)
    check(release, tmp_path)
    said = capsys.readouterr().out
    assert "some/where/visual_pretrained_feature_dict.npy in AVE_features.zip" in said and "GB are free" in said
    assert "3294 / 391 / 394 clips" in said and "sh run_incremental_ours.sh 'AVE'" in said
    left = {name for name in files_of(tmp_path) if not name.endswith((".lock", "_store.json"))}
    assert {name.partition("-")[0] for name in left} == {*TRIPLE, "audio_store", "visual_store", "visual_means"}
    total = len(hub.files[download.HUB]["AVE_features.zip"])
    assert hub.sent["AVE_features.zip"] <= 1.1 * total + 3 * download.BLOCK
    sent = dict(hub.sent)
    run(hub, tmp_path)
    assert hub.sent == sent and "already" in capsys.readouterr().out


def test_a_part_of_the_features_in_half_precision_beside_the_original(hub, release, tmp_path):
    run(hub, tmp_path, "--modality", "audio", "--dtype", "float16", "--keep_original")
    features = open_features(str(tmp_path / "AVE"), "audio")
    np.testing.assert_array_equal(features[IDS[7]], release[1]["audio"][IDS[7]].astype(np.float16))
    assert "audio_pretrained_feature_dict.npy" in files_of(tmp_path)
    assert not [name for name in files_of(tmp_path) if "visual" in name or "fetching" in name]
    assert hub.sent["AVE_features.zip"] < 0.4 * len(hub.files[download.HUB]["AVE_features.zip"])


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_parts_are_joined_and_ten_breaks_cost_little(hub, release, tmp_path, kind, capsys):
    whole = packed(release, kind)
    size = len(whole) // PARTS + 1
    parts = {f"AVE_features.zip.a{'abc'[n]}": whole[n * size : (n + 1) * size] for n in range(PARTS)}
    hub.files[download.HUB] = parts
    # Breaks that are tried again, and such that end the command: each is run until it is through.
    rng = np.random.default_rng(5)
    hub.break_after = [int(rng.integers(1, 1 << 17)) for _ in range(40)]
    for _ in range(12):
        try:
            run(hub, tmp_path)
            break
        except SystemExit as ended:
            assert ended.code == 2
    check(release, tmp_path)
    assert not hub.break_after
    errors = capsys.readouterr().err.splitlines()
    assert errors and all("the same command goes on from here" in line for line in errors)
    saved = archive.CHUNK * archive.SAVE_EVERY
    sent = sum(hub.sent[name] for name in parts)
    assert sent < len(whole) + 40 * download.BLOCK / 2 + (len(errors) + 1) * (saved + 4 * download.BLOCK)


def test_a_killed_fetch_goes_on(hub, release, tmp_path, monkeypatch):
    """The state on disk at any moment, and not only that after an orderly end, is one to go on from."""
    moments = []

    class Killed(BaseException):
        pass

    def stop(self, count):
        moments.append(count)
        if len(moments) % 5 == 4:
            raise Killed

    monkeypatch.setattr(download.Progress, "add", stop)
    for _ in range(20):
        try:
            run(hub, tmp_path)
            break
        except Killed:
            left = tmp_path / "AVE" / "visual_pretrained_feature" / "visual_pretrained_feature_dict.npy.partial"
            if left.exists():  # what a power cut may leave behind the last save
                with open(left, "ab") as file:
                    file.write(b"rubbish")
    check(release, tmp_path)
    assert len(moments) > 12


def test_a_new_version_is_not_mixed_with_the_old(hub, release, tmp_path, monkeypatch):
    def interrupt(self, count):
        self.done += count
        if self.done > 900_000:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(download.Progress, "add", interrupt)
        run(hub, tmp_path)
    assert ended.value.code == 130
    new = (
        release[0],
        {modality: {clip: -array for clip, array in part.items()} for modality, part in release[1].items()},
    )
    hub.files[download.HUB] = {"AVE_features.zip": packed(new)}
    run(hub, tmp_path, "--modality", "visual")
    features = open_features(str(tmp_path / "AVE"), "visual")
    np.testing.assert_array_equal(features[IDS[3]], new[1]["visual"][IDS[3]])


@pytest.mark.parametrize("where", [0.3, 0.6])
def test_damaged_members_are_refused_and_fetched_again(hub, release, tmp_path, capsys, where):
    whole = hub.files[download.HUB]["AVE_features.zip"]
    bad = bytearray(whole)
    bad[int(where * len(whole))] ^= 0x10
    hub.files[download.HUB] = {"AVE_features.zip": bytes(bad)}
    with pytest.raises(SystemExit):
        run(hub, tmp_path)
    assert "came damaged" in capsys.readouterr().err
    assert not [name for name in files_of(tmp_path) if "visual" in name and "fetching" not in name]
    hub.files[download.HUB] = {"AVE_features.zip": whole}
    run(hub, tmp_path)
    check(release, tmp_path)


def refused(hub, tmp_path, capsys, *flags):
    with pytest.raises(SystemExit) as ended:
        run(hub, tmp_path, *flags)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ") and "Traceback" not in error
    return error


def test_sizes_that_are_not_what_the_hub_says(hub, tmp_path, capsys):
    hub.claim["AVE_features.zip"] = len(hub.files[download.HUB]["AVE_features.zip"]) + 1000
    assert "early" in refused(hub, tmp_path, capsys)
    hub.claim["AVE_features.zip"] = 300_000
    assert "no whole zip archive" in refused(hub, tmp_path, capsys)


def test_what_the_hub_does_not_have(hub, tmp_path, capsys):
    hub.files[download.HUB] = {"other.zip": b"x", "KS_features.zip.aa": b"y"}
    assert "has no AVE_features.zip; it has KS_features.zip.aa, other.zip" in refused(hub, tmp_path, capsys)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("AVE/audio.txt", "no features")
    hub.files[download.HUB] = {"AVE_features.zip": file.getvalue()}
    assert "it has AVE/audio.txt" in refused(hub, tmp_path, capsys)
    del hub.files[download.HUB]
    assert "cannot be read" in refused(hub, tmp_path, capsys)


def test_too_small_a_disk_is_said_beforehand_and_a_full_one_loses_nothing(hub, release, tmp_path, monkeypatch, capsys):
    usage = download.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    error = refused(hub, tmp_path, capsys)
    assert "0.0 GB are free" in error and "--dtype float16" in error and "--data_root" in error
    assert hub.sent.get("AVE_features.zip", 0) < 4 * download.BLOCK
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)

    def full(self, count):
        self.done += count
        if self.done > 900_000:
            raise OSError(28, "No space left on device", "the file")

    with monkeypatch.context() as patch:
        patch.setattr(download.Progress, "add", full)
        assert "No space left on device" in refused(hub, tmp_path, capsys)
    hub.sent.clear()
    run(hub, tmp_path)
    check(release, tmp_path)
    assert hub.sent["AVE_features.zip"] < 0.8 * len(hub.files[download.HUB]["AVE_features.zip"])


def test_splits_that_are_not_the_published_ones(hub, release, tmp_path, capsys):
    hub.raw["AVE/category_encode_dict.npy"] = npy({"only": 0})
    assert f"{hub.url}/raw/AVE" in refused(hub, tmp_path, capsys)
    hub.raw = {name: content for name, content in release[0].items() if "vid" not in name}
    assert AVE_ANNOTATIONS in refused(hub, tmp_path, capsys)
    hub.raw = dict(release[0])
    hub.raw["AVE/all_classId_vid_dict.npy"] = b"<html>not found</html>"
    assert "all_classId_vid_dict.npy" in refused(hub, tmp_path, capsys)
    assert not [name for name in files_of(tmp_path) if name.endswith(".npy")]


def test_splits_of_the_user_stay(hub, tmp_path, capsys):
    (tmp_path / "AVE").mkdir()
    table = "video_id,label,split\n" + "".join(
        f"{clip},a,{split}\n" for clip, split in zip(IDS, ("train", "val", "test"), strict=False)
    )
    (tmp_path / "AVE" / "splits.csv").write_text(table)
    run(hub, tmp_path, "--modality", "audio")
    assert "already" in capsys.readouterr().out
    assert (tmp_path / "AVE" / "splits.csv").read_text() == table and "all_classId_vid_dict.npy" not in files_of(
        tmp_path
    )


def test_files_of_the_user_stay_and_become_the_store(hub, release, tmp_path):
    folder = tmp_path / "AVE" / "audio_pretrained_feature"
    folder.mkdir(parents=True)
    (folder / "audio_pretrained_feature_dict.npy").write_bytes(npy(release[1]["audio"]))
    run(hub, tmp_path, "--modality", "audio")
    assert open_features(str(tmp_path / "AVE"), "audio").checked
    assert (folder / "audio_pretrained_feature_dict.npy").exists() and "AVE_features.zip" not in hub.sent


def test_other_data_sets_are_told_where_features_come_from(hub, tmp_path, capsys):
    with pytest.raises(SystemExit):
        download.main(["--dataset", "pets", "--data_root", str(tmp_path)])
    assert "sh extract_audios_frames.sh 'pets'" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_aves_splits_come_from_its_annotations_where_the_release_is_gone(hub, tmp_path, monkeypatch, capsys):
    annotations = shared("data", "annotations", "AVE")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    names = ("trainSet.txt", "valSet.txt", "testSet.txt", "Annotations.txt")
    hub.files[AVE_ANNOTATIONS] = {f"data/{name}": (annotations / name).read_bytes() for name in names}
    hub.raw = {}
    run(hub, tmp_path, "--modality", "audio")
    assert AVE_ANNOTATIONS in capsys.readouterr().out
    ours = read_splits(str(tmp_path / "AVE"))
    assert ours.clips == read_splits(str(shared("data", "splits", "AVE"))).clips


def test_audiomaes_weights_come_from_the_hub_once(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    hub.files[HUB_NAME] = {HUB_FILE: b"weights"}
    for _ in range(2):
        with open(hub_checkpoint(), "rb") as file:
            assert file.read() == b"weights"
    assert hub.sent[HUB_FILE] == len(b"weights") and "not for commercial use" in capsys.readouterr().out
    del hub.files[HUB_NAME]
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "other"))
    with pytest.raises(InputError, match="pass the file as --audio_checkpoint"):
        hub_checkpoint()
