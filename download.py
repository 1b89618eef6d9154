#!/usr/bin/env python3
"""Fetch the released features and splits of a data set, and put them where training reads them.

    python download.py --dataset AVE

streams the zip on the Hugging Face hub (in parts, for the larger sets) without keeping it, checks every file in it, and
turns the features into the store that trains fastest. The same command goes on where it was stopped.
"""

if __name__ == "__main__":
    from utils.environment import enter_environment

    enter_environment()

import os
import re
import shutil
import sys
import time
from typing import cast

from huggingface_hub import HfFileSystem
from huggingface_hub.utils import logging
from tqdm import tqdm

from features.archive import Archive, Member, PersistentFile, fetch, fetched_bytes
from features.convert import convert
from features.sources import FILES, open_source, source_file
from features.store import index_path, refuse_unfinished
from splits.release import RELEASE, fetch_splits
from utils.command_line import DATA_ROOT, OneLineParser
from utils.datasets import MODALITIES, Dataset, find_dataset, published_datasets
from utils.errors import InputError, command, first_line, say
from utils.files import file_lock, remove

HUB = "wiberg/AV-CIL_features"
BLOCK = 16 << 20  # bytes asked of the hub at a time; four blocks are kept
SECONDS = 60  # between lines of progress where there is no terminal


@command(after_interrupt="; the same command goes on from here")
def main(arguments=None):
    args = parse(arguments)
    logging.set_verbosity_error()
    dataset = find_dataset(args.dataset)
    if dataset.archive is None:
        published = ", ".join(published_datasets())
        raise InputError(
            f"--dataset {args.dataset}: published are {published}; features of your own clips come from"
            f" sh extract_audios_frames.sh '{args.dataset}' --videos FOLDER (README, Data)"
        )
    folder = os.path.join(args.data_root, dataset.folder)
    os.makedirs(folder, exist_ok=True)
    with file_lock(os.path.join(folder, ".download.lock"), f"the features of {dataset.name}"):
        say(fetch_splits(dataset, folder, args.splits_url))
        modalities = [modality for modality in MODALITIES[args.modality] if not present(folder, modality)]
        if modalities:
            fetch_features(args, dataset, folder, modalities)
    say(f"{dataset.name} is in {os.path.relpath(folder)}; train by sh run_incremental_ours.sh '{dataset.name}'")


def parse(arguments):
    parser = OneLineParser(prog="download.py", description="Fetch the released features and splits of a data set.")
    parser.add_argument("--dataset", required=True, help=f"one of {', '.join(published_datasets())}")
    parser.add_argument("--modality", choices=MODALITIES, default="audio-visual", help="audio is the smallest by far")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="type of the values stored")
    parser.add_argument("--keep_original", action="store_true", help="keep the released files beside the store")
    parser.add_argument("--data_root", default=DATA_ROOT, help="folder of the data sets' folders")
    parser.add_argument("--splits_url", default=RELEASE, help="where the folders of the released splits are")
    return parser.parse_args(arguments)


def present(folder: str, modality: str) -> bool:
    """Whether training finds features of this modality; says so. InputError if their extraction is not finished."""
    if os.path.exists(index_path(folder, modality)):
        say(f"{modality}: its store is in {os.path.relpath(folder)} already")
        return True
    refuse_unfinished(folder, modality)
    return False


def fetch_features(args, dataset: Dataset, folder: str, modalities: list[str]):
    """Bring the features of ``modalities`` into their stores, one after the other."""
    members, archive = {}, None  # of the modalities that have no file yet
    left = [modality for modality in modalities if source_file(folder, modality) is None]
    if left:
        archive = open_archive(dataset)
        members = {modality: find_member(archive, modality) for modality in left}
        for modality, member in members.items():
            say(f"{modality}: {member.name} in {archive.name}, {member.size / 1e9:.2f} GB")
    check_disk(args, folder, members, modalities)
    for modality in modalities:
        if archive is not None and modality in members:
            path = target(folder, modality, members[modality])
            # Says, should this be broken off, that the file is not one the user has put there.
            open(fetched_mark(folder, modality), "w").close()
            with Progress(f"Fetching {modality}", members[modality].size) as progress:
                fetch(archive, members[modality], path, progress.add)
        source = open_source(folder, modality)
        with file_lock(index_path(folder, modality) + ".lock", "this store"):
            count, size, _ = convert(source, folder, modality, args.dtype)
        say(f"{modality}: {count} clips, {size / 1e9:.2f} GB as {args.dtype}, every value checked")
        if os.path.exists(fetched_mark(folder, modality)):
            if not args.keep_original:
                remove(source.path)
            remove(fetched_mark(folder, modality))


