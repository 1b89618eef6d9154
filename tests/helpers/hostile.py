"""Files that no damage makes, only malice or another program: forged pickles, HDF5 of every storage, odd names.

``ATTACKS``: name -> function that puts hostile files into a folder and yields (what, read, bytes of the file). Whatever
a command writes goes to ``folder/out``; all else must be afterwards what it was.
"""

import io
import json
import os
import pickle
import random
import resource
import shutil
import tempfile
from pathlib import Path

import h5py
import numpy as np

import extract_audios_frames
import extract_pretrained_features
import train_incremental
from features.convert import main as convert
from features.npy_dict import load_npy_dict, map_npy_dict
from features.sources import HDF5Features
from splits.formats import read_splits
from tests.helpers import mutations, tiny
from tests.helpers.make_videos import make_video
from utils.files import read_json


def attack(name):
    """Make the attack ``name``; print what came of it and return the number of failures."""
    with tempfile.TemporaryDirectory() as sandbox:
        folder, count, failures = Path(sandbox), 0, 0
        (folder / "precious").mkdir()
        (folder / "precious" / "file").write_text("root:x:0:0:root:/root:/bin/bash\n")
        (folder / "precious" / ".git").mkdir()
        for what, read, size in ATTACKS[name](folder):
            before = _outside(folder)
            end = mutations.in_child(read, size)
            if _outside(folder) != before:
                end = "changed other files"
            count += 1
            if end not in ("read", "refused"):
                failures += 1
                print(f"{name}: {what}: {end}", flush=True)
    print(f"{name:24}{count:6} tried{failures:20} failures", flush=True)
    return failures


def _outside(folder):
    return {path: kind for path, kind in mutations.listing(folder).items() if not path.startswith(f"{folder}/out")}


