#!/usr/bin/env python3
"""Megabytes a second of the forms that features are stored in, and of making the feature store.

    python benchmarks/storage.py --clips 200

reads clips of 8 x 196 x 768 float32 in random order from a released .npy dictionary, an HDF5 file with a data set per
clip, the feature store and a memory map of it, from the page cache and (as far as the system lets go of it) from the
disk; then converts the dictionary beside a plain copy of the file.
"""

import argparse
import os
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import h5py
import numpy as np

from features.convert import main as convert
from features.sources import DictFeatures, HDF5Features
from features.store import StoreFeatures, index_path
from utils.command_line import heading

SHAPE = (1568, 768)


class MappedRows:
    """Rows of an array on disk, through a memory map."""

    def __init__(self, store):
        self.array, self.row_of = np.load(store.file.path, mmap_mode="r"), store.row_of

    def read(self, videos, out):
        for row, video in zip(out, videos, strict=True):
            row[:] = self.array[self.row_of[video]].reshape(-1)


def main():
    parser = argparse.ArgumentParser(description=heading(__doc__), allow_abbrev=False)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--scratch", help="folder for the files; default: the system's")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.scratch) as root:
        ids = make(os.path.join(root, "mine"), args.clips)
        folder = os.path.join(root, "mine", "visual_pretrained_feature")
        source = os.path.join(folder, "visual_pretrained_feature_dict.npy")
        size = os.path.getsize(source) / 1e6
        copying = seconds(lambda: copy(source, os.path.join(root, "copy.npy")))
        flags = ["--dataset", "mine", "--data_root", root, "--modality", "visual"]
        converting = seconds(lambda: convert(flags))
        print(f"{size:.0f} MB in {args.clips} clips")
        print(f"plain copy of the file      {size / copying:7.0f} MB/s")
        print(f"conversion to the store     {size / converting:7.0f} MB/s ({copying / converting:.2f} of the copy's)")
        to_hdf5(DictFeatures(source), ids, os.path.join(root, "clips.h5"))
        store = StoreFeatures(index_path(os.path.join(root, "mine"), "visual"))
        forms = {
            ".npy dictionary": (DictFeatures(source), source),
            "HDF5, one set per clip": (HDF5Features(os.path.join(root, "clips.h5")), os.path.join(root, "clips.h5")),
            "feature store": (store, store.file.path),
            "memory map of the store": (MappedRows(store), store.file.path),
        }
        print(f"{'reading batches of 16':28}{'from cache':>12}{'from disk':>12}")
        for name, (form, path) in forms.items():
            forget(path)
            cold = size / seconds(lambda form=form: read(form, ids))
            warm = size / seconds(lambda form=form: read(form, ids))
            print(f"{name:28}{warm:7.0f} MB/s{cold:7.0f} MB/s")


def make(folder, count):
    rng = np.random.default_rng(0)
    ids = [f"clip {number}" for number in range(count)]
    os.makedirs(os.path.join(folder, "visual_pretrained_feature"))
    path = os.path.join(folder, "visual_pretrained_feature", "visual_pretrained_feature_dict.npy")
    features = {video: rng.standard_normal(SHAPE, dtype=np.float32) for video in ids}
    np.save(path, np.array(features, object))
    return ids


def to_hdf5(features, ids, path):
    with h5py.File(path, "w") as file:
        for video in ids:
            file[video] = features[video]


def copy(source, target):
    with open(source, "rb") as original, open(target, "wb") as duplicate:
        while block := original.read(1 << 22):
            duplicate.write(block)
        os.fsync(duplicate.fileno())


def read(features, ids):
    order = np.random.default_rng(1).permutation(len(ids))
    out = np.empty((16, SHAPE[0] * SHAPE[1]), np.float32)
    for start in range(0, len(ids) - 15, 16):
        features.read([ids[number] for number in order[start : start + 16]], out)


def forget(path):
    """Ask the system to drop the file from its page cache."""
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds(function):
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
