"""The splits of the AV-CIL release, fetched from its public repository. They are not ours to ship."""

import os
import tempfile

import requests
from huggingface_hub import HfApi, hf_hub_download

from splits.annotations import AVE_FILES, from_ave
from splits.formats import SPLITS, Splits, read_released_splits, read_splits, write_splits
from utils.datasets import Dataset
from utils.errors import InputError, first_line

RELEASE = "https://raw.githubusercontent.com/weiguoPian/AV-CIL_ICCV2023/main/data"
TRIPLE = ("all_classId_vid_dict.npy", "all_id_category_dict.npy", "category_encode_dict.npy")
AVE_ANNOTATIONS = "UnFaZeD07/AVE-Dataset"  # on the Hugging Face hub: the official annotation files
LARGEST = 64 << 20  # bytes; the largest of them has 4 MB
SECONDS = 60


def fetch_splits(dataset: Dataset, folder: str, url: str = RELEASE) -> str:
    """See to it that ``folder`` has the published splits of ``dataset``; say in one line where they are from.

    Splits that are there already stay. Where the release is gone, AVE's come from its official annotation files, which
    give the same clips. InputError if the number of clips is not the published one.
    """
    if os.path.exists(os.path.join(folder, "splits.csv")) or os.path.exists(os.path.join(folder, TRIPLE[0])):
        read_splits(folder)
        return f"Splits: those that are in {os.path.relpath(folder)} already"
    assert dataset.clips is not None  # published
    source = f"{url}/{dataset.folder}"
    try:
        _fetch_triple(dataset, folder, source)
    except requests.RequestException as error:
        if dataset.name != "AVE":
            raise InputError(
                f"{source}: {first_line(error)}; check the connection, or make splits of the same kind by"
                " splits/build.py (docs/extraction.md)"
            ) from None
        _fetch_annotations(dataset, folder)
        source = f"the hub's data set {AVE_ANNOTATIONS}"
    return f"Splits: {' / '.join(map(str, dataset.clips))} clips for {', '.join(SPLITS)}, from {source}"


def _fetch_triple(dataset, folder, source):
    with tempfile.TemporaryDirectory(prefix=".avcil-splits-", dir=folder) as aside:
        for name in TRIPLE:
            with requests.get(f"{source}/{name}", timeout=SECONDS, stream=True) as answer:
                answer.raise_for_status()
                content = answer.raw.read(LARGEST + 1, decode_content=True)
            if len(content) > LARGEST:
                raise InputError(f"{source}/{name}: more than {LARGEST >> 20} MB, which no splits are")
            with open(os.path.join(aside, name), "wb") as file:
                file.write(content)
        try:
            splits = read_released_splits(aside)
        except InputError as error:
            raise InputError(str(error).replace(aside, source)) from None
        _check_counts(dataset, splits, source)
        # The one by which splits are recognised comes last.
        for name in reversed(TRIPLE):
            os.replace(os.path.join(aside, name), os.path.join(folder, name))


def _fetch_annotations(dataset, folder):
    try:
        names = HfApi().list_repo_files(AVE_ANNOTATIONS, repo_type="dataset")
        paths = {}
        for name in AVE_FILES.values():
            candidates = sorted((path for path in names if os.path.basename(path) == name), key=len)
            if not candidates:
                raise InputError(f"{AVE_ANNOTATIONS} on the hub has no {name}; it has {', '.join(names[:10])}")
            paths[name] = hf_hub_download(AVE_ANNOTATIONS, candidates[0], repo_type="dataset")
    except InputError:
        raise
    except Exception as error:  # whatever the library under the hub's client raises
        raise InputError(
            f"neither {RELEASE}/AVE nor {AVE_ANNOTATIONS} on the hub can be read ({first_line(error)}); check the"
            " connection"
        ) from None
    with tempfile.TemporaryDirectory() as aside:
        for name, path in paths.items():
            os.symlink(os.path.abspath(path), os.path.join(aside, name))
        splits = from_ave(aside)
    _check_counts(dataset, splits, AVE_ANNOTATIONS)
    write_splits(folder, splits)


def _check_counts(dataset: Dataset, splits: Splits, source: str):
    assert dataset.clips is not None  # published
    counts = tuple(len(splits.clips[split]) for split in SPLITS)
    if counts != dataset.clips or len(splits.classes) != dataset.num_classes:
        raise InputError(
            f"{source}: {' / '.join(map(str, counts))} clips of {len(splits.classes)} classes, not the published"
            f" {' / '.join(map(str, dataset.clips))} of {dataset.num_classes}"
        )