def forge(path, body):
    """Write a .npy file whose pickle is ``body``, instructions of protocol 4 that leave one value."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    path.write_bytes(header.getvalue() + b"\x80\x04" + body + b".")


def shared_tuples(depth):
    """A tuple that holds the same tuple twice, and so on: to hash it takes 2 ** depth steps."""
    return b")" + b"\x85\x94h\x00\x86" + b"".join(b"\x94h%c\x86" % number for number in range(1, depth))


def shared_lists(depth):
    return b"]\x94" + b"".join(b"]\x94(h%ch%ce" % (number, number) for number in range(depth))


BLOCK = b"X" + (2000).to_bytes(4, "little") + b"a" * 2000 + b"\x94"
ENCODE = b"c_codecs\nencode\n\x94\x8c\x06latin1\x94"


def forged(size):
    """What -> pickle of a dictionary that is none; ``size``: how many values those have that are forged by number."""
    return {
        "a key that hashes for ever": b"}" + shared_tuples(100) + b"K\x01s",
        "a value that prints for ever": b"}\x8c\x01a" + shared_lists(100) + b"s",
        "a value that holds itself": b"}\x8c\x01a]\x94h\x00as",
        "deep lists": b"}\x8c\x01a" + b"]" * 5000 + b"a" * 4999 + b"s",
        "deep tuples": b"}\x8c\x01a)" + b"\x85" * 5000 + b"s",
        "deep dicts": b"}" + b"\x8c\x01a}" * 5000 + b"s" * 5000,
        "a number of 5000 digits": b"}\x8c\x01a\x8b" + (2100).to_bytes(4, "little") + b"\x7f" * 2100 + b"s",
        "a number of 600 digits": b"}\x8c\x01a\x8a\xff" + b"\x7f" * 255 + b"s",
        "text encoded over and over": b"}" + BLOCK + ENCODE + b"(" + b"h\x01h\x00h\x02\x86R" * 100_000 + b"l0",
        "one list after another": b"}\x8c\x01a(" + b"]" * size + b"ls",
        "memory of nothing": b"}" + b"\x94" * size,
        "one dict after another, remembered": b"}\x8c\x01a(" + b"}\x94" * size + b"ls",
        "half of an array": b"}\x8c\x01acnumpy.core.multiarray\n_reconstruct\n)Rs",
        "a name that prints for ever": b"}\x8c\x01acnumpy\ndtype\n" + shared_lists(60) + b"\x85Rs",
        "a shape of a million sides": b"}\x8c\x01acnumpy.core.numeric\n_frombuffer\n(C\x04abcd"
        + b"cnumpy\ndtype\n\x8c\x02f4\x85R("
        + b"J\xff\xff\xff\x7f" * 300_000
        + b"t\x8c\x01CtRs",
        "half a character": b"}\x8c\x03\xed\xa0\x80K\x01s",
        "a key that is a number with a point": b"}G" + b"\0" * 8 + b"K\x01s",
        "dictionaries within a list within a key": b"}(]}eK\x01s",
    }


_WORDS = [
    *(b"}", b"]", b")", b"(", b"N", b"\x88", b"0", b"2", b"a", b"e", b"s", b"u", b"t", b"l", b"d", b"\x85", b"\x86"),
    *(
        b"\x87",
        b"\x94",
        b"R",
        b"b",
        b"\x93",
        b"K\x05",
        b"M\x10\x27",
        b"G" + b"\x40" * 8,
        b"\x8a\x02\x10\x27",
        b"C\x04abcd",
    ),
    *(b"\x8c\x05train", b"\x8c\x01a", b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"cos\nsystem\n", b"\x8c\x02f4"),
    *(
        b"cnumpy.core.multiarray\n_reconstruct\n",
        b"cnumpy.core.numeric\n_frombuffer\n",
        b"cnumpy.core.multiarray\nscalar\n",
    ),
    *(b"c_codecs\nencode\n", b"\x8c\x06latin1", b"\x8c\x01C", b"h\x00", b"h\x01", b"h\x02", b"h\x03"),
]


def pickles(folder):
    """Forged by size and depth, by chance, and whole ones of what numpy's reader would run."""
    path = folder / "x.npy"
    for what, body in forged(9_000_000).items():
        forge(path, body)
        yield what, lambda: load_npy_dict(path), path.stat().st_size
        yield f"{what}, mapped", lambda: map_npy_dict(path), path.stat().st_size
    chance = random.Random(5)
    for number in range(400):
        forge(path, b"}" + b"".join(chance.choices(_WORDS, k=chance.randrange(1, 40))))
        yield f"words by chance {number}", lambda: map_npy_dict(path), path.stat().st_size
    np.save(path, {"a": np.ma.array([1.0])})
    yield "masked array", lambda: load_npy_dict(path), path.stat().st_size
    data = tiny.make(folder, {"train": 2, "val": 1, "test": 1}, classes=2)
    for name in ("all_classId_vid_dict", "category_encode_dict", "all_id_category_dict"):
        whole = (data / f"{name}.npy").read_bytes()
        for what, body in forged(1000).items():
            forge(data / f"{name}.npy", body)
            yield f"{what} as {name}", lambda: read_splits(data), len(body)
        (data / f"{name}.npy").write_bytes(whole)
    path.write_bytes(pickle.dumps({"a": 1}))
    yield "a bare pickle", lambda: load_npy_dict(path), path.stat().st_size


def external_raw(file, name, outside):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_external(str(outside).encode(), 0, 32)
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((8,)), properties)


def virtual(file, name, outside):
    layout = h5py.VirtualLayout((8,), "f4")
    layout[:] = h5py.VirtualSource(str(outside), "x", (8,))
    file.create_virtual_dataset(name, layout)


def compact(file, name, _):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((8,)), properties)


ELSEWHERE = {
    "virtual": (virtual, "a virtual data set"),
    "external raw storage": (external_raw, "in external storage"),
    "external link": (
        lambda file, name, path: file.__setitem__(name, h5py.ExternalLink(str(path), "x")),
        "an external link",
    ),
    "soft link": (lambda file, name, _: file.__setitem__(name, h5py.SoftLink("/whole")), "a soft link"),
    "compact": (compact, "a compact layout"),
    "group": (lambda file, name, _: file.create_group(name), "a group"),
    "named type": (lambda file, name, _: file.__setitem__(name, np.dtype("f4")), "a type"),
}
ATTRIBUTES = {
    "bytes": np.bytes_(b"caf\xe9"),
    "void": np.void(b"\0\1"),
    "complex": 1 + 2j,
    "array": np.arange(3),
    "empty": h5py.Empty("f4"),
    "compound": np.array((1, 2.5), [("a", "i4"), ("b", "f4")])[()],
    "text": "ü",
    "yes": True,
    "number": np.int16(3),
}


