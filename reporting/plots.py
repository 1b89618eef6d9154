"""Curves (accuracy over steps, forgetting per task, loss terms over epochs) and matrices (accuracy, confusion)."""

import math

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reporting.style import SHADES, curve_style, new_figure, wrapped

MOST_CURVES = 9
MOST_TICKS = 12
LEGEND_WIDTH = 34


def draw_accuracy(title: str, note: str, curves: list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]) -> Figure:
    """Curves with bands of one standard deviation; ``curves`` is a list of (name, classes seen, mean, spread).

    ``note``, here as in all figures: the line at the foot that says what is drawn of how many runs.
    Up to MOST_CURVES share one panel. More would hide one another: each then has a panel, the others behind it in grey.
    """
    names = [name for name, *_ in curves]
    if len(curves) > MOST_CURVES:
        figure, panels = _panels(title, note, names)
        for index, axes in enumerate(panels):
            for _, seen, mean, _ in curves:
                axes.plot(seen, mean, color="0.8", linewidth=0.8, zorder=1)
            _draw_curve(axes, curves[index], curve_style(0))
            _label_accuracy(axes, curves, "Accuracy (%)", MOST_TICKS // 2)
        return figure
    figure, axes = _with_room_for_legend(title, note, names, 4.8)
    for index, curve in enumerate(curves):
        _draw_curve(axes, curve, curve_style(index))
    _label_accuracy(axes, curves, "Test accuracy on all classes seen (%)", MOST_TICKS)
    figure.legend(loc="outside right upper", handlelength=3.2)
    return figure


def draw_forgetting(title: str, note: str, points: list[tuple[str, np.ndarray, np.ndarray]]) -> Figure:
    """A point for each task with its spread; ``points`` is a list of (name, mean, spread).

    Up to MOST_CURVES stand side by side in one panel. More have a panel each, the others behind it in grey.
    """
    names, tasks = [name for name, *_ in points], max(len(mean) for _, mean, _ in points)
    if len(points) > MOST_CURVES:
        figure, panels = _panels(title, note, names, sharey=True)
        for index, axes in enumerate(panels):
            for _, mean, _ in points:
                axes.plot(range(len(mean)), mean, "o", color="0.8", markersize=3, zorder=1)
            _draw_points(axes, points[index], curve_style(0), 0)
            _label_forgetting(axes, tasks, "Forgetting (points)", MOST_TICKS // 2)
        return figure
    figure, axes = _with_room_for_legend(title, note, names, max(4.0, 0.09 * tasks * len(points)))
    for index, row in enumerate(points):
        _draw_points(axes, row, curve_style(index), (index + 0.5) / len(points) * 0.84 - 0.42)
    for task in range(tasks - 1):
        axes.axvline(task + 0.5, color="0.6", linewidth=0.8)
    _label_forgetting(axes, tasks, "Forgetting after the last step (points)", MOST_TICKS)
    figure.legend(loc="outside right upper")
    return figure


def draw_losses(
    title: str, note: str, terms: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]
) -> Figure:
    """A panel per loss term over the epochs of all steps; ``terms`` is {name: (epoch, mean, spread, step starts)}."""
    figure, panels = _panels(title, note, list(terms), sharex=True)
    for axes, (epoch, mean, spread, starts) in zip(panels, terms.values(), strict=True):
        alone = {"marker": "o", "markersize": 2.5} if len(epoch) <= 40 else {}
        # Cut where steps begin: no line runs from one step into the next.
        for part in np.split(np.arange(len(epoch)), np.searchsorted(epoch, starts[1:])):
            axes.plot(epoch[part], mean[part], color=curve_style(0)["color"], **alone)
            _band(axes, epoch[part], mean[part], spread[part], curve_style(0)["color"])
        for start in starts[1:]:
            axes.axvline(start - 0.5, color="0.5", linewidth=0.8, linestyle=":")
        axes.set(xlabel="Epoch, over all steps", ylabel="Loss")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure


def _draw_curve(axes, curve, look):
    name, seen, mean, spread = curve
    axes.plot(seen, mean, label=wrapped(name, LEGEND_WIDTH), **look)
    _band(axes, seen, mean, spread, look["color"])


def _draw_points(axes, row, look, place):
    name, mean, spread = row
    look = look | {"linestyle": "none", "markersize": 4, "capsize": 1.5, "elinewidth": 0.9}
    error = spread if spread.any() else None
    axes.errorbar(np.arange(len(mean)) + place, mean, error, label=wrapped(name, LEGEND_WIDTH), **look)


def _label_forgetting(axes, tasks, label, most_ticks):
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.set(xlabel="Task", ylabel=label, xlim=(-0.5, tasks - 0.5))
    axes.grid(visible=False, axis="x")
    _ticks(axes, range(tasks), most_ticks)


def _band(axes, where, mean, spread, colour):
    if spread.any():
        axes.fill_between(where, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)


def _label_accuracy(axes, curves, label, most_ticks):
    axes.set(xlabel="Classes seen", ylabel=label, ylim=(0, 103))
    _ticks(axes, sorted({int(value) for _, seen, *_ in curves for value in seen}), most_ticks)


def _panels(title, note, names, **shared):
    """A Figure and a list of Axes, one for each of ``names``, which are their titles."""
    columns = min(len(names), 3)
    rows = math.ceil(len(names) / columns)
    figure = new_figure(max(2.5 * columns, 4.5), 0.5 + 2.1 * rows)
    panels = list(figure.subplots(rows, columns, squeeze=False, **shared).flat)
    for axes in panels[len(names) :]:
        axes.remove()
    for axes, name in zip(panels, names, strict=False):
        axes.set_title(wrapped(name, 30), fontsize="small")
        axes.tick_params(labelbottom=True, labelleft=True)
    figure.suptitle(wrapped(title, 30 * columns), fontsize="medium")
    _foot(figure, note)
    return figure, panels[: len(names)]


def _with_room_for_legend(title, note, names, width):
    """A Figure and its Axes, ``width`` inches wide, with room for a legend of these names at the right."""
    lines = sum(1 + wrapped(name, LEGEND_WIDTH).count("\n") for name in names)
    longest = max(min(len(name), LEGEND_WIDTH) for name in names)
    figure = new_figure(width + 0.6 + 0.07 * longest, max(3.4, 0.6 + 0.17 * lines))
    axes = figure.subplots()
    axes.set_title(wrapped(title, round(11 * width)), fontsize="medium")
    _foot(figure, note)
    return figure, axes


def _foot(figure, note):
    """The line below everything, in small type."""
    figure.supxlabel(wrapped(note, int(15 * figure.get_figwidth())), fontsize="small", color="0.3")


def _ticks(axes, values, most):
    if len(values) <= most:
        axes.set_xticks(list(values))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(most, integer=True))


