"""``failed.csv``: which clips gave no sound, frames or features, and why."""

import csv
import os
from dataclasses import astuple, dataclass

from utils.files import atomic_path

NAME = "failed.csv"
_UTF8 = {"encoding": "utf-8", "errors": "backslashreplace"}  # a file name may hold bytes that are not UTF-8
_HEADER = ("id", "what", "reason")


@dataclass(frozen=True, order=True)
class Failure:
    """``what`` is video (no usable file), audio, frames, audio_feature or visual_feature."""

    id: str
    what: str
    reason: str


def read_failures(folder):
    """The failures listed in ``folder``; none if there is no such file."""
    try:
        with open(os.path.join(folder, NAME), newline="", encoding="utf-8") as file:
            return [Failure(*row) for row in list(csv.reader(file))[1:] if len(row) == len(_HEADER)]
    except (FileNotFoundError, UnicodeDecodeError, csv.Error):
        return []


def write_failures(folder, failures, tried):
    """List ``failures`` in ``folder`` and return the path; earlier ones stay unless ``tried``: pairs (id, what)."""
    kept = [failure for failure in read_failures(folder) if (failure.id, failure.what) not in tried]
    path = os.path.join(folder, NAME)
    with atomic_path(path) as aside, open(aside, "w", newline="", **_UTF8) as file:
        rows = csv.writer(file)
        rows.writerow(_HEADER)
        rows.writerows(map(astuple, sorted({*kept, *failures})))
    return path


def summary(failures):
    """``3 failed (no audio track: 2, no video stream: 1)``; reasons beyond the five most frequent are only counted."""
    counts = {}
    for failure in failures:
        reason = failure.reason.partition(":")[0]
        counts[reason] = counts.get(reason, 0) + 1
    common = sorted(counts, key=lambda reason: (-counts[reason], reason))
    parts = [f"{reason}: {counts[reason]}" for reason in common[:5]]
    parts += [f"{len(common) - 5} other reasons"] if len(common) > 5 else []
    return f"{len(failures)} failed" + (f" ({', '.join(parts)})" if parts else "")
