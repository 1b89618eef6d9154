"""What a run keeps of its test clips after each step: ids, classes, scores; on request features. No torch is needed."""

import contextlib
import os
import struct
import zipfile
import zlib
from dataclasses import dataclass

import numpy as np

from engine.run_files import is_there
from utils.errors import InputError, first_line
from utils.files import atomic_path

_LEAST = np.finfo(np.float16).min
_BELOW = -np.finfo(np.float16).smallest_subnormal
LARGEST = 10**9  # bytes of all arrays
# What NumPy, zipfile and zlib raise of files that are not what they were.
DAMAGE = (ValueError, KeyError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error)
HINT = "train again to have it, without --no_scores"
FEATURES_HINT = "train again with --save_features and --overwrite"


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


@dataclass(frozen=True)
class KeptFeatures:
    """What the network made of N test clips after a step.

    ``clip`` (N,) ids; ``label`` (N,) int32 classes, in class order; ``features``: name -> (N, D) float16, ``feature``
    (the classifier's input), of audio-visual networks also ``audio`` and ``visual``, whose sum it is.
    """

    clip: np.ndarray
    label: np.ndarray
    features: dict[str, np.ndarray]


def scores_path(folder: str, step: int) -> str:
    """The file with the scores after ``step`` of the run in ``folder``."""
    return os.path.join(folder, "scores", f"step_{step}.npz")


def write_scores(path: str, clip: list[str], label: np.ndarray, scores: np.ndarray):
    """Write what ``read_scores`` reads; ``scores`` (N, C) as the method gives them, the first highest is predicted."""
    prediction = scores.argmax(1)
    rows = np.arange(len(scores))
    less = np.nan_to_num(scores - scores[rows, prediction][:, None], nan=float(_LEAST), neginf=float(_LEAST))
    # What rounds to the highest was below it, or came after.
    less = np.minimum(np.clip(less, _LEAST, None).astype(np.float16), _BELOW)
    less[rows, prediction] = 0
    _write(path, clip, label, {"scores": less})


def read_scores(folder: str, step: int) -> Scores | None:
    """The Scores after ``step`` of the run in ``folder``; None if it kept none. InputError if the file is damaged."""
    path = scores_path(folder, step)
    if not is_there(path):
        return None
    with _damage(path, "scores", HINT):
        clip, label, arrays = _read(path)
        scores = arrays["scores"]
        if not (scores.max(1) == 0).all():
            raise ValueError("its arrays do not fit one another")
        if label.max() >= scores.shape[1]:
            raise ValueError("its labels are no classes")
        return Scores(clip, label, scores)


def features_path(folder: str, step: int) -> str:
    """The file with the network's features after ``step`` of the run in ``folder``."""
    return os.path.join(folder, "features", f"step_{step}.npz")


def write_features(path: str, clip: list[str], label: np.ndarray, features: dict[str, np.ndarray]):
    """Write what ``read_features`` reads; ``features``: name -> (N, D)."""
    limit = np.finfo(np.float16).max
    halves = {name: np.clip(values, -limit, limit).astype(np.float16) for name, values in features.items()}
    _write(path, clip, label, halves)


def read_features(folder: str, step: int) -> KeptFeatures | None:
    """The KeptFeatures after ``step`` of the run in ``folder``; None if it kept none. InputError as ``read_scores``."""
    path = features_path(folder, step)
    if not is_there(path):
        return None
    with _damage(path, "features", FEATURES_HINT):
        clip, label, features = _read(path)
        if "feature" not in features or not all(np.isfinite(each).all() for each in features.values()):
            raise ValueError("its features are missing or not finite")
        return KeptFeatures(clip, label, features)


def _write(path, clip, label, arrays):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    ids = np.frombuffer("\n".join(clip).encode(), np.uint8)
    with atomic_path(path) as aside, open(aside, "wb") as file:
        np.savez_compressed(file, clip=ids, label=label.astype(np.int32), **arrays)


def _read(path):
    """Ids, labels, and the other arrays by name; ValueError or one of DAMAGE if these do not fit one another."""
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > LARGEST:
            raise ValueError("it unpacks to more than 1 GB")
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    clip, label = arrays.pop("clip"), arrays.pop("label")
    ids = np.array(clip.tobytes().decode().split("\n"), dtype=object)
    fits = clip.dtype == np.uint8 and label.dtype == np.int32 and len(ids) == len(label) and label.min() >= 0
    of_clips = (each.dtype == np.float16 and each.ndim == 2 and len(each) == len(ids) for each in arrays.values())
    if not fits or not all(of_clips):
        raise ValueError("its arrays do not fit one another")
    return ids, label, arrays


@contextlib.contextmanager
def _damage(path, what, hint):
    try:
        yield
    except DAMAGE as error:
        raise InputError(f"{path}: not readable as {what} ({first_line(error)}); {hint}") from None
