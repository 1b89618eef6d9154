"""The pictures in a run's own folder: training over all epochs, and test accuracy over the steps."""

from __future__ import annotations

import os

from engine.run_files import RunResults, read_epochs
from reporting.style import COLOURS, figure_style, new_figure, save


def draw_run(results: RunResults) -> None:
    """Draw a finished run into the ``figures/`` of its folder, as far as it is not drawn there."""
    epochs = read_epochs(results.folder)
    folder = os.path.join(results.folder, "figures")
    os.makedirs(folder, exist_ok=True)
    with figure_style():
        for name, draw in (("training", _draw_training), ("accuracy", _draw_accuracy)):
            stem = os.path.join(folder, name)
            if not os.path.exists(f"{stem}.png") and (epochs or name == "accuracy"):
                save(draw(results, epochs), stem, ("png",))


def _draw_training(results, epochs):
    """Training loss and validation accuracy over the epochs of all steps; of each step the best epoch is marked."""
    figure = new_figure(9, 3.2)
    panels = figure.subplots(1, 2)
    classes, start = [len(counts) for counts in results.confusion or ()], 0
    for step in sorted({step for step, _ in epochs["val_res"]}):
        loss, accuracy = (
            [value for (of_step, _), value in epochs[name].items() if of_step == step]
            for name in ("train_loss", "val_res")
        )
        places = range(start, start + len(loss))
        best = accuracy.index(max(accuracy))
        panels[0].plot(places, loss, color=COLOURS[0])
        panels[1].plot(places, [100 * value for value in accuracy], color=COLOURS[1])
        panels[1].plot(places[best], 100 * accuracy[best], "o", color=COLOURS[1])
        for axes in panels:
            axes.axvline(start, color="0.8", linewidth=0.8, zorder=0)
        label = f"{classes[step]} classes" if classes else f"step {step}"
        panels[1].annotate(label, (start, 1.01), xycoords=("data", "axes fraction"), fontsize=7)
        start += len(loss)
    panels[0].set(xlabel="Epoch of the run", ylabel="Training loss")
    panels[1].set(xlabel="Epoch of the run", ylabel="Validation accuracy (%)")
    return figure


def _draw_accuracy(results, _):
    """Test accuracy on all classes seen, after each step."""
    figure = new_figure(5, 3.5)
    axes = figure.subplots()
    classes = [len(counts) for counts in results.confusion or ()] or list(range(len(results.accuracy_per_step)))
    accuracy = [100 * value for value in results.accuracy_per_step]
    axes.plot(classes, accuracy, "o-", color=COLOURS[0])
    for place, value in zip(classes, accuracy, strict=True):
        axes.annotate(f"{value:.1f}", (place, value), xytext=(0, 6), textcoords="offset points", ha="center")
    axes.set(xlabel="Classes seen", ylabel="Test accuracy (%)", ylim=(0, 108), xticks=classes)
    axes.set_title(f"Mean accuracy {100 * (results.mean_accuracy or 0):.2f} %")
    return figure
