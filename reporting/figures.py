"""The figures of a report: which there are for these runs, what they show in words; and a run's own two pictures."""

import os

from engine.epoch_rows import GRADIENT_COSINE, GRADIENT_NORM, read_epochs
from engine.run_files import RunResults
from reporting import gradients, matrices, modalities, plots, representation, statistics
from reporting.figure_set import FigureSet
from reporting.layouts import group_by, sort_rows
from reporting.runs import Group, group_seeds
from reporting.style import COLOURS, figure_style, new_figure, save


def figures_of(groups: list[Group]) -> FigureSet:
    """The FigureSet of ``groups``: for each data set and modality all methods together, then each row by itself."""
    figures = FigureSet()
    for (dataset, modality), members in group_by(groups, ("dataset", "modality")):
        # Named anew: within a data set and modality these need not be told.
        rows = sort_rows(group_seeds([run for _, runs in members for run in runs]))
        section = f"{dataset}, {modality}"
        _accuracy(figures, (dataset, modality), section, rows)
        _forgetting(figures, (dataset, modality), section, rows)
        _representation(figures, (dataset, modality), section, rows)
        for name, runs in rows:
            for add in (_matrix, _confusions, _losses, _gradients, _similarity, _modalities):
                add(figures, (dataset, modality, name), f"{section}: {name}", runs)
    return figures


def _note(runs_of_rows, shown):
    """What is ``shown`` besides the mean, of how many runs; nothing but the number where there is one run each."""
    sizes = [len(runs) for runs in runs_of_rows]
    unit = "runs" if any(run.pooled for runs in runs_of_rows for run in runs) else "seeds"
    low, high = min(sizes), max(sizes)
    if high == 1:
        return f"One {unit[:-1]}"
    number = f"{low}" if low == high else f"{low} to {high}"
    return f"Mean of {number} {unit}" + (f"; {shown}: ± one sample standard deviation over them" if shown else "")


def _accuracy(figures, parts, section, rows):
    curves = []
    for name, runs in rows:
        seen = statistics.classes_seen(runs[0])
        if seen is None:
            figures.skip("accuracy over steps", "its arguments do not tell the classes of each step", name)
        else:
            curves.append((name, seen, *statistics.accuracy_over_steps(runs)))
    if curves:
        ends = "; ".join(f"{name} ends at {mean[-1]:.1f} %" for name, _, mean, _ in curves)
        alt = f"Test accuracy on all classes seen, over the number of classes seen: {ends}."
        title = f"Accuracy over steps, {section}"
        note = _note([runs for _, runs in rows], "bands")
        figures.add((*parts, "accuracy"), section, title, alt, lambda: plots.draw_accuracy(title, note, curves))


def _forgetting(figures, parts, section, rows):
    points = []
    for name, runs in rows:
        if len(runs[0].accuracy_per_step) == 1:
            figures.skip("forgetting per task", "a single step has none", name)
        else:
            points.append((name, *statistics.forgetting_by_task(runs)))
    if points:
        means = "; ".join(f"{name} {mean.mean():.1f} points" for name, mean, _ in points)
        alt = f"Forgetting of each earlier task after the last step; mean over tasks: {means}."
        title = f"Forgetting per task, {section}"
        note = _note([runs for _, runs in rows], "bars")
        figures.add((*parts, "forgetting"), section, title, alt, lambda: plots.draw_forgetting(title, note, points))


def _matrix(figures, parts, section, runs):
    title = f"Accuracy matrix, {parts[-1]}"
    matrix = statistics.accuracy_matrix(runs)
    alt = f"Test accuracy on each task after each step; after the last: {_listed(matrix[-1])} %."
    draw = matrices.draw_accuracy_matrix
    figures.add((*parts, "accuracy-matrix"), section, title, alt, lambda: draw(title, _note([runs], ""), matrix))


