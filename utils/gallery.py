"""The pictures of a report, gathered before any is drawn, and the reasons why some are left out."""

import re
from collections.abc import Callable
from dataclasses import dataclass

LONGEST_PLACE = 100


@dataclass(frozen=True)
class Picture:
    """One figure: ``stem`` of its files, ``section`` of the report, title, its content in words, and how to draw it."""

    stem: str
    section: str
    title: str
    alt: str
    draw: Callable


class Gallery:
    """Collects Pictures, and the reasons why some could not be drawn."""

    def __init__(self):
        self.pictures, self.left_out, self._stems = [], {}, set()

    def add(self, parts, section, title, alt, draw):
        """Add a Picture; its files are named by ``parts``, the last of which is its kind."""
        self.pictures.append(Picture(self._stem(parts), section, title, alt, draw))

    def leave_out(self, what, why, name):
        """Remember that there is no picture ``what`` of the row ``name``."""
        self.left_out.setdefault((what, why), []).append(name)

    def left_out_lines(self):
        """One line for each kind of picture and reason."""
        return [
            f"left out: {what} of {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {why}"
            for (what, why), names in self.left_out.items()
        ]

    def _stem(self, parts):
        *place, kind = (re.sub(r"[^A-Za-z0-9.=+-]+", "-", part).strip("-.") or "x" for part in parts)
        plain = f"{'_'.join(place)[:LONGEST_PLACE]}_{kind}"
        stem, number = plain, 1
        # Some file systems do not tell upper from lower case.
        while stem.lower() in self._stems:
            number += 1
            stem = f"{plain}-{number}"
        self._stems.add(stem.lower())
        return stem
