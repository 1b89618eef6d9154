"""The picture of attention: frames under their maps, and the weights of the frames beside them."""

import math
import os
from dataclasses import dataclass

import numpy as np

from reporting.style import COLOURS, FORMATS, figure_style, new_figure, save
from utils.errors import InputError


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
        save(_attention(title, rows, pictures), stem, [suffix.removeprefix(".")])


def _attention(title, rows, pictures):
    count, positions = rows[0].spatial.shape
    maps = [row.spatial * positions for row in rows]
    low, high = min(map(np.min, maps)), max(map(np.max, maps))
    reach = max(np.abs(row.temporal * count - 1).max() for row in rows)
    figure = new_figure(1.15 * count + 4.2, 1.5 * len(rows) + 1.2)
    axes = figure.subplots(len(rows), count + 1, squeeze=False, width_ratios=[1] * count + [1.6])
    for row, values, line in zip(rows, maps, axes, strict=True):
        for frame in range(count):
            image = _draw_frame(line[frame], values[frame], None if pictures is None else pictures[frame], low, high)
        line[0].set_ylabel(f"{row.name}\n→ {row.predicted}", rotation=0, ha="right", va="center")
        _draw_weights(line[count], row.temporal * count, reach)
    for frame in range(count):
        axes[0][frame].set_title(f"frame {frame + 1}", fontsize="medium")
    axes[0][count].set_title("temporal attention,\nmultiples of uniform", fontsize="medium")
    axes[-1][count].set_xlabel("frame")
    bar = figure.colorbar(image, ax=axes[:, :count], location="bottom", shrink=0.5, aspect=40)
    bar.set_label("spatial attention, multiples of uniform")
    figure.suptitle(title)
    return figure


def _draw_frame(axes, values, picture, low, high):
    """The map of one frame, over its picture in grey."""
    heat = _square(values)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    extent = (0, 1, 0, 1)
    if picture is not None:
        axes.imshow(picture.mean(2), cmap="gray", vmin=0, vmax=255, extent=extent)
    smooth = "bilinear" if heat.size > 64 else "nearest"
    opacity = 1.0 if picture is None else 0.55
    return axes.imshow(heat, cmap="viridis", vmin=low, vmax=high, alpha=opacity, extent=extent, interpolation=smooth)


def _draw_weights(axes, weights, reach):
    """How much more or less than uniform attention each frame has; at most ``reach`` anywhere in the picture."""
    axes.bar(np.arange(1, len(weights) + 1), weights - 1, bottom=1, color=COLOURS[0])
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(ylim=(1 - 1.15 * reach, 1 + 1.15 * reach), xticks=[1, len(weights)])
    axes.yaxis.tick_right()


def _square(values):
    """Positions as a square grid where they make one, else as a row."""
    side = math.isqrt(len(values))
    return values.reshape(side, side) if side * side == len(values) else values[None]
