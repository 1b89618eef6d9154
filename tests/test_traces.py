"""Every row is the released implementation's run: draw by draw, exemplar by exemplar, loss by loss."""

import copy
import json

import pytest

from tests.helpers import traces as helper
from tests.helpers.shared import shared
from tests.helpers.tracer import Tracer

# One run of each row that is done in seconds; all others are slow.
QUICK = {
    ("fine_tuning", "audio", 42),
    ("upper_bound", "audio", 1),
    ("lwf", "audio", 42),
    ("icarl-NME", "audio", 1),
    ("icarl-FC", "audio", 42),
    ("ssil", "audio", 1),
    ("afc-NME", "audio", 1),
    ("afc-LSC", "audio", 42),
    ("avcil", "audio-visual", 42),
}
ROWS = sorted({row for row, _, _ in QUICK} - {"avcil"})
RUNS = [(row, modality, seed) for row in ROWS for modality in ("audio", "visual", "audio-visual") for seed in (1, 42)]
RUNS += [("avcil", "audio-visual", seed) for seed in (1, 42)]


@pytest.fixture(scope="module")
def traces():
    return helper.read_traces(shared("goldens", "traces.json"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("traces")


def find(traces, row, modality, seed, data=None):
    """The one traced run of this description."""
    wanted = (row, modality, seed, data)
    (run,) = (
        run for run in traces["runs"] if (helper.row_of(run), run["modality"], run["seed"], run.get("data")) == wanted
    )
    return run


def check(traces, run, folder, tmp_path):
    tracer = helper.retrace(traces, run, helper.data_for(traces, run, folder), tmp_path / "run")
    assert list(helper.differences(run, tracer, helper.same_sklearn(traces))) == []


@pytest.mark.parametrize(
    ("row", "modality", "seed"), [pytest.param(*run, marks=() if run in QUICK else pytest.mark.slow) for run in RUNS]
)
def test_the_run_is_that_of_the_released_code(traces, folder, tmp_path, row, modality, seed):
    check(traces, find(traces, row, modality, seed), folder, tmp_path)


@pytest.mark.slow
def test_the_run_is_that_of_the_released_code_where_it_reads_with_workers(traces, folder, tmp_path):
    check(traces, find(traces, "avcil", "audio-visual", 42, "workers"), folder, tmp_path)


def test_every_traced_run_is_tested(traces):
    assert len(traces["runs"]) == len(RUNS) + 1
    assert all(find(traces, *run) for run in RUNS)


def changed(value):
    """Another value than ``value``, of the same form."""
    if isinstance(value, list):
        return [*value[:-1], changed(value[-1])]
    return value + "x" if isinstance(value, str) else value + 100


@pytest.mark.parametrize(
    ("row", "modality"), [("avcil", "audio-visual"), ("icarl-NME", "audio"), ("afc-LSC", "visual")]
)
def test_a_value_that_differs_is_named(traces, row, modality):
    run = find(traces, row, modality, 1)
    same = Tracer(copy.deepcopy(run["steps"]), run["int_draws"])
    for step in same.steps:
        step.setdefault("exemplars", [])
    assert list(helper.differences(run, same)) == []
    for name in run["steps"][1]:
        other = copy.deepcopy(same)
        other.steps[1][name] = changed(other.steps[1][name])
        if name == "best_epoch":
            continue  # it follows from the counts of val
        assert any(line.startswith(f"step 1, {name}: ") for line in helper.differences(run, other)), name
    fewer = Tracer(same.steps, run["int_draws"] - 1)
    assert list(helper.differences(run, fewer)) == [f"int_draws: {run['int_draws'] - 1}, expected {run['int_draws']}"]


def test_the_command_says_what_differs(traces, folder, tmp_path, capsys):
    run = copy.deepcopy(find(traces, "fine_tuning", "audio", 42))
    run["steps"][0]["next_int_draw"] += 1
    kept = {key: value for key, value in traces.items() if key != "path"}
    (tmp_path / "traces.json").write_text(json.dumps(kept | {"runs": [run]}))
    helper.data_for(traces, run, folder)
    with pytest.raises(SystemExit) as ended:
        helper.main([str(tmp_path / "traces.json"), "--row", "fine_tuning", "--data", str(folder)])
    printed = capsys.readouterr().out
    assert ended.value.code == 1 and printed.startswith("fine_tuning audio seed 42: step 0, next_int_draw: ")