def fetched_mark(folder: str, modality: str) -> str:
    """A file that is there from the start of fetching until the store is whole."""
    return os.path.join(folder, f".fetching-{modality}")


def open_archive(dataset: Dataset) -> Archive:
    """The data set's archive on the hub; InputError that says what is there if it is not."""
    hub = HfFileSystem(skip_instance_cache=True)
    try:
        files = cast(list[dict], hub.ls(f"datasets/{HUB}", detail=True))
    except Exception as error:  # whatever the library under the hub's client raises
        raise InputError(
            f"the hub's data set {HUB} cannot be read ({first_line(error)}); check the connection, the same command"
            " goes on from here"
        ) from None
    listed = {os.path.basename(file["name"]): file for file in files}
    assert dataset.archive is not None
    names = sorted(name for name in listed if re.fullmatch(rf"{re.escape(dataset.archive)}(\.[a-z]{{2}})?", name))
    if not names:
        raise InputError(f"{HUB} on the hub has no {dataset.archive}; it has {', '.join(sorted(listed)[:20])}")
    parts = []
    for name in names:
        file = hub.open(listed[name]["name"], block_size=BLOCK, cache_type="blockcache", cache_options={"maxblocks": 4})
        parts.append(PersistentFile(file, f"{name} on the hub", listed[name]["size"]))
    version = " ".join(str(listed[name].get("blob_id")) for name in names)
    return Archive(dataset.archive, parts, version)


def find_member(archive: Archive, modality: str) -> Member:
    """The features of ``modality``, wherever they lie in the archive; InputError that lists what is there."""
    members = archive.members()
    named = [member for member in members if os.path.basename(member.name) in FILES[modality][1]]
    alike = [m for m in members if modality in os.path.basename(m.name).lower() and m.name.endswith((".npy", ".h5"))]
    for candidates in (named, alike):
        if len(candidates) == 1:
            return candidates[0]
    inside = ", ".join(member.name for member in (named or alike or members)[:20]) or "nothing"
    raise InputError(
        f"{archive.name}: expected one file of {modality} features, such as {FILES[modality][1][-1]}; it has {inside}"
    )


def target(folder: str, modality: str, member: Member) -> str:
    """Where training looks for a released file of this modality and kind."""
    subfolder, names = FILES[modality]
    name = next(name for name in names if os.path.splitext(name)[1] == os.path.splitext(member.name)[1])
    os.makedirs(os.path.join(folder, subfolder), exist_ok=True)
    return os.path.join(folder, subfolder, name)


def check_disk(args, folder: str, members: dict[str, Member], modalities: list[str]):
    """InputError, before anything is fetched, if the disk does not have the room for it."""
    half = 2 if args.dtype == "float16" else 1
    stored, most = 0, 0
    for modality in modalities:
        if modality in members:
            member, fetched = (
                members[modality],
                fetched_bytes(members[modality], target(folder, modality, members[modality])),
            )
            original, fetching = member.size, member.size - fetched
        else:
            source = source_file(folder, modality)
            assert source is not None  # otherwise it would be fetched
            original, fetching = os.path.getsize(source), 0
        most = max(most, stored + fetching + original // half)
        stored += original // half + (fetching if args.keep_original else 0)
    free = shutil.disk_usage(folder).free
    say(f"Disk: up to {most / 1e9:.1f} GB while it works, {stored / 1e9:.1f} GB then; {free / 1e9:.1f} GB are free")
    if free < most:
        smaller = "" if half == 2 else ", take half of it by --dtype float16"
        raise InputError(
            f"{folder}: {free / 1e9:.1f} GB are free, {most / 1e9:.1f} are needed; free some{smaller}, or name another"
            " disk by --data_root"
        )


class Progress:
    """A bar with the time left; where there is no terminal, a line every minute."""

    def __init__(self, what: str, total: int):
        self.what, self.total, self.done, self.begun = what, total, 0, None
        self.bar = tqdm(desc=what, total=total, unit="B", unit_scale=True, disable=None)
        self.said = time.monotonic()

    def add(self, count: int):
        """``count`` more bytes; the first are those of an earlier attempt."""
        self.done += count
        if self.begun is None:
            self.begun = (self.done, time.monotonic())
            self.bar.initial = self.done
        self.bar.update(count)
        now = time.monotonic()
        if self.bar.disable and now - self.said >= SECONDS:
            self.said = now
            speed = (self.done - self.begun[0]) / (now - self.begun[1])
            left = (self.total - self.done) / speed / 60 if speed else float("inf")
            say(
                f"{self.what}: {self.done / 1e9:.1f} of {self.total / 1e9:.1f} GB, {speed / 1e6:.0f} MB/s,"
                f" {left:.0f} minutes left"
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()


if __name__ == "__main__":
    sys.exit(main())