MOST_NUMBERS = 16  # rows of a matrix up to which each cell has its number
MOST_NAMES = 160  # classes up to which each has its name
LONGEST_NAME = 32


def draw_accuracy_matrix(title: str, note: str, matrix: np.ndarray) -> Figure:
    """``matrix`` (steps, steps) in per cent: row after step t, column task j; empty where NaN."""
    steps = [str(step) for step in range(len(matrix))]
    return _draw(title, note, matrix, steps, "Task", "After step", "Test accuracy (%)", zeros=True)


def draw_task_confusion(title: str, note: str, shares: np.ndarray) -> Figure:
    """``shares`` (tasks, tasks) in per cent of a row: true task, predicted task."""
    tasks = [str(task) for task in range(len(shares))]
    labels = "Task of the predicted class", "Task of the true class"
    return _draw(title, note, shares, tasks, *labels, "Share of the row (%)")


def draw_class_confusion(title: str, note: str, shares: np.ndarray, names: list[str]) -> Figure:
    """``shares`` (classes, classes) in per cent of a row: true class, predicted class, in class order."""
    short = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in names]
    return _draw(title, note, shares, short, "Predicted class", "True class", "Share of the row (%)")


def _draw(title, note, matrix, names, x_label, y_label, unit, zeros=False):
    side = _side(len(matrix), max(map(len, names)))
    figure = new_figure(1.08 * side + 0.7, side)
    axes = figure.subplots()
    image = axes.imshow(matrix, SHADES, vmin=0, vmax=100, interpolation="none")
    figure.colorbar(image, ax=axes, label=unit, shrink=0.8 if side < 8 else 0.5)
    if len(matrix) <= MOST_NUMBERS:
        _write_numbers(axes, matrix, zeros)
    _name_cells(axes, names)
    axes.grid(visible=False)
    axes.set(xlabel=x_label, ylabel=y_label)
    figure.suptitle(wrapped(title, int(11 * side)), fontsize="medium")
    _foot(figure, note)
    return figure


def _side(count, longest):
    """Inches of a figure with ``count`` rows whose names, of up to ``longest`` characters, stay apart."""
    return 1.6 + 0.05 * longest + max(2.2, (0.38 if count <= MOST_NUMBERS else 0.115) * min(count, MOST_NAMES))


def _write_numbers(axes, matrix, zeros):
    for (row, column), value in np.ndenumerate(matrix):
        # In a confusion most cells are empty; a task that is forgotten altogether says so with its 0.
        if value > 0 or (value == 0 and zeros):
            colour = "white" if value > 60 else "black"
            axes.text(
                column,
                row,
                f"{value:.0f}",
                ha="center",
                va="center",
                color=colour,
                fontsize=matplotlib.rcParams["xtick.labelsize"],
            )


def _name_cells(axes, names):
    every = -(-len(names) // MOST_NAMES)
    places = range(0, len(names), every)
    upright = max(map(len, names)) <= 2
    size = matplotlib.rcParams["xtick.labelsize"] if len(names) <= MOST_NUMBERS else 7
    axes.set_xticks(places, [names[place] for place in places], rotation=0 if upright else 90, fontsize=size)
    axes.set_yticks(places, [names[place] for place in places], fontsize=size)