def _confusions(figures, parts, section, runs):
    if not all(run.confusion for run in runs):
        figures.skip("confusion", "results.json has no confusion; train again to have it", parts[-1])
        return
    shares, names = statistics.class_confusion(runs), statistics.class_names(runs)
    title = f"Confusion between classes, {parts[-1]}"
    alt = f"Share of each true class taken for each class after the last step; {_worst(shares, names)}."
    draw, note = matrices.draw_class_confusion, _note([runs], "")
    seen = statistics.classes_seen(runs[0])
    if seen is None or seen[-1] != len(shares):
        figures.skip("confusion between tasks", "its arguments do not tell the classes of each step", parts[-1])
    else:
        _task_confusion(figures, parts, section, runs)
    figures.add((*parts, "confusion-classes"), section, title, alt, lambda: draw(title, note, shares, names))


def _task_confusion(figures, parts, section, runs):
    shares = statistics.task_confusion(runs)
    title = f"Confusion between tasks, {parts[-1]}"
    alt = f"Share of each task's clips taken for a class of each task; of its own: {_listed(shares.diagonal())} %."
    draw = matrices.draw_task_confusion
    figures.add((*parts, "confusion-tasks"), section, title, alt, lambda: draw(title, _note([runs], ""), shares))


def _losses(figures, parts, section, runs):
    terms = statistics.losses_over_epochs(runs)
    if not terms:
        figures.skip("loss terms", "no rows in epochs.csv", parts[-1])
        return
    title = f"Loss terms over epochs, {parts[-1]}"
    alt = f"Loss terms over the epochs of all steps: {', '.join(terms)}."
    note = _note([runs], "bands")
    figures.add((*parts, "losses"), section, title, alt, lambda: plots.draw_losses(title, note, terms))


def _gradients(figures, parts, section, runs):
    panels = {
        label: terms
        for label, kind in (("Length of the gradient", GRADIENT_NORM), ("Cosine to the rest", GRADIENT_COSINE))
        if (terms := statistics.gradients_over_epochs(runs, kind))
    }
    if panels:
        title = f"Gradients of loss terms, {parts[-1]}"
        terms = ", ".join(next(iter(panels.values())))
        alt = f"Length and direction of the gradient of each loss term over epochs: {terms}."
        note = _note([runs], "bands")
        draw = plots.draw_gradients
        figures.add((*parts, "gradients"), section, title, alt, lambda: draw(title, note, panels), gradients.READING)


def _representation(figures, parts, section, rows):
    kept = representation.with_features(rows)
    if kept:
        title = f"Features of the test clips, {section}"
        alt = f"Drift of class means, spread within classes, purity and similarity over steps of {_names(kept)}."
        curves, note = representation.curves(kept), _note([runs for _, runs in kept], "bands")
        draw, reading = plots.draw_measures, representation.READING
        figures.add((*parts, "features"), section, title, alt, lambda: draw(title, note, curves), reading)


def _similarity(figures, parts, section, runs):
    if representation.with_features([("", runs)]):
        title = f"Similarity of features between steps, {parts[-1]}"
        matrix = representation.similarity_matrix(runs)
        alt = f"Linear CKA between the features after any two steps; of the last: {_listed(matrix[-1])}."
        draw, reading = matrices.draw_similarity, "Dark: the features of the clips that both steps test tell the same."
        figures.add((*parts, "cka"), section, title, alt, lambda: draw(title, _note([runs], ""), matrix), reading)


def _modalities(figures, parts, section, runs):
    counts = modalities.counts_of(runs)
    if counts:
        title = f"Modalities replaced, {parts[-1]}"
        lines = modalities.curves(counts)
        ends = "; ".join(f"{name} {mean[-1]:.1f} %" for name, (_, mean) in lines.items() if len(mean))
        alt = f"Accuracy after the last step by what is replaced: {ends}."
        draw = plots.draw_modalities
        bars, note = modalities.bars(counts), _note([runs], "")
        figures.add(
            (*parts, "modalities"), section, title, alt, lambda: draw(title, note, lines, bars), modalities.READING
        )


def _names(groups):
    return ", ".join(name for name, _ in groups)


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
