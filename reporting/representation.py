"""``--layout representation``: what became of the network's features of the test clips, from step to step."""

from collections.abc import Iterator

import numpy as np

from engine.run_files import RunResults
from engine.scores import FEATURES_HINT, KeptFeatures, features_path, read_features
from reporting.layouts import group_by
from reporting.runs import Group, mean_and_spread
from reporting.tables import Cell, Column, Table, cell
from utils.errors import InputError

NEIGHBOURS = 5
# (key of ``measure``, head of its column, what a figure calls it: shares, in per cent)
MEASURES = (
    ("drift", "drift", "Drift of class means (%)"),
    ("within", "within", None),
    ("between", "between", None),
    ("share", "within of all", "Variance within classes (% of all)"),
    ("purity", "purity", "Purity of neighbours (%)"),
    ("cka", "CKA", "CKA with the step before (times 100)"),
)
READING = (
    "Features that drift or lose purity have forgotten; where purity stays and accuracy falls, the classifier has."
)
NOTES = (
    "Features of the test clips of all classes seen. Drift: how far the means of earlier classes have moved since these"
    " were learned, in per cent of their length then. Within, between: root mean square distance of clips from the mean"
    " of their class, and of these means from that of all clips; within of all: the share of the first in the total"
    " variance, in per cent.",
    f"Purity: how many of a clip's {NEIGHBOURS} nearest neighbours by cosine are of its class, in per cent. CKA: linear"
    " similarity to the features after the step before, of the clips tested then, times 100; 100: the same but for"
    " rotation and scale.",
)


def representation_tables(groups: list[Group]) -> list[Table]:
    """One Table per data set, modality and kind of feature; a row per group and step. InputError if none are kept."""
    tables = representations(groups)
    if not tables:
        raise InputError(f"--layout representation: no row has kept features of all its steps; {FEATURES_HINT}")
    return tables


def representations(groups: list[Group]) -> list[Table]:
    """The same, without Tables where nothing was kept."""
    tables = []
    for (dataset, modality), members in group_by(with_features(groups), ("dataset", "modality")):
        for name in ("feature", "audio", "visual"):
            rows = [row for label, runs in members for row in _rows(label, runs, name)]
            if rows:
                heads = ["method", "step", *(head for _, head, _ in MEASURES)]
                what = "Features" if name == "feature" else f"Features of {name} alone"
                notes = () if tables else NOTES
                tables.append(Table(f"{what}, {dataset}, {modality}", [Column(head) for head in heads], rows, notes))
    return tables


def curves(groups: list[Group]) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """{measure: {row: (step, mean, sample standard deviation)}}, of the shares, in per cent."""
    of_rows = {name: [measures_of(run) for run in runs] for name, runs in groups}
    return {
        label: {name: _series(of_runs, key) for name, of_runs in of_rows.items()}
        for key, _, label in MEASURES
        if label is not None
    }


def _series(of_runs, key):
    known = [step for step in range(min(map(len, of_runs))) if all(each[step][key] is not None for each in of_runs)]
    values = 100 * np.array([[of_run[step][key] for step in known] for of_run in of_runs], float)
    spread = values.std(0, ddof=1) if len(values) > 1 else np.zeros(len(known))
    return np.array(known), values.mean(0), spread


def with_features(groups: list[Group]) -> list[Group]:
    """Those of ``groups`` whose runs all have kept features of every step."""
    return [group for group in groups if all(kept_of(run) is not None for run in group[1])]


def kept_of(run: RunResults) -> list[KeptFeatures] | None:
    """What ``run`` kept after each step; None if that of a step is missing. InputError if widths differ."""
    kept = []
    for step in range(len(run.accuracy_per_step)):
        of_step = read_features(run.folder, step)
        if of_step is None:
            return None
        kept.append(of_step)
        if _widths(of_step) != _widths(kept[0]):
            raise InputError(f"{features_path(run.folder, step)}: other features than of step 0; {FEATURES_HINT}")
    return kept


