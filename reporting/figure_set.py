"""A set of figures, as a report collects them: what each shows in words, how to draw it, and what there is none of."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

LONGEST_STEM = 100


@dataclass(frozen=True)
class FigureSpec:
    """One figure: ``stem`` of its files, ``section`` of the report, title, its content in words, and how to draw it.

    ``reading``: a sentence on how to read it, where that is not plain.
    """

    stem: str
    section: str
    title: str
    alt: str
    draw: Callable[[], Figure]
    reading: str = ""


class FigureSet:
    """Collects FigureSpecs, and the reasons why some could not be drawn."""

    def __init__(self):
        self.figures, self._skipped, self._stems = [], {}, set()

    def add(
        self, parts: tuple[str, ...], section: str, title: str, alt: str, draw: Callable[[], Figure], reading: str = ""
    ):
        """Add a FigureSpec; its files are named by ``parts``, the last of which is its kind."""
        self.figures.append(FigureSpec(self._stem(parts), section, title, alt, draw, reading))

    def skip(self, what: str, why: str, name: str):
        """Remember that there is no figure ``what`` of the row ``name``."""
        self._skipped.setdefault((what, why), []).append(name)

    def skipped_lines(self) -> list[str]:
        """One line for each kind of figure and reason."""
        return [
            f"left out: {what} of {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {why}"
            for (what, why), names in self._skipped.items()
        ]

    def _stem(self, parts):
        *place, kind = (re.sub(r"[^A-Za-z0-9.=+-]+", "-", part).strip("-.") or "x" for part in parts)
        plain = f"{'_'.join(place)[:LONGEST_STEM]}_{kind}"
        stem, number = plain, 1
        # Some file systems do not tell upper from lower case.
        while stem.lower() in self._stems:
            number += 1
            stem = f"{plain}-{number}"
        self._stems.add(stem.lower())
        return stem