def storages(folder):
    """HDF5 files that lead elsewhere, or hold more than their size, read alone, converted and trained on."""
    path = tiny.make(folder / "out", {"train": 2, "val": 1, "test": 1}, classes=2) / "audio_pretrained_feature"
    content = load_npy_dict(path / "audio_pretrained_feature_dict.npy")
    path = path / "audio_features.h5"
    os.mkfifo(folder / "pipe")
    flags = ["--dataset", "tiny", "--data_root", str(folder / "out"), "--modality", "audio"]
    train = [*flags, "--method", "fine_tuning", "--max_epochs", "1", "--run_dir", str(folder / "out" / "run")]
    puts = {what: put for what, (put, _) in ELSEWHERE.items()}
    puts["bomb"] = lambda file, name, _: file.create_dataset(name, (2**34,), "f4", chunks=(2**20,), fillvalue=1.0)
    puts["bomb of bombs"] = lambda file, name, _: file.create_dataset(name, (2**60,), "f4", chunks=(2**20,))
    for what, put in puts.items():
        for target in ("precious/file", "missing", "pipe"):
            path.unlink(missing_ok=True)
            with h5py.File(path, "w") as file:
                for number, (video, array) in enumerate(content.items()):
                    put(file, video, folder / target) if number == 0 else file.__setitem__(video, array)
                file.attrs.update(ATTRIBUTES)
            size = path.stat().st_size
            yield f"{what} to {target}", lambda: [HDF5Features(path)[video] for video in content], size
            yield f"{what} to {target}, converted", lambda: convert(flags), size
            yield f"{what} to {target}, trained on", lambda: train_incremental.main(train), size


def documents(folder):
    """JSON that is deep, long, or holds what no text and no number can be, in the place of each file we read."""
    texts = {
        "deep": "[" * 100_000 + "]" * 100_000,
        "rather deep": '{"a":' * 60 + "1" + "}" * 60,
        "many": "[" + "[]," * 3_000_000 + "[]]",
        "half a character": json.dumps({"ids": ["\ud800"], "array": "\udfff"}),
        "digits": '{"sample_rate": ' + "9" * 400 + "}",
        "other types": '{"array": [], "means": 1, "ids": {}, "source": [], "attributes": 3, "ffmpeg": 5}',
        "a list": "[]",
        "nothing": "",
        "zero bytes": "\0" * 1000,
    }
    path = folder / "x.json"
    data = tiny.make(folder, {"train": 2, "val": 1, "test": 1}, classes=2)
    flags = ["--dataset", "tiny", "--data_root", str(folder), "--modality", "audio"]
    raw = folder / "out" / "tiny"
    (raw / "videos").mkdir(parents=True)
    shutil.copy(make_video(folder / "a.mp4", seconds=0.2), raw / "videos" / "a.mp4")
    for what, text in texts.items():
        path.write_text(text)
        yield what, lambda: read_json(path), len(text)
        index = data / "audio_pretrained_feature" / "audio_store.json"
        index.write_text(text)
        yield f"{what} as index", lambda: mutations.training_data(index), len(text)  # noqa: B023
        index.unlink()
        (raw / "extraction.json").write_text(text)
        extract = [*flags, "--raw_root", str(folder / "out"), "--all"]
        yield f"{what} as record", lambda: extract_audios_frames.main(extract), len(text)  # noqa: B023


