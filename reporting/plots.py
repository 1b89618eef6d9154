"""Curves: accuracy over steps, forgetting per task, loss terms and their gradients over epochs, measures over steps."""

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reporting.style import LINES, MARKERS, curve_style, new_figure, wrapped

MOST_CURVES = 9
MOST_TICKS = 12
LEGEND_WIDTH = 34
LEAST_LENGTH = 1e-4  # of a gradient that is drawn, relative to the longest


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
    for axes, values in zip(panels, terms.values(), strict=True):
        alone = {"marker": "o", "markersize": 2.5} if len(values[0]) <= 40 else {}
        _draw_epochs(axes, values, {"color": curve_style(0)["color"], **alone})
        _label_epochs(axes, values[-1], "Loss")
    return figure


def draw_gradients(
    title: str, note: str, panels: dict[str, dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]]
) -> Figure:
    """A panel for each of ``panels``, {what is drawn: terms as of ``draw_losses``}, with a curve for each loss term."""
    names = list(dict.fromkeys(name for terms in panels.values() for name in terms))
    longest = max(min(len(name), LEGEND_WIDTH) for name in names)
    figure = new_figure(4.2 * len(panels) + 0.6 + 0.07 * longest, 3.4)
    shown = figure.subplots(1, len(panels), squeeze=False, sharex=True)[0]
    for axes, (label, terms) in zip(shown, panels.items(), strict=True):
        for name, values in terms.items():
            _draw_epochs(axes, values, curve_style(names.index(name)) | {"markersize": 3})
        highest = max(values[1].max() for values in terms.values())
        if all((values[1] > 0).all() for values in terms.values()):
            # What is smaller than that is round-off, as of a teacher that nothing has departed from yet.
            axes.set(yscale="log", ylim=(LEAST_LENGTH * highest, 2 * highest))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        else:
            axes.axhline(0, color="0.4", linewidth=0.8)
        _label_epochs(axes, next(iter(terms.values()))[-1], label)
    figure.suptitle(wrapped(title, 90), fontsize="medium")
    _name_curves(figure, names)
    foot(figure, note)
    return figure


def draw_measures(
    title: str, note: str, curves: dict[str, dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]]
) -> Figure:
    """A panel for each measure, a curve for each row; ``curves`` is {measure: {row: (step, mean, spread)}}."""
    names = list(dict.fromkeys(name for of_measure in curves.values() for name in of_measure))
    longest = max(min(len(name), LEGEND_WIDTH) for name in names)
    columns = min(2, len(curves))
    height = max(0.5 + 2.3 * math.ceil(len(curves) / columns), 0.6 + 0.17 * len(names))
    figure = new_figure(3 * columns + 0.6 + 0.07 * longest, height)
    panels = list(figure.subplots(math.ceil(len(curves) / columns), columns, squeeze=False).flat)
    for axes in panels[len(curves) :]:
        axes.remove()
    for axes, (label, of_measure) in zip(panels, curves.items(), strict=False):
        for name, (step, mean, spread) in of_measure.items():
            look = curve_style(names.index(name)) | {"markersize": 4}
            axes.plot(step, mean, **look)
            _band(axes, step, mean, spread, look["color"])
        axes.set(xlabel="After step", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(MOST_TICKS // 2, integer=True))
    figure.suptitle(wrapped(title, 30 * columns), fontsize="medium")
    _name_curves(figure, names)
    foot(figure, note)
    return figure


def draw_modalities(
    title: str,
    note: str,
    curves: dict[str, tuple[np.ndarray, np.ndarray]],
    bars: list[tuple[str, float, float]],
) -> Figure:
    """Accuracy over steps, {what is replaced: (steps, per cent)}, beside (class, points by audio, points by visual).

    The first of ``curves`` is that with nothing replaced.
    """
    figure = new_figure(10.5, max(4.6, 1.2 + 0.17 * len(bars)))
    left, right = figure.subplots(1, 2)
    for index, (name, (step, mean)) in enumerate(curves.items()):
        colour = "black" if not index else curve_style(int(name.startswith("visual")))["color"]
        look = {"color": colour, "marker": MARKERS[(index - 1) % 4] if index else "X", "markersize": 4}
        left.plot(step, mean, label=name, linestyle=LINES[(index - 1) % 4] if index else "-", **look)
    left.set(xlabel="After step", ylabel="Test accuracy (%)", ylim=(0, 103))
    left.xaxis.set_major_locator(MaxNLocator(MOST_TICKS // 2, integer=True))
    left.legend(title="replaced", fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
    places = np.arange(len(bars))[::-1]
    for number, name in enumerate(("audio", "visual")):
        right.plot([each[1 + number] for each in bars], places, label=f"{name} adds", **_point(number))
    right.axvline(0, color="0.4", linewidth=0.8)
    right.set_yticks(places, [each[0][:30] for each in bars], fontsize="x-small")
    right.set(xlabel="Added to accuracy after the last step (points)", ylabel="Class")
    right.legend(fontsize="x-small")
    figure.suptitle(wrapped(title, 100), fontsize="medium")
    foot(figure, note)
    return figure


def _point(number):
    return curve_style(number) | {"linestyle": "none", "markersize": 5}


def _name_curves(figure, names):
    """A legend of the curves of several panels: curve i looks like ``curve_style(i)``."""
    lines = [Line2D([], []) for _ in names]
    for index, line in enumerate(lines):
        line.set(**curve_style(index))
    labels = [wrapped(name, LEGEND_WIDTH) for name in names]
    figure.legend(lines, labels, loc="outside right upper", handlelength=3.2)


def _draw_epochs(axes, values, look):
    """``values`` over epochs, cut where steps begin: no line runs from one step into the next."""
    epoch, mean, spread, starts = values
    for part in np.split(np.arange(len(epoch)), np.searchsorted(epoch, starts[1:])):
        axes.plot(epoch[part], mean[part], **look)
        _band(axes, epoch[part], mean[part], spread[part], look["color"])


def _label_epochs(axes, starts, label):
    for start in starts[1:]:
        axes.axvline(start - 0.5, color="0.5", linewidth=0.8, linestyle=":")
    axes.set(xlabel="Epoch, over all steps", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


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
    foot(figure, note)
    return figure, panels[: len(names)]


def _with_room_for_legend(title, note, names, width):
    """A Figure and its Axes, ``width`` inches wide, with room for a legend of these names at the right."""
    lines = sum(1 + wrapped(name, LEGEND_WIDTH).count("\n") for name in names)
    longest = max(min(len(name), LEGEND_WIDTH) for name in names)
    figure = new_figure(width + 0.6 + 0.07 * longest, max(3.4, 0.6 + 0.17 * lines))
    axes = figure.subplots()
    axes.set_title(wrapped(title, round(11 * width)), fontsize="medium")
    foot(figure, note)
    return figure, axes


def foot(figure: Figure, note: str):
    """The line below everything, in small type."""
    figure.supxlabel(wrapped(note, int(15 * figure.get_figwidth())), fontsize="small", color="0.3")


def _ticks(axes, values, most):
    if len(values) <= most:
        axes.set_xticks(list(values))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(most, integer=True))
