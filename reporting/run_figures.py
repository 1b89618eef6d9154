"""The pictures in a run's own folder: loss and validation accuracy of each step, test accuracy over the steps."""

from __future__ import annotations

import os
from functools import partial

from engine.run_files import RunResults, read_epochs
from reporting.style import COLOURS, figure_style, new_figure, save


def draw_run(results: RunResults) -> None:
    """Draw a finished run into the ``figures/`` of its folder, as far as it is not drawn there."""
    epochs = read_epochs(results.folder)
    steps = sorted({step for step, _ in epochs.get("val_res", {})})
    drawings = {f"step_{step}": partial(_draw_epochs, step, epochs, results) for step in steps}
    os.makedirs(os.path.join(results.folder, "figures"), exist_ok=True)
    with figure_style():
        for name, draw in (drawings | {"accuracy": partial(_draw_accuracy, results)}).items():
            stem = os.path.join(results.folder, "figures", name)
            if not os.path.exists(f"{stem}.png"):
                save(draw(), stem, ("png",))


def _draw_epochs(step, epochs, results):
    """Training loss and validation accuracy over the epochs of one step."""
    figure = new_figure(8, 3.2)
    panels = figure.subplots(1, 2)
    names = ("train_loss", 1, "Training loss"), ("val_res", 100, "Validation accuracy (%)")
    for axes, colour, (name, unit, label) in zip(panels, COLOURS, names, strict=False):
        values = {epoch: unit * value for (of_step, epoch), value in epochs[name].items() if of_step == step}
        axes.plot(list(values), list(values.values()), color=colour)
        axes.set(xlabel="Epoch", ylabel=label)
    best = max(values, key=values.get)
    axes.plot(best, values[best], "o", color=colour, label=f"best: epoch {best}")
    axes.legend()
    classes = _classes_seen(results)
    figure.suptitle(f"Step {step}: classes {classes[step - 1] if step else 0} to {classes[step] - 1}")
    return figure


def _draw_accuracy(results):
    """Test accuracy on all classes seen, after each step."""
    figure = new_figure(5, 3.5)
    axes = figure.subplots()
    classes = _classes_seen(results)
    accuracy = [100 * value for value in results.accuracy_per_step]
    axes.plot(classes, accuracy, "o-", color=COLOURS[0])
    for place, value in zip(classes, accuracy, strict=True):
        axes.annotate(f"{value:.1f}", (place, value), xytext=(0, 6), textcoords="offset points", ha="center")
    axes.set(xlabel="Classes seen", ylabel="Test accuracy (%)", ylim=(0, 108), xticks=classes)
    axes.set_title(f"Mean accuracy {100 * results.mean_accuracy:.2f} %")
    return figure


def _classes_seen(results):
    return [len(counts) for counts in results.confusion]
