"""The feature store: what goes in comes out, in bounded memory, whole or not at all."""

import json
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch

from dataloader import open_data
from features import checks
from features.checks import token_mean
from features.convert import main
from features.store import StoreFeatures, index_path, open_features
from tests.helpers import tiny
from tests.helpers.shared import REPO
from tests.helpers.tiny import change, features, refused


def convert(root, *flags):
    main(["--dataset", "tiny", "--data_root", str(root), *flags])


def store(root, sense):
    return StoreFeatures(index_path(root / "tiny", sense))


@pytest.fixture
def data(tmp_path):
    tiny.make(tmp_path)
    return tmp_path


def test_a_run_on_the_store_is_the_run_on_its_source(data, capsys):
    found = []
    for _ in range(2):
        for modality in ("audio", "visual", "audio-visual"):
            tiny.train(data, "icarl", "--modality", modality)
            found.append([(data / "run" / name).read_text() for name in ("steps.jsonl", "epochs.csv")])
        convert(data)
    assert found[:3] == found[3:]
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 8 and all("its store takes 0.00 GB" in line for line in printed[::2])
    assert all(line.startswith("Wrote ") and "96 clips" in line for line in printed[1::2])
    # The originals are no longer needed.
    for sense in ("audio", "visual"):
        features(data, sense).unlink()
    assert isinstance(open_data("tiny", data_root=data).features["visual"], StoreFeatures)


def test_values_shapes_and_means(data):
    convert(data)
    there = store(data, "visual")
    assert there.checked and there.describe("-val_2_1") == ((16, 12), np.float32)
    from features.npy_dict import load_npy_dict

    for video, array in load_npy_dict(features(data, "visual")).items():
        np.testing.assert_array_equal(there[video], array)
        np.testing.assert_allclose(there.means[there.rows([video])[0]], array.mean(0), rtol=1e-5, atol=1e-6)


def test_half_precision(data):
    convert(data, "--dtype", "float16")
    assert store(data, "visual").array.dtype == np.float16
    loaded = open_data("tiny", data_root=data)
    assert loaded.load(np.arange(3)).visual.tensor().dtype == torch.float16
    tiny.train(data, "avcil")


def test_a_store_whose_source_changed_is_not_used(data, capsys):
    convert(data, "--modality", "visual")
    change(data, "visual", lambda arrays: arrays["-val_2_1"].__setitem__(0, 7))
    capsys.readouterr()
    used = open_features(data / "tiny", "visual")
    assert not isinstance(used, StoreFeatures) and used["-val_2_1"][0, 0] == 7
    assert "made from another visual_pretrained_feature_dict.npy" in capsys.readouterr().out
    convert(data, "--modality", "visual")
    assert open_features(data / "tiny", "visual")["-val_2_1"][0, 0] == 7
    # The array of the old store is gone.
    assert len(list(features(data, "visual").parent.glob("visual_store-*.npy"))) == 1


def test_bad_values(data, capsys):
    change(data, "visual", lambda arrays: arrays["-val_2_1"].__setitem__((3, 4), np.nan))
    flags = ["--dataset", "tiny", "--data_root", str(data)]
    assert "'-val_2_1'" not in refused(data, *flags, main=main)
    assert not list(features(data, "visual").parent.glob("*store*.npy"))
    assert not list(features(data, "visual").parent.glob("*.json"))
    capsys.readouterr()
    convert(data, "--skip_bad")
    assert "95 clips" in capsys.readouterr().out and "-val_2_1" not in store(data, "visual")
    assert "--allow_missing" in refused(data)
    tiny.train(data, "fine_tuning", "--allow_missing")


def test_too_large_for_half_precision(data):
    change(data, "audio", lambda arrays: arrays["-val_2_1"].__setitem__(3, 1e6))
    flags = ["--dataset", "tiny", "--data_root", str(data), "--dtype", "float16"]
    assert "not finite in float16: -val_2_1" in refused(data, *flags, main=main)


DAMAGE = {
    "no json": lambda index, _: index.write_text("{"),
    "other json": lambda index, _: index.write_text('{"array": 3}'),
    "ids": lambda index, _: index.write_text(json.dumps(json.loads(index.read_text()) | {"ids": ["a"]})),
    "twice": lambda index, _: index.write_text(json.dumps(json.loads(index.read_text()) | {"ids": ["a"] * 96})),
    "missing": lambda _, array: array.unlink(),
    "truncated": lambda _, array: array.write_bytes(array.read_bytes()[:-9]),
    "header": lambda _, array: array.write_bytes(b"\x93NUMPY\x01\x00\xff\xff" + array.read_bytes()[10:]),
    "pickle": lambda _, array: np.save(array, np.array([{}] * 96), allow_pickle=True),
}


@pytest.mark.parametrize("text", ["{}", "[]", "3", "[" * 100_000, '{"array": [], "means": {}}'])
def test_a_damaged_index_is_converted_over(data, text):
    convert(data)
    index = data / "tiny" / "visual_pretrained_feature" / "visual_store.json"
    index.write_text(text)
    assert "features/convert.py" in refused(data)
    convert(data)
    assert len(list(index.parent.glob("visual_store-*.npy"))) == 1 and "-val_2_1" in store(data, "visual")


@pytest.mark.parametrize("name", [b"\xff", b"a\tb", b"\x1b[31m"])
def test_ids_that_cannot_be_written_are_refused(data, name):
    path = features(data, "visual").parent / "visual_features.h5"
    with h5py.File(path, "w") as file:
        file[name] = np.ones((8, 4), np.float32)
        file.attrs[name] = name
    flags = ["--dataset", "tiny", "--data_root", str(data), "--modality", "visual"]
    assert "cannot be a video id" in refused(data, *flags, main=main)