def _widths(kept):
    return {name: values.shape[1] for name, values in kept.features.items()}


def measures_of(run: RunResults, name: str = "feature") -> list[dict[str, float | None]]:
    """``measure`` after each step, of the features ``name``; empty if there are none of this name."""
    kept = kept_of(run) or []
    return [measure(kept[: step + 1], name) for step in range(len(kept)) if name in kept[step].features]


def measure(kept: list[KeptFeatures], name: str = "feature") -> dict[str, float | None]:
    """The figures of MEASURES after the last of the steps ``kept``; shares as fractions, None where there is none."""
    now, label = kept[-1].features[name].astype(float), kept[-1].label
    classes, own = np.unique(label, return_inverse=True)
    means = class_means(now, label)
    centres = np.array([means[each] for each in classes])
    within = np.mean(np.sum((now - centres[own]) ** 2, 1))
    between = np.mean(np.sum((centres[own] - now.mean(0)) ** 2, 1))
    return {
        "drift": _drift(kept, name, means),
        "within": float(within**0.5),
        "between": float(between**0.5),
        "share": float(within / (within + between)) if within + between > 0 else None,
        "purity": purity(now, label),
        "cka": similarity(kept[-2], kept[-1], name) if len(kept) > 1 else None,
    }


def class_means(features: np.ndarray, label: np.ndarray) -> dict[int, np.ndarray]:
    """The mean (D,) of the ``features`` (N, D) of each class of ``label`` (N,)."""
    return {int(each): features[label == each].mean(0) for each in np.unique(label)}


def purity(features: np.ndarray, label: np.ndarray) -> float:
    """Of the NEIGHBOURS clips nearest to each by cosine, itself left out, the share that is of its class."""
    from sklearn.neighbors import NearestNeighbors

    count = min(NEIGHBOURS, len(features) - 1)
    if not count:
        return 1.0
    nearest = NearestNeighbors(n_neighbors=count, metric="cosine").fit(features).kneighbors(return_distance=False)
    return float((label[nearest] == label[:, None]).mean())


def similarity(before: KeptFeatures, after: KeptFeatures, name: str = "feature") -> float:
    """Linear centred kernel alignment (Kornblith et al., ICML 2019) of the clips that both hold, 0 to 1."""
    place = {clip: index for index, clip in enumerate(after.clip)}
    rows = [index for index, clip in enumerate(before.clip) if clip in place]
    if not rows:
        return 0.0
    x = before.features[name].astype(float)[rows]
    y = after.features[name].astype(float)[[place[before.clip[index]] for index in rows]]
    x, y = x - x.mean(0), y - y.mean(0)
    scale = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.linalg.norm(x.T @ y) ** 2 / scale) if scale > 0 else 0.0


def similarity_matrix(runs: list[RunResults]) -> np.ndarray:
    """Mean over ``runs`` of the CKA between all steps, (steps, steps), in per cent."""
    return 100 * np.mean([_similarities(kept_of(run) or []) for run in runs], 0)


def _similarities(kept):
    steps = range(len(kept))
    return [[similarity(kept[min(one, other)], kept[max(one, other)]) for other in steps] for one in steps]


def _drift(kept, name, means):
    """Mean over the classes of earlier steps: distance from the mean when a class was learned, relative to that."""
    moved, known = [], set()
    for earlier in kept[:-1]:
        for label, first in class_means(earlier.features[name].astype(float), earlier.label).items():
            length = np.linalg.norm(first)
            if label not in known and label in means and length > 0:
                moved.append(float(np.linalg.norm(means[label] - first) / length))
            known.add(label)
    return float(np.mean(moved)) if moved else None


def _rows(label, runs, name) -> Iterator[list]:
    of_runs = [measures_of(run, name) for run in runs]
    for step in range(min(map(len, of_runs))):
        cells = []
        for key, _, share in MEASURES:
            values = [of_run[step][key] for of_run in of_runs]
            cells.append(cell(values) if share else Cell(*mean_and_spread(values)))
        yield [label, str(step), *cells]
