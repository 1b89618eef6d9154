"""Curves of a run: loss and validation accuracy of each step, accuracy over the steps."""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from utils.files import written_aside

BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe and Ito: distinct for the colour-blind, and in grey


def draw_epochs(path, task, step_log):
    """One picture of a step: training loss and validation accuracy over its epochs. Nothing if it had no epochs."""
    if not step_log.rows:
        return
    epochs = [row["epoch"] for row in step_log.rows]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    loss.plot(epochs, [row["train_loss"] for row in step_log.rows], color=BLUE)
    loss.set(xlabel="Epoch", ylabel="Training loss")
    accuracy.plot(epochs, [100 * row["val_res"] for row in step_log.rows], color=ORANGE)
    best = step_log.rows[step_log.best_epoch]
    accuracy.plot(best["epoch"], 100 * best["val_res"], "o", color=ORANGE, label=f"best: epoch {best['epoch']}")
    accuracy.set(xlabel="Epoch", ylabel="Validation accuracy (%)")
    accuracy.legend()
    figure.suptitle(f"Step {task.index}: classes {task.start} to {task.stop - 1}")
    _save(figure, path)


def draw_accuracy(path, results, tasks):
    """Test accuracy on all classes seen, after each step."""
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    accuracy = [100 * value for value in results["accuracy_per_step"]]
    axes.plot([task.stop for task in tasks], accuracy, "o-", color=BLUE)
    for task, value in zip(tasks, accuracy, strict=True):
        axes.annotate(f"{value:.1f}", (task.stop, value), xytext=(0, 6), textcoords="offset points", ha="center")
    axes.set(xlabel="Classes seen", ylabel="Test accuracy (%)", ylim=(0, 108), xticks=[task.stop for task in tasks])
    axes.set_title(f"Mean accuracy {100 * results['mean_accuracy']:.2f} %")
    _save(figure, path)


def _save(figure, path):
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    FigureCanvasAgg(figure)
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=150)
