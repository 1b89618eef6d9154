"""``failed.csv``: which clips gave no sound, frames or features, and why."""

import os
import sys
from dataclasses import astuple, dataclass

from utils.errors import InputError, MediaError, first_line, printable, say
from utils.files import csv_text, of_cell, read_rows, write_text

NAME = "failed.csv"
_HEADER = ("id", "what", "reason")


@dataclass(frozen=True, order=True)
class Failure:
    """``what`` is video (no usable file), audio, frames, audio_feature or visual_feature.

    ``id`` is a path below the folder of the videos where the name of a file can be no id. Neither holds control
    characters or bytes that are not UTF-8: they are written as escapes.
    """

    id: str
    what: str
    reason: str

    def __post_init__(self):
        for name in ("id", "reason"):
            object.__setattr__(self, name, printable(getattr(self, name)))


def reason_of(error: Exception) -> str:
    """Why a clip failed, in words for ``failed.csv``, whatever was raised."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror}: {error.filename}"
    if isinstance(error, MediaError | OSError):
        return first_line(error, 300)
    return f"{type(error).__name__}: {first_line(error, 200)}"


def read_failures(folder: str) -> list[Failure]:
    """The failures listed in ``folder``; none if there is no such file."""
    try:
        rows = [row for _, row in read_rows(os.path.join(folder, NAME))][1:]
    except (FileNotFoundError, InputError):
        return []
    return [Failure(*map(of_cell, row)) for row in rows if len(row) == len(_HEADER)]


def write_failures(folder: str, failures: list[Failure], tried: set[tuple[str, str]]) -> str:
    """List ``failures`` in ``folder`` and return the path; earlier ones stay unless ``tried``: pairs (id, what)."""
    kept = [failure for failure in read_failures(folder) if (failure.id, failure.what) not in tried]
    path = os.path.join(folder, NAME)
    write_text(path, csv_text([_HEADER, *map(astuple, sorted({*kept, *failures}))]))
    return path


def summary(failures: list[Failure]) -> str:
    """``3 failed (no audio track: 2, no video stream: 1)``; reasons beyond the five most frequent are only counted."""
    counts = {}
    for failure in failures:
        reason = failure.reason.partition(":")[0]
        counts[reason] = counts.get(reason, 0) + 1
    common = sorted(counts, key=lambda reason: (-counts[reason], reason))
    parts = [f"{reason}: {counts[reason]}" for reason in common[:5]]
    parts += [f"{len(common) - 5} other reasons"] if len(common) > 5 else []
    return f"{len(failures)} failed" + (f" ({', '.join(parts)})" if parts else "")


def end(failures: list[Failure], pieces: int, path: str):
    """End the command: with exit code 1, and a line on stderr, if half of its ``pieces`` of work failed or more.

    Half of them is all of the sound, where its frames are well.
    """
    if failures and len(failures) >= pieces / 2:
        cure = "once their cause is gone, the same command tries them again"
        say(f"error: {len(failures)} of {pieces} pieces failed, see {path}; {cure}", file=sys.stderr)
        sys.exit(1)
