"""What a run keeps of its test clips after each step: ids, classes, predictions, scores. No torch is needed."""

import os
import struct
import zipfile
import zlib
from dataclasses import dataclass

import numpy as np

from utils.errors import InputError, first_line
from utils.files import atomic_path

_LEAST = np.finfo(np.float16).min
_BELOW = -np.finfo(np.float16).smallest_subnormal
LARGEST = 10**9  # bytes of all arrays
# What NumPy, zipfile and zlib raise of files that are not what they were.
DAMAGE = (ValueError, KeyError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error)
HINT = "train again to have it, without --no_scores"


@dataclass(frozen=True)
class Scores:
    """N test clips after a step, C classes seen, in class order.

    ``clip`` (N,) ids; ``label`` (N,) int32 classes; ``scores`` (N, C) float16, less the clip's highest: 0 at the
    predicted class, below 0 at all others. Their softmax is that of the scores themselves.
    """

    clip: np.ndarray
    label: np.ndarray
    scores: np.ndarray

    @property
    def prediction(self) -> np.ndarray:
        """(N,) the class with the highest score."""
        return self.scores.argmax(1)


def scores_path(folder: str, step: int) -> str:
    """The file with the scores after ``step`` of the run in ``folder``."""
    return os.path.join(folder, "scores", f"step_{step}.npz")


def write_scores(path: str, clip: list[str], label: np.ndarray, scores: np.ndarray):
    """Write what ``read_scores`` reads; ``scores`` (N, C) as the method gives them, the first highest is predicted."""
    prediction = scores.argmax(1)
    rows = np.arange(len(scores))
    less = np.nan_to_num(scores - scores[rows, prediction][:, None], nan=_LEAST, neginf=_LEAST)
    # What rounds to the highest was below it, or came after.
    less = np.minimum(np.clip(less, _LEAST, None).astype(np.float16), _BELOW)
    less[rows, prediction] = 0
    os.makedirs(os.path.dirname(path), exist_ok=True)
    ids = np.frombuffer("\n".join(clip).encode(), np.uint8)
    with atomic_path(path) as aside, open(aside, "wb") as file:
        np.savez_compressed(file, clip=ids, label=label.astype(np.int32), scores=less)


def read_scores(folder: str, step: int) -> Scores | None:
    """The Scores after ``step`` of the run in ``folder``; None if it kept none. InputError if the file is damaged."""
    path = scores_path(folder, step)
    if not os.path.isfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST:
                raise ValueError("it unpacks to more than 1 GB")
        with np.load(path, allow_pickle=False) as file:
            clip, label, scores = file["clip"], file["label"], file["scores"]
        ids = np.array(clip.tobytes().decode().split("\n"), dtype=object)
        fits = clip.dtype == np.uint8 and scores.dtype == np.float16 and scores.ndim == 2 and label.dtype == np.int32
        if not fits or not len(ids) == len(label) == len(scores) or not (scores.max(1) == 0).all():
            raise ValueError("its arrays do not fit one another")
        if label.min() < 0 or label.max() >= scores.shape[1]:
            raise ValueError("its labels are no classes")
    except DAMAGE as error:
        raise InputError(f"{path}: not readable as scores ({first_line(error)}); {HINT}") from None
    return Scores(ids, label, scores)