def bomb(data, clips, shape):
    """An HDF5 file of a few KB whose clips have ``shape`` each: none of its chunks was written."""
    path = features(data, "visual").parent / "visual_features.h5"
    path.unlink(missing_ok=True)  # a reader of ours may have the former one open
    with h5py.File(path, "w") as file:
        for clip in range(clips):
            file.create_dataset(str(clip), shape, "f4", chunks=(1, 1024), fillvalue=1.0)
    return path


def test_a_store_is_not_written_where_it_does_not_fit_or_cannot_be_meant(data, monkeypatch, capsys):
    path = bomb(data, 500, (2**10, 2**10))
    flags = ["--dataset", "tiny", "--data_root", str(data), "--modality", "visual"]
    line = refused(data, *flags, main=main)
    assert "would become 2.10 GB of features; pass --yes_expand" in line and "visual_features.h5" in line
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2 * 10**9))
    assert "the store takes 2.10 GB and 2.00 GB are free" in refused(data, *flags, "--yes_expand", main=main)
    bomb(data, 1, (2**10, 2**19))
    assert "'0' would take 2.15 GB of memory" in refused(data, *flags, "--yes_expand", main=main)
    assert sorted(entry.name for entry in path.parent.iterdir() if "store-" in entry.name) == []
    monkeypatch.setattr(checks, "LARGE", 2**10)
    bomb(data, 1, (2**10, 2**10))
    assert "--yes_expand" in refused(data, *flags, main=main)
    capsys.readouterr()
    main([*flags, "--yes_expand"])
    assert "its store takes 0.00 GB" in capsys.readouterr().out


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_stores(data, damage):
    convert(data)
    index = data / "tiny" / "visual_pretrained_feature" / "visual_store.json"
    DAMAGE[damage](index, next(index.parent.glob("visual_store-*.npy")))
    line = refused(data)
    assert "visual_store" in line and "features/convert.py" in line


def test_a_killed_conversion_leaves_the_old_store_or_none(data):
    command = [sys.executable, REPO / "features" / "convert.py", "--dataset", "tiny", "--data_root", data]
    for delay in (0.0, 0.05, 0.1):
        process = subprocess.Popen([*command, "--modality", "visual"], stdout=subprocess.DEVNULL)
        folder = features(data, "visual").parent
        while process.poll() is None and not list(folder.glob("visual_store.unfinished.json")):
            time.sleep(0.002)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        open_data("tiny", data_root=data)
    convert(data)
    left = {path.name for path in folder.iterdir()}
    assert len(left) == 5, left  # source, index, lock, array, means


# One process that imports everything and then does each command in a child: only the commands count.
MEASURE = """
import json, os, sys
import train_incremental
from features import convert as convert_features
from tests.helpers.shared import forget_peak, peak_resident
commands = {"train": train_incremental.main, "convert": convert_features.main}
for name, *flags in json.loads(sys.argv[1]):
    if os.fork() == 0:
        forget_peak()
        before = peak_resident()
        commands[name](flags)
        print("grew by", (peak_resident() - before) / 2**20, flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
"""


def commands_on(root, positions):
    """Training, conversion and training again on data of so many positions."""
    tiny.make(root, {"train": 24, "val": 3, "test": 3}, positions=positions, dim=256)
    batches = ["--train_batch_size", "12", "--exemplar_batch_size", "6", "--infer_batch_size", "12"]
    train = ["train", *tiny.flags(root, "avcil", "--device_cache", "0", "--max_epochs", "1", *batches), "--run_dir"]
    convert = ["convert", "--dataset", "tiny", "--data_root", str(root)]
    return [[*train, str(root / "unconverted")], convert, [*train, str(root / "converted")]]


def test_memory_is_bounded(tmp_path):
    # What a hundredth of the data needs is what libraries take.
    commands = [*commands_on(tmp_path / "small", 2), *commands_on(tmp_path / "large", 96)]
    command = [sys.executable, "-c", MEASURE, json.dumps(commands)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    grew = np.array([float(line.split()[-1]) for line in done.stdout.splitlines() if line.startswith("grew")])
    more = grew[3:] - grew[:3]  # MB
    assert features(tmp_path / "large", "visual").stat().st_size > 130 * 2**20
    assert (more < (65, 15, 65)).all(), more


@pytest.mark.parametrize(("frames", "positions"), [(8, 4), (8, 196), (5, 7), (16, 49), (1, 1)])
def test_mean_tokens_are_torchs_to_the_bit(frames, positions):
    tokens = torch.randn(frames, positions, 768, generator=torch.Generator().manual_seed(0))
    expected = tokens[None].mean(1).mean(1)[0].numpy()
    assert np.array_equal(token_mean(tokens.numpy()), expected)
    assert np.array_equal(token_mean(tokens.flatten(0, 1).numpy(), frames), expected)


@pytest.mark.parametrize("limit", [0, 100, 1000, 5000])
def test_a_file_that_may_not_be_so_large_is_named(data, limit):
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)\n"
    code += "from features.convert import main; main(sys.argv[2:])"
    command = [sys.executable, "-c", code, str(limit), "--dataset", "tiny", "--data_root", str(data)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: File too large: {data}/tiny/") and "(ulimit -f)" in done.stderr