def names(folder):
    """Names of clips, classes and ids that no file system or table likes, through the whole extraction."""
    odd = [b"a\\b", b"\xff", b"tab\there", b" space", b"x" * 240, b"%d", b"-rf", b"new\nline", b"\x1b[31mred", b"..mp4"]
    odd += ["caf\u00e9".encode(), "cafe\u0301".encode(), "\u2028".encode(), b"'; touch x; '", b"$(touch x)", b"=1+1"]
    clip = make_video(folder / "good.mp4", seconds=0.2, size="32x24")
    for number in range(1, len(odd) + 1):
        place = os.fsencode(folder) + b"/clips%d/" % number
        for name in (b"dog/good", b"dog/" + odd[number - 1], odd[number - 1][:100].strip(b"/") + b"/in it"):
            os.makedirs(os.path.dirname(place + name), exist_ok=True)
            shutil.copy(clip, place + name[:245] + b".mp4")
        roots = ["--raw_root", f"{folder}/out/{number}", "--data_root", f"{folder}/out/{number}"]
        flags = ["--dataset", "odd", *roots, "--videos", os.fsdecode(place), "--val", "0", "--test", "0.5"]
        yield f"name {odd[number - 1]}", lambda: extract_audios_frames.main(flags), 0  # noqa: B023
        plain = ["--audio_encoder", "logmel", "--visual_encoder", "patches", "--num_workers", "0", "--device", "cpu"]
        second = ["--dataset", "odd", *roots, *plain]
        yield f"features of {odd[number - 1]}", lambda: extract_pretrained_features.main(second), 0  # noqa: B023


def clips(folder):
    """Files that call themselves clips: lists, pipes, links, bombs of time; and sound of many channels."""
    videos = folder / "clips"
    good = make_video(videos / "good.mp4", seconds=0.2, size="32x24")
    make_video(videos / "six.mkv", seconds=0.2, size="32x24", options=("-ac", "6"))
    make_video(videos / "long.mkv", seconds=700, rate=1, size="16x16")
    (videos / "list.mp4").write_text(f"ffconcat version 1.0\nfile {good}\n")
    (videos / "playlist.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{folder}/precious/file\n#EXT-X-ENDLIST\n")
    (videos / "empty.mp4").touch()
    (videos / "text.avi").write_bytes((folder / "precious" / "file").read_bytes())
    os.mkfifo(videos / "pipe.mp4")
    os.symlink("nowhere", videos / "dangling.mp4")
    os.symlink(videos, videos / "loop")
    roots = ["--raw_root", str(folder / "out"), "--data_root", str(folder / "out")]
    flags = ["--dataset", "clips", *roots, "--videos", str(videos)]
    yield "all at once", lambda: extract_audios_frames.main(flags), 0
    yield "once more", lambda: extract_audios_frames.main(flags), 0
    audio = [
        "--dataset",
        "clips",
        *roots,
        "--audio_encoder",
        "logmel",
        "--visual_encoder",
        "patches",
        "--device",
        "cpu",
    ]
    yield "their features", lambda: extract_pretrained_features.main([*audio, "--num_workers", "0"]), 0


def few_files(folder):
    """Each reader with as many files open as a process may have: never called damage."""
    path = tiny.make(folder, {"train": 2, "val": 1, "test": 1}, classes=2) / "audio_pretrained_feature"
    with h5py.File(path / "audio_features.h5", "w") as file:
        file["a"] = np.ones(4, np.float32)

    def limited(read):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        next_free = os.open(os.devnull, os.O_RDONLY)
        os.close(next_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_free, hard))
        try:
            read()
        except OSError as error:
            if "Too many open files" not in str(error):
                raise
        else:
            raise AssertionError("no file was opened")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    yield "HDF5", lambda: limited(lambda: HDF5Features(path / "audio_features.h5")), 0
    yield "dictionary", lambda: limited(lambda: map_npy_dict(path / "audio_pretrained_feature_dict.npy")), 0
    yield "splits", lambda: limited(lambda: read_splits(path.parent)), 0


ATTACKS = {
    "forged pickles": pickles,
    "HDF5 storages": storages,
    "hostile JSON": documents,
    "hostile names": names,
    "hostile clips": clips,
    "few open files": few_files,
}
