#!/usr/bin/env python3
"""Feed every reader of files with damaged ones: each ends well or with the one error that its users are told.

    python -m tests.helpers.mutations --count 2000

Bytes are changed, cut out, doubled, moved or replaced by forged lengths. A reader may accept what it still understands,
and must otherwise raise InputError (of clips: MediaError); anything else, a hang, a large allocation or a file that
appears counts as a failure. Each reader works in a forked child, since a crash of a library is a failure too.
"""

import argparse
import io
import os
import random
import signal
import sys
import tempfile
import traceback
from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image

from dataloader import open_data
from engine.checkpoints import load
from extraction.ffmpeg import extract_wav
from features.convert import main as convert
from features.npy_dict import load_npy_dict
from model.encoders.fbank import read_wav
from model.encoders.frames import read_frames
from model.encoders.weights import read_state
from reporting.runs import find_runs
from splits.formats import read_splits
from tests.helpers import report_runs, tiny
from tests.helpers.shared import forget_peak, peak_resident
from utils.errors import InputError, MediaError

SECONDS = 20  # for one file
MEGABYTES = 400  # more than before
FORGED = (b"\xff" * 8, b"\x00" * 8, (2**62).to_bytes(8, "little"), (2**31 - 1).to_bytes(4, "little"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--count", type=int, default=2000, help="files in all")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    failures = sum(mutate(name, args.count // len(READERS) + 1, args.seed) for name in READERS)
    sys.exit(1 if failures else 0)


def mutate(name, count, seed):
    """Run reader ``name`` on ``count`` mutations; print what came of them and return the number of failures."""
    make, read = READERS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = make(Path(folder))
        whole, found = path.read_bytes(), {}
        listing = sorted(map(str, Path(folder).rglob("*")))
        assert in_child(lambda: read(path)) == "read", name
        for number in range(count):
            path.write_bytes(spoil(whole, random.Random(f"{seed} {name} {number}")))
            end = in_child(lambda: read(path))
            if sorted(map(str, Path(folder).rglob("*"))) != listing:
                end = "left files behind"
            found[end] = found.get(end, 0) + 1
            if end not in ("read", "refused"):
                print(f"{name}: mutation {number}: {end}", flush=True)
    failures = count - found.get("read", 0) - found.get("refused", 0)
    print(f"{name:24}{found.get('read', 0):6} read{found.get('refused', 0):6} refused{failures:4} failures", flush=True)
    return failures


def spoil(content, chance):
    """``content`` with one to three changes."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        place = chance.choice([chance.randrange(len(data) + 1), chance.randrange(min(len(data), 400) + 1)])
        kind = chance.randrange(6)
        if kind == 0 and place < len(data):
            data[place] = chance.randrange(256)
        elif kind == 1:
            del data[place:]
        elif kind == 2:
            del data[place : place + chance.randrange(1, 64)]
        elif kind == 3:
            data[place:place] = chance.randbytes(chance.randrange(1, 64))
        elif kind == 4:
            data[place : place + 8] = chance.choice(
                [b"\xff" * 8, b"\x00" * 8, (2**62).to_bytes(8, "little"), b"\x7f" * 4]
            )
        else:
            other = chance.randrange(len(data) + 1)
            data[place:place] = data[other : other + chance.randrange(1, 256)]
    return bytes(data)


def in_child(read):
    """How ``read()`` ends in a child process: read, refused, or a word for what must not happen."""
    child = os.fork()
    if child == 0:
        os._exit(_outcome(read))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {0: "read", 1: "refused", 2: "error", 3: "took too much memory"}.get(code, f"killed by signal {-code}")


def _outcome(read):
    signal.alarm(SECONDS)
    forget_peak()
    before = peak_resident()
    sys.stdout = io.StringIO()
    try:
        read()
        code = 0
    except (InputError, MediaError):
        code = 1
    except BaseException:
        traceback.print_exc()
        return 2
    grown = (peak_resident() - before) / 2**20
    return 3 if grown > MEGABYTES else code


def data_set(folder):
    return tiny.make(folder, {"train": 2, "val": 1, "test": 1}, classes=2)


def dictionary(folder):
    return data_set(folder) / "audio_pretrained_feature" / "audio_pretrained_feature_dict.npy"


def hdf5(folder):
    path = dictionary(folder)
    with h5py.File(path.parent / "audio_features.h5", "w") as file:
        for video, array in load_npy_dict(path).items():
            file[video] = array
    return path.parent / "audio_features.h5"


def store(folder, pattern):
    path = dictionary(folder)
    convert(["--dataset", "tiny", "--data_root", str(folder), "--modality", "audio"])
    return next(path.parent.glob(pattern))


def triple(folder, name):
    return data_set(folder) / f"{name}.npy"


def table(folder):
    rows = [f"{split} {label},class {label},{split}" for split in ("train", "val", "test") for label in range(3)]
    (folder / "splits.csv").write_text("\n".join(["video_id,label,split", *rows]) + "\n")
    (folder / "classes.txt").write_text("class 0\nclass 1\nclass 2\n")
    return folder / "splits.csv"


def checkpoint(folder):
    torch.save({"step": 0, "learner": {"network": {"weight": torch.ones(40, 40)}}, "history": [1.0]}, folder / "c.pt")
    return folder / "c.pt"


def weights(folder):
    torch.save({"model": {"weight": torch.ones(40, 40)}}, folder / "c.pt")
    return folder / "c.pt"


def results(folder):
    report_runs.make(folder / "run")
    return folder / "run" / "results.json"


def wav(folder):
    import wave

    with wave.open(str(folder / "a.wav"), "wb") as sound:
        sound.setparams((2, 2, 8000, 0, "NONE", ""))
        sound.writeframes(np.random.default_rng(0).integers(-999, 999, 4000, np.int16).tobytes())
    return folder / "a.wav"


def frame(folder):
    (folder / "frames").mkdir()
    picture = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    Image.fromarray(picture).save(folder / "frames" / "000001.jpg")
    return folder / "frames" / "000001.jpg"


def decode(path):
    with tempfile.TemporaryDirectory() as folder:
        extract_wav(str(path), os.path.join(folder, "sound.wav"), timeout=10)


def splits(path):
    read_splits(path.parent)


def training_data(path):
    open_data("tiny", "audio", data_root=path.parents[2])


READERS = {
    "features .npy": (dictionary, training_data),
    "features .h5": (hdf5, training_data),
    "store index": (lambda folder: store(folder, "*_store.json"), training_data),
    "store array": (lambda folder: store(folder, "*_store-*.npy"), training_data),
    "splits triple": (
        lambda folder: data_set(folder) / "all_classId_vid_dict.npy",
        lambda path: read_splits(path.parent),
    ),
    "splits names": (
        lambda folder: data_set(folder) / "category_encode_dict.npy",
        lambda path: read_splits(path.parent),
    ),
    "splits.csv": (table, splits),
    "classes.txt": (lambda folder: table(folder).parent / "classes.txt", splits),
    "run checkpoint": (checkpoint, load),
    "encoder checkpoint": (weights, lambda path: read_state(str(path))),
    "results.json": (results, lambda path: find_runs([path.parent])),
    "wav": (wav, lambda path: read_wav(str(path))),
    "frame": (frame, lambda path: read_frames(path.parent, 2, 16)),
    "clip": (wav, decode),
}


if __name__ == "__main__":
    main()
