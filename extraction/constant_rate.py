"""Which pictures of a video make a constant rate: each is shown again or left out as by ffmpeg's ``-r``.

The rule is that of its command (fftools, ``video_sync_process``). Places are counted in pictures of the constant rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from extraction.ffmpeg import refuse_long
from model.encoders.frames import choose_frames

# (place, length) of frames, in pictures of the constant rate.
Places = Sequence[tuple[float, float]]


class Clock:
    """Places of frames, or of packets, on the axis of the constant rate."""

    def __init__(self, file: Any, stream: Any, frame_rate: int, max_seconds: float):
        self.start = _start(file, stream)
        self.base, self.rate, self.limit = stream.time_base, frame_rate, max_seconds
        guessed = stream.guessed_rate
        self.usual = 1 / (guessed * self.base) if guessed else 1
        self.last, self.length = None, self.usual

    def places(self, frames: Iterable[Any]) -> Places:
        """[(place, length)] of the next ``frames``, in units of a picture at the constant rate."""
        places = []
        for frame in frames:
            time = frame.pts
            if time is None:
                time = 0 if self.last is None else self.last + self.length
            length = frame.duration or (time - self.last if self.last is not None and time > self.last else self.usual)
            self.last, self.length = time, length
            place = float((time * self.base - self.start) * self.rate)
            refuse_long(place / self.rate, self.limit)
            places.append((place, float(length * self.base * self.rate)))
        return places


def _start(file, stream):
    """When the file begins, in seconds: in those whose clocks may jump (MPEG-TS), the stream that is used begins."""
    from av.format import Flags

    if file.format.flags & Flags.ts_discont.value and stream.start_time is not None:
        return stream.start_time * stream.time_base
    return Fraction(file.start_time or 0, 1_000_000)


def chosen_frames(places: Places, wanted: int) -> list[int]:
    """For each of the ``wanted`` pictures the index of its frame."""
    shown = constant_rate(places)
    return [shown[number] for number in choose_frames(len(shown), wanted)] if shown else []


def constant_rate(places: Places) -> list[int]:
    """Which frame stands at 0, 1, 2 ... when frames have (place, length) ``places``: as ``ffmpeg -r`` has it."""
    shown = []
    for index, (place, length) in enumerate(places):
        ahead = place - len(shown)
        count, earlier = 1, 0
        if ahead < 0 < ahead + length:  # it begins before its place: cut
            length, ahead = length + ahead, 0.0
        if ahead + length < -1.1:
            count = 0
        elif ahead + length > 1.1:
            count = _rounded(ahead + length)
            earlier = _rounded(ahead - 0.6) if ahead > 1.1 else 0
        shown += [index - 1 if number < earlier and index else index for number in range(count)]
    return shown


def _rounded(value):
    return int(np.rint(np.float32(value)))
