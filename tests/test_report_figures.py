"""Every number of every figure, recomputed from the rows of the runs with pandas and scikit-learn."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix

from reporting.figures import figures_of
from reporting.plots import MOST_CURVES
from reporting.runs import find_runs, group_seeds
from reporting.style import MARKERS, curve_style, figure_style, render
from tests.helpers import report_runs

METHODS = {"LwF": "lwf", "AV-CIL": "avcil"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for seed in (1, 2, 3):
        for method in ("lwf", "avcil"):
            report_runs.make(root / f"{method}-{seed}", seed, method)
    return root


@pytest.fixture(scope="module")
def figures(folder):
    """The Figures by kind; of those that are drawn for each row, that of avcil."""
    with figure_style():
        specs = figures_of(group_seeds(find_runs([str(folder)]))).figures
        return {kind(spec): spec.draw() for spec in specs if "LwF" not in spec.stem}


def kind(spec):
    return spec.stem.split("_")[-1]


def steps(folder, method):
    """steps.jsonl of each seed."""
    return [pd.read_json(folder / f"{method}-{seed}" / "steps.jsonl", lines=True) for seed in (1, 2, 3)]


def matrices(folder, method):
    return [pd.DataFrame([pd.Series(row) for row in each.accuracy_by_task]) for each in steps(folder, method)]


def curves(axes):
    return {line.get_label(): line for line in axes.get_lines() if not line.get_label().startswith("_")}


def test_accuracy_over_steps(folder, figures):
    (axes,) = figures["accuracy"].axes
    assert list(curves(axes)) == ["LwF", "AV-CIL"]
    bands = dict(zip(curves(axes), axes.collections, strict=True))
    for label, line in curves(axes).items():
        method = METHODS[label]
        expected = 100 * pd.concat([each.accuracy for each in steps(folder, method)], axis=1)
        np.testing.assert_allclose(line.get_ydata(), expected.mean(axis=1))
        np.testing.assert_array_equal(line.get_xdata(), [2, 4, 6])
        vertices = bands[label].get_paths()[0].vertices
        for x, mean, spread in zip((2, 4, 6), expected.mean(axis=1), expected.std(axis=1), strict=True):
            there = vertices[vertices[:, 0] == x][:, 1]
            np.testing.assert_allclose([there.min(), there.max()], [mean - spread, mean + spread])


def test_forgetting_per_task(folder, figures):
    (axes,) = figures["forgetting"].axes
    for container in axes.containers:
        points, _, (bars,) = container.lines
        drops = [
            100 * (matrix[:-1].max() - matrix.iloc[-1])[:-1]
            for matrix in matrices(folder, METHODS[container.get_label()])
        ]
        expected = pd.concat(drops, axis=1)
        np.testing.assert_allclose(points.get_ydata(), expected.mean(axis=1))
        lengths = [np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments()]
        np.testing.assert_allclose(lengths, expected.std(axis=1), atol=1e-9)
        np.testing.assert_array_equal(np.round(points.get_xdata()), [0, 1])


def test_accuracy_matrix(folder, figures):
    image = figures["accuracy-matrix"].axes[0].get_images()[0].get_array()
    expected = 100 * sum(matrices(folder, "avcil")) / 3
    np.testing.assert_allclose(np.ma.filled(image, np.nan), expected)
    texts = [text.get_text() for text in figures["accuracy-matrix"].axes[0].texts]
    assert texts == [f"{value:.0f}" for value in expected.to_numpy().ravel() if not np.isnan(value)]


def test_confusion(folder, figures):
    true, predicted = [], []
    for seed in (1, 2, 3):
        counts = json.loads((folder / f"avcil-{seed}" / "results.json").read_text())["confusion"][-1]
        for (row, column), count in np.ndenumerate(counts):
            true += [row] * count
            predicted += [column] * count
    for kind, merge in (("confusion-classes", 1), ("confusion-tasks", report_runs.PER_STEP)):
        expected = confusion_matrix(np.array(true) // merge, np.array(predicted) // merge, normalize="true")
        axes = figures[kind].axes[0]
        np.testing.assert_allclose(axes.get_images()[0].get_array(), 100 * expected)
        assert [text.get_text() for text in axes.texts] == [f"{100 * each:.0f}" for each in expected.ravel() if each]
    names = [label.get_text() for label in figures["confusion-classes"].axes[0].get_yticklabels()]
    assert names == [f"class {label}" for label in range(6)]


def test_losses(folder, figures):
    rows = pd.concat([pd.read_csv(folder / f"avcil-{seed}" / "epochs.csv") for seed in (1, 2, 3)])
    panels = {axes.get_title(): axes for axes in figures["losses"].axes}
    assert set(panels) == {"train_loss", "cross_entropy", "distillation"}
    for term, axes in panels.items():
        expected = rows[rows.name == term].groupby(["step", "epoch"]).value.agg(["mean", "std"])
        drawn = [line for line in axes.get_lines() if len(line.get_xdata()) == report_runs.EPOCHS]
        np.testing.assert_allclose(np.concatenate([line.get_ydata() for line in drawn]), expected["mean"])
        epochs = [step * report_runs.EPOCHS + epoch for step, epoch in expected.index]
        np.testing.assert_array_equal(np.concatenate([line.get_xdata() for line in drawn]), epochs)
        heights = np.concatenate([_heights(band) for band in axes.collections])
        np.testing.assert_allclose(heights, 2 * expected["std"])


def _heights(band):
    x, y = band.get_paths()[0].vertices.T
    return [np.ptp(y[x == epoch]) for epoch in sorted(set(x))]


def test_axes_have_names(figures):
    for figure in figures.values():
        for axes in figure.axes:
            assert axes.get_ylabel() and (axes.get_xlabel() or axes.get_label() == "<colorbar>")


def test_each_figure_says_what_is_drawn_of_how_many_seeds(figures, tmp_path):
    feet = {name: figure.get_supxlabel() for name, figure in figures.items()}
    spread = "± one sample standard deviation over them"
    assert feet["accuracy"] == feet["losses"] == f"Mean of 3 seeds; bands: {spread}"
    assert feet["forgetting"] == f"Mean of 3 seeds; bars: {spread}"
    assert feet["accuracy-matrix"] == feet["confusion-tasks"] == feet["confusion-classes"] == "Mean of 3 seeds"
    report_runs.make(tmp_path / "one")
    report_runs.make(tmp_path / "lwf", method="lwf")
    report_runs.make(tmp_path / "lwf_2", method="lwf", seed=2)
    with figure_style():
        specs = {
            spec.stem.partition("visual_")[2]: spec for spec in figures_of(group_seeds(find_runs([tmp_path]))).figures
        }
        assert specs["accuracy"].draw().get_supxlabel() == f"Mean of 1 to 2 seeds; bands: {spread}"
        assert specs["AV-CIL_losses"].draw().get_supxlabel() == "One seed"


def test_many_curves_have_a_panel_each(tmp_path):
    for number in range(MOST_CURVES + 1):
        report_runs.make(tmp_path / str(number), lam=number)
    with figure_style():
        accuracy, forgetting = (spec.draw() for spec in figures_of(group_seeds(find_runs([tmp_path]))).figures[:2])
    for figure in (accuracy, forgetting):
        assert [axes.get_title() for axes in figure.axes] == [f"AV-CIL lam={n}" for n in range(MOST_CURVES + 1)]


def test_curves_can_be_told_apart():
    with figure_style():
        looks = [tuple(sorted(curve_style(index).items())) for index in range(7 * len(MARKERS))]
    assert len(set(looks)) == len(looks)
    assert all(dict(a)["color"] != dict(b)["color"] for a, b in zip(looks, looks[1:], strict=False))


def test_texts_of_a_hundred_classes_do_not_overlap(tmp_path):
    names = [f"a class with a rather long name, number {label}" for label in range(100)]
    report_runs.make(tmp_path / "run", classes=100, names=names, method="a_method_with_a_long_name" * 4)
    with figure_style():
        specs = {kind(spec): spec for spec in figures_of(group_seeds(find_runs([tmp_path]))).figures}
        for name in ("confusion-classes", "confusion-tasks", "accuracy"):
            figure = specs[name].draw()
            figure.draw_without_rendering()
            axes = figure.axes[0]
            for labels, low, high in ((axes.get_xticklabels(), "x0", "x1"), (axes.get_yticklabels(), "y0", "y1")):
                boxes = sorted((box for box in _boxes(labels)), key=lambda box: getattr(box, low))
                assert all(getattr(a, high) <= getattr(b, low) for a, b in zip(boxes, boxes[1:], strict=False)), name
            drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
            assert drawn.x0 >= 0 and drawn.y0 >= 0 and drawn.x1 <= width and drawn.y1 <= height, name


def _boxes(texts):
    return [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]


def test_the_same_runs_give_the_same_bytes(folder):
    with figure_style():
        draw = figures_of(group_seeds(find_runs([str(folder)]))).figures[0].draw
        assert render(draw()) == render(draw())
    assert b"<dc:date>" not in render(draw(), ["svg"])["svg"]
