"""The pictures of a report: which there are for these runs, and what they show in words."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from reporting import plots as curve_figures
from reporting import plots as matrix_figures
from reporting import statistics as run_numbers
from reporting.layouts import in_order, split
from reporting.runs import group_seeds
from reporting.statistics import losses_over_epochs

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


def gallery(groups):
    """The Gallery of ``groups``: for each data set and modality all methods together, then each row by itself."""
    shown = Gallery()
    for (dataset, modality), mine in split(groups, ("dataset", "modality")):
        # Named anew: within a data set and modality these need not be told.
        named = in_order(group_seeds([run for _, runs in mine for run in runs]))
        place = f"{dataset}, {modality}"
        _accuracy(shown, (dataset, modality), place, named)
        _forgetting(shown, (dataset, modality), place, named)
        for name, runs in named:
            _matrix(shown, (dataset, modality, name), f"{place}: {name}", runs)
            _confusions(shown, (dataset, modality, name), f"{place}: {name}", runs)
            _losses(shown, (dataset, modality, name), f"{place}: {name}", runs)
    return shown


def _accuracy(shown, parts, place, named):
    curves = []
    for name, runs in named:
        seen = run_numbers.classes_seen(runs[0])
        if seen is None:
            shown.leave_out("accuracy over steps", "its arguments do not tell the classes of each step", name)
        else:
            curves.append((name, seen, *run_numbers.accuracy_over_steps(runs)))
    if curves:
        ends = "; ".join(f"{name} ends at {mean[-1]:.1f} %" for name, _, mean, _ in curves)
        alt = f"Test accuracy on all classes seen, over the number of classes seen: {ends}."
        title = f"Accuracy over steps, {place}"
        shown.add((*parts, "accuracy"), place, title, alt, lambda: curve_figures.draw_accuracy(title, curves))


def _forgetting(shown, parts, place, named):
    points = []
    for name, runs in named:
        if len(runs[0]["accuracy_per_step"]) == 1:
            shown.leave_out("forgetting per task", "a single step has none", name)
        else:
            points.append((name, *run_numbers.forgetting_by_task(runs)))
    if points:
        means = "; ".join(f"{name} {mean.mean():.1f} points" for name, mean, _ in points)
        alt = f"Forgetting of each earlier task after the last step; mean over tasks: {means}."
        title = f"Forgetting per task, {place}"
        shown.add((*parts, "forgetting"), place, title, alt, lambda: curve_figures.draw_forgetting(title, points))


def _matrix(shown, parts, place, runs):
    title = f"Accuracy matrix, {parts[-1]}"
    matrix = run_numbers.accuracy_matrix(runs)
    alt = f"Test accuracy on each task after each step; after the last: {_listed(matrix[-1])} %."
    draw = matrix_figures.draw_accuracy_matrix
    shown.add((*parts, "accuracy-matrix"), place, title, alt, lambda: draw(title, matrix))


def _confusions(shown, parts, place, runs):
    if not all("confusion" in run for run in runs):
        shown.leave_out("confusion", "results.json has no confusion; train again to have it", parts[-1])
        return
    shares, names = run_numbers.class_confusion(runs), run_numbers.class_names(runs)
    title = f"Confusion between classes, {parts[-1]}"
    alt = f"Share of each true class taken for each class after the last step; {_worst(shares, names)}."
    draw = matrix_figures.draw_class_confusion
    seen = run_numbers.classes_seen(runs[0])
    if seen is None or seen[-1] != len(shares):
        shown.leave_out("confusion between tasks", "its arguments do not tell the classes of each step", parts[-1])
    else:
        _task_confusion(shown, parts, place, runs)
    shown.add((*parts, "confusion-classes"), place, title, alt, lambda: draw(title, shares, names))


def _task_confusion(shown, parts, place, runs):
    shares = run_numbers.task_confusion(runs)
    title = f"Confusion between tasks, {parts[-1]}"
    alt = f"Share of each task's clips taken for a class of each task; of its own: {_listed(shares.diagonal())} %."
    draw = matrix_figures.draw_task_confusion
    shown.add((*parts, "confusion-tasks"), place, title, alt, lambda: draw(title, shares))


def _losses(shown, parts, place, runs):
    terms = losses_over_epochs(runs)
    if not terms:
        shown.leave_out("loss terms", "no rows in epochs.csv", parts[-1])
        return
    title = f"Loss terms over epochs, {parts[-1]}"
    alt = f"Loss terms over the epochs of all steps: {', '.join(terms)}."
    shown.add((*parts, "losses"), place, title, alt, lambda: curve_figures.draw_losses(title, terms))


def _worst(shares, names):
    wrong = shares.copy()
    wrong[range(len(names)), range(len(names))] = -1
    wrong[wrong != wrong] = -1
    true, taken = divmod(int(wrong.argmax()), len(names))
    if wrong[true, taken] <= 0:
        return "no class is taken for another"
    return f"the most frequent: {names[true]} taken for {names[taken]} ({wrong[true, taken]:.0f} %)"


def _listed(values):
    return ", ".join(f"{value:.1f}" for value in values)
