"""How figures look, and how they are rendered: readable in print and by the colour-blind, the same bytes each time."""

import contextlib
import io
import logging
import os
import textwrap
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib import style as styles
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from utils.errors import InputError
from utils.files import atomic_path

# Okabe and Ito, without the yellow that fades on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
LINES = ("-", "--", "-.", ":")
# What has a size of its own: ``<name>size`` of matplotlib's settings.
TEXTS = ("axes.label", "legend.font", "xtick.label", "ytick.label")
# One hue from light to dark: the order survives in grey.
SHADES = "Blues"
FORMATS = ("svg", "pdf", "png")
# Files hold no time of making.
METADATA = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
BASE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=COLOURS),
    # Dollars in names of classes are dollars.
    "text.parse_math": False,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
    "svg.hashsalt": "report",
}


@contextlib.contextmanager
def figure_style(style: str | None = None) -> Iterator[None]:
    """Draw in the style of this project, with ``style`` (a matplotlib style's name or file) on top of it.

    InputError if there is no such style, or it is not one.
    """
    if style and style not in styles.available and style != "default" and not os.path.isfile(style):
        some = ", ".join(name for name in styles.available if not name.startswith("_"))
        raise InputError(f"--style {style}: neither a file nor a style of matplotlib; choose from {some}")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(BASE)
        if style and style != "default":
            _use(style)
        with missing_glyphs():  # who wants to say so catches them within
            yield


def _use(style):
    complaints = _Complaints()
    logger = logging.getLogger("matplotlib")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(complaints)
    try:
        styles.use(style)
    except (OSError, ValueError) as error:
        complaints.lines.append(str(error))
    finally:
        logger.removeHandler(complaints)
        logger.propagate = propagate
    if complaints.lines:
        raise InputError(f"--style {style}: {complaints.lines[0]}; correct the file, or name another style")


class _Complaints(logging.Handler):
    """Keeps the first line of each warning: matplotlib warns of lines that it does not understand, and goes on."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage().strip().split("\n")[0])


def new_figure(width: float, height: float) -> Figure:
    """An empty Figure that makes room for all its texts; sizes in inches, larger where the style has larger type."""
    larger = max(1, *(_points(f"{text}size") / BASE[f"{text}size"] for text in TEXTS))
    figure = Figure(figsize=(width * larger, height * larger), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _points(setting):
    return FontProperties(size=matplotlib.rcParams[setting]).get_size_in_points()


def curve_style(index: int) -> dict[str, str]:
    """Colour, marker and line of curve ``index``: the first 63 differ in colour or marker, neighbours in both."""
    colours = matplotlib.rcParams["axes.prop_cycle"].by_key().get("color", COLOURS)
    line = LINES[index // len(colours) % len(LINES)]
    return {"color": colours[index % len(colours)], "marker": MARKERS[index % len(MARKERS)], "linestyle": line}


def wrapped(text: str, width: int = 60) -> str:
    """``text`` in lines of at most ``width`` characters."""
    return "\n".join(textwrap.wrap(text, width, break_on_hyphens=False)) or text


@contextlib.contextmanager
def missing_glyphs() -> Iterator[list[str]]:
    """Yield a list; when the block ends it has a line if the font lacked characters, in place of a warning for each."""
    lines = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield lines
    for each in caught:
        if "missing from font" not in str(each.message):
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
        elif not lines:
            line = "some characters are boxes, as the font lacks them; name one in a --style file: font.family: ..."
            lines.append(line)


def render(figure: Figure, formats: Iterable[str] = FORMATS) -> dict[str, bytes]:
    """``figure`` as bytes in each of ``formats``. InputError if the style asks for what is not installed."""
    files = {}
    try:
        # The places of texts are computed once, and are the same in all formats.
        if engine := figure.get_layout_engine():
            engine.execute(figure)
        with matplotlib.rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
            figure.set_layout_engine(None)  # for one that has an engine, "none" too, every format is drawn twice
        for format in formats:
            content = io.BytesIO()
            figure.savefig(content, format=format, metadata=METADATA[format])
            files[format] = content.getvalue()
    except RuntimeError as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"--style: cannot be drawn here ({reason}); choose another style") from None
    return files


def save(figure: Figure, stem: str, formats: Iterable[str] = FORMATS) -> dict[str, bytes]:
    """Write ``figure`` to ``<stem>.<format>`` in each of ``formats``, each whole or not at all; return the contents."""
    files = render(figure, formats)
    for format, content in files.items():
        with atomic_path(f"{stem}.{format}") as path, open(path, "wb") as file:
            file.write(content)
    return files
