#!/usr/bin/env python3
"""Feed every reader of files with damaged and hostile ones: each ends well or with the one error its users are told.

    python -m tests.helpers.mutations --count 3000

Bytes are changed, cut out, doubled, moved or replaced by forged lengths; tests.helpers.hostile makes files that no
damage would: forged pickles, HDF5 of every storage, deep JSON, odd names, clips in disguise, a limit of open files. A
reader may accept what it still understands, and must otherwise raise InputError (of clips: MediaError; of commands:
exit code 1 or 2 and one line). Anything else counts as a failure: another error, 30 seconds of CPU, 1 GB of memory
beyond the file's size, or a change to anything in the sandbox that is not for the command to write. Each reader works
in a forked child, since a crash of a library is a failure too.
"""

import argparse
import hashlib
import io
import os
import random
import re
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
from extraction.ffmpeg import extract_frames, extract_wav
from features.convert import main as convert
from features.npy_dict import load_npy_dict
from features.store import read_plan
from features.store_writer import StoreWriter
from model.encoders.fbank import read_wav
from model.encoders.frames import read_frames
from model.encoders.weights import read_state
from reporting.runs import find_runs
from splits.formats import read_splits
from tests.helpers import report_runs, tiny
from tests.helpers.make_videos import make_video
from tests.helpers.shared import forget_peak, peak_resident
from utils.errors import InputError, MediaError

SECONDS = 30  # of CPU for one file; ten times as much of waiting, since machines are shared
BYTES = 2**30  # more than before, and than the file is long
ENDINGS = {0: "read", 1: "refused", 2: "error", 3: "took too much memory", 4: "said more than a line"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--count", type=int, default=3000, help="files in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", help="readers of these names, or hostile")
    args = parser.parse_args()
    from tests.helpers import hostile

    failures = 0
    for name in [name for name in READERS if not args.only or name in args.only]:
        failures += mutate(name, args.count // len(READERS) + 1, args.seed)
    if not args.only or "hostile" in args.only:
        failures += sum(hostile.attack(name) for name in hostile.ATTACKS)
    sys.exit(1 if failures else 0)


def mutate(name, count, seed):
    """Run reader ``name`` on ``count`` mutations; print what came of them and return the number of failures."""
    make, read = READERS[name]
    with tempfile.TemporaryDirectory() as sandbox:
        folder = Path(sandbox)
        path = make(folder)
        whole, endings = path.read_bytes(), {}
        assert in_child(lambda: read(path)) == "read", name
        before = listing(folder, path)
        for number in range(count):
            path.write_bytes(spoil(whole, random.Random(f"{seed} {name} {number}")))
            end = in_child(lambda: read(path), path.stat().st_size)
            if listing(folder, path) != before:
                end, before = "changed other files", listing(folder, path)
            endings[end] = endings.get(end, 0) + 1
            if end not in ("read", "refused"):
                print(f"{name}: mutation {number}: {end}", flush=True)
    failures = count - endings.get("read", 0) - endings.get("refused", 0)
    line = f"{name:24}{endings.get('read', 0):6} read{endings.get('refused', 0):6} refused{failures:4} failures"
    print(line, flush=True)
    return failures


def listing(folder, *changing):
    """Path -> kind and content of everything under ``folder`` but the files ``changing``."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path not in changing:
            status = path.lstat()
            kind = oct(status.st_mode)
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else ""
            found[str(path)] = (kind, content)
    return found


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


def in_child(read, size=0):
    """How ``read()`` ends in a child process: read, refused, or a word for what must not happen."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            code = _outcome(read, size)
        finally:
            # The child of a test must not go on with the tests, whatever happens.
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    late = code in (-signal.SIGALRM, -signal.SIGPROF)
    return ENDINGS.get(code, f"took over {SECONDS} s" if late else f"killed by signal {-code}")


def _outcome(read, size):
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(10 * SECONDS)
    forget_peak()
    before = peak_resident()
    sys.stdout, errors = io.StringIO(), io.StringIO()
    stderr, sys.stderr = sys.stderr, errors
    try:
        read()
        code = 0
    except (InputError, MediaError) as error:
        # An OSError names what is wrong with the machine and not with the file: no harness makes such.
        code = 1 if len(" ".join(str(error).splitlines())) < 2000 else 4
    except SystemExit as ended:
        # The command's own line may follow the bars and lines of its work.
        lines = [line for line in re.split(r"[\r\n]", errors.getvalue()) if line.startswith("error: ")]
        code = 1 if ended.code in (1, 2) and len(lines) == 1 and "Traceback" not in errors.getvalue() else 4
    except BaseException:
        traceback.print_exc(file=stderr)
        return 2
    return 3 if peak_resident() - before > BYTES + size else code


def data_set(folder):
    return tiny.make(folder, {"train": 2, "val": 1, "test": 1}, classes=2)


def dictionary(folder):
    return data_set(folder) / "audio_pretrained_feature" / "audio_pretrained_feature_dict.npy"


def hdf5(folder):
    path = dictionary(folder)
    with h5py.File(path.parent / "audio_features.h5", "w") as file:
        for video, array in load_npy_dict(path).items():
            file[video] = array
        file.attrs.update({"encoder": "logmel", "sample_rate": 11430, "note": np.bytes_(b"x")})
    return path.parent / "audio_features.h5"


def store(folder, pattern):
    path = dictionary(folder)
    convert(["--dataset", "tiny", "--data_root", str(folder), "--modality", "audio"])
    return next(path.parent.glob(pattern))


def plan(folder):
    path = dictionary(folder)
    writer = StoreWriter(str(folder / "tiny"), "audio", (12,), "float32", {"encoder": "logmel"}, "the same command")
    writer.plan(load_npy_dict(path))
    writer.begin()
    return path.parent / "audio_store.unfinished.json"


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
        extract_wav(str(path), os.path.join(folder, "sound.wav"), timeout=20)
        extract_frames(str(path), os.path.join(folder, "frames"), 4, timeout=20)


def clip(folder):
    return make_video(folder / "a.mp4", seconds=0.3, size="32x24")


def splits(path):
    read_splits(path.parent)


def training_data(path):
    open_data("tiny", "audio", data_root=path.parents[2])


READERS = {
    "features .npy": (dictionary, training_data),
    "features .h5": (hdf5, training_data),
    "store index": (lambda folder: store(folder, "*_store.json"), training_data),
    "store array": (lambda folder: store(folder, "*_store-*.npy"), training_data),
    "store plan": (plan, lambda path: read_plan(str(path))),
    "splits triple": (lambda folder: data_set(folder) / "all_classId_vid_dict.npy", splits),
    "splits names": (lambda folder: data_set(folder) / "category_encode_dict.npy", splits),
    "splits.csv": (table, splits),
    "classes.txt": (lambda folder: table(folder).parent / "classes.txt", splits),
    "run checkpoint": (checkpoint, load),
    "encoder checkpoint": (weights, lambda path: read_state(str(path))),
    "results.json": (results, lambda path: find_runs([path.parent])),
    "wav": (wav, lambda path: read_wav(str(path))),
    "frame": (frame, lambda path: read_frames(path.parent, 2, 16)),
    "clip": (clip, decode),
}


if __name__ == "__main__":
    main()
