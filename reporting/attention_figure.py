"""The picture of attention: plain frames, the same under the map of each network, and the weights of the frames."""

import math
import os
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from reporting.style import COLOURS, FORMATS, figure_style, new_figure, save
from utils.errors import InputError

# From nothing over the frame to opaque: where little attention lies, the frame is seen.
_SHADES = colormaps["autumn_r"](np.linspace(0, 1, 256))
_SHADES[:, 3] = np.linspace(0, 0.8, 256)
OVER_FRAME = ListedColormap(_SHADES)
ALONE = colormaps["viridis"]


@dataclass
class Row:
    """One network's attention: ``spatial`` (F, S), summing to 1 over S; ``temporal`` (F,), summing to 1."""

    name: str
    predicted: str
    spatial: np.ndarray
    temporal: np.ndarray


def draw_attention(path: str, title: str, rows: list[Row], pictures: np.ndarray | None = None):
    """Draw ``rows`` over ``pictures`` (F, H, W, 3) uint8, or the maps alone, to a file of one of FORMATS.

    Colours share one scale over the whole picture, in multiples of uniform attention, so that rows compare.
    """
    stem, suffix = os.path.splitext(path)
    if suffix.removeprefix(".") not in FORMATS:
        raise InputError(f"--output {path}: not a {', '.join(f'.{format}' for format in FORMATS)} file")
    with figure_style():
        save(attention_figure(title, rows, pictures), stem, [suffix.removeprefix(".")])


def attention_figure(title: str, rows: list[Row], pictures: np.ndarray | None) -> Figure:
    """The Figure: a line of plain frames where there are ``pictures``, then a line for each of ``rows``."""
    count, positions = rows[0].spatial.shape
    plain = int(pictures is not None)
    spatial = np.stack([row.spatial for row in rows]) * positions
    colours = ScalarMappable(Normalize(spatial.min(), spatial.max()), OVER_FRAME if plain else ALONE)
    reach = max(np.abs(100 * (row.temporal * count - 1)).max() for row in rows)
    figure = new_figure(1.15 * count + 4.6, 1.35 * (len(rows) + plain) + 1.4)
    axes = figure.subplots(len(rows) + plain, count + 1, squeeze=False, width_ratios=[1] * count + [1.8])
    if pictures is not None:
        for frame in range(count):
            _show_frame(axes[0][frame], pictures[frame])
        _name_line(axes[0][0], "frames")
        axes[0][count].remove()
    for row, maps, line in zip(rows, spatial, axes[plain:], strict=True):
        for frame in range(count):
            if pictures is not None:
                _show_frame(line[frame], np.repeat(pictures[frame].mean(2, keepdims=True), 3, 2).astype(np.uint8))
            _show_map(line[frame], maps[frame], colours)
        _name_line(line[0], f"{row.name}\n→ {row.predicted}")
        _draw_weights(line[count], 100 * (row.temporal * count - 1), reach)
    for frame in range(count):
        axes[0][frame].set_title(f"frame {frame + 1}", fontsize="medium")
    axes[plain][count].set_title("temporal attention:\n% above or below uniform", fontsize="medium")
    axes[-1][count].set_xlabel("frame")
    bar = figure.colorbar(colours, ax=axes[:, :count], location="bottom", shrink=0.5, aspect=40)
    bar.set_label("spatial attention, multiples of uniform")
    assert isinstance(bar.formatter, ScalarFormatter)  # that of numbers
    bar.formatter.set_useOffset(False)
    figure.suptitle(title)
    return figure


def _show_frame(axes, picture):
    axes.imshow(picture, extent=(0, 1, 0, 1))
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)


def _show_map(axes, values, colours):
    """The map of one frame, over what its axes show."""
    heat = _square(values)
    smooth = "bilinear" if heat.size > 64 else "nearest"
    axes.imshow(heat, cmap=colours.cmap, norm=colours.norm, extent=(0, 1, 0, 1), interpolation=smooth)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)


def _name_line(axes, name):
    axes.set_ylabel(name, rotation=0, ha="right", va="center")


def _draw_weights(axes, per_cent, reach):
    """How much more or less than uniform attention each frame has; at most ``reach`` per cent anywhere."""
    axes.bar(np.arange(1, len(per_cent) + 1), per_cent, color=COLOURS[0])
    axes.axhline(0, color="black", linewidth=0.8)
    reach = max(reach, 1e-6)
    axes.set(ylim=(-1.25 * reach, 1.25 * reach), yticks=[-reach, 0, reach], xticks=[1, len(per_cent)])
    axes.set_yticklabels([f"{value:+.2g}" if value else "0" for value in (-reach, 0, reach)])
    axes.yaxis.tick_right()


def _square(values):
    """Positions as a square grid where they make one, else as a row."""
    side = math.isqrt(len(values))
    return values.reshape(side, side) if side * side == len(values) else values[None]
