"""Matrices as pictures: accuracy by task and step, confusion of tasks and of classes, similarity of steps."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from reporting.plots import foot
from reporting.style import SHADES, new_figure, wrapped

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


def draw_similarity(title: str, note: str, matrix: np.ndarray) -> Figure:
    """``matrix`` (steps, steps): CKA times 100 between the features after two steps."""
    steps = [str(step) for step in range(len(matrix))]
    return _draw(title, note, matrix, steps, "After step", "After step", "Linear CKA (times 100)", zeros=True)


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
    foot(figure, note)
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
