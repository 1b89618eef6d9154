"""What ``--precision auto`` means, and that a run remembers it."""

import json
from unittest.mock import patch

import pytest
import torch

import train_incremental
from engine.run_files import RESULTS, read_results
from tests.helpers import tiny
from utils.devices import choose_precision

GPU = torch.device("cuda")


@pytest.mark.parametrize(
    "capability, holds, expected", [((9, 0), True, "tf32"), ((7, 5), True, "fp32"), ((9, 0), False, "fp32")]
)
def test_a_gpu_that_has_tf32_takes_it_where_the_method_bears_it(capability, holds, expected):
    with patch.object(torch.cuda, "get_device_capability", lambda _: capability):
        assert choose_precision("auto", GPU, holds) == expected
        assert choose_precision("fp32", GPU, holds) == "fp32"


def test_a_cpu_computes_in_float32(tmp_path):
    assert choose_precision("auto", torch.device("cpu"), True) == "fp32"
    tiny.make(tmp_path)
    printed, results = tiny.train(tmp_path, "fine_tuning")
    assert "cpu, products in fp32" in printed
    assert results["versions"]["tf32"] is False
    assert read_results(str(tmp_path / "run" / RESULTS)).arguments["precision"] == "fp32"


@pytest.mark.parametrize("has_instructions", [True, False])
def test_bfloat16_on_a_processor_without_it_is_said_to_be_slow(tmp_path, has_instructions):
    tiny.make(tmp_path)
    with patch.object(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has_instructions):
        printed, _ = tiny.train(tmp_path, "fine_tuning", "--precision", "bf16", "--modality", "audio-visual")
    assert ("--precision fp32 is faster here" in printed) == (not has_instructions)


def test_results_in_tf32_are_no_repetition_of_those_in_float32(tmp_path):
    tiny.make(tmp_path)
    _, results = tiny.train(tmp_path, "fine_tuning")
    path = tmp_path / "run" / RESULTS
    results["versions"]["tf32"] = True
    path.write_text(json.dumps(results))
    assert read_results(str(path)).arguments["precision"] == "tf32"


def test_a_run_that_goes_on_in_another_precision_says_so(tmp_path, capsys):
    tiny.make(tmp_path)
    tiny.train(tmp_path, "fine_tuning")
    run = tmp_path / "run"
    (run / RESULTS).unlink()
    begun = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps(begun | {"tf32": True}))
    train_incremental.main(tiny.flags(tmp_path, "fine_tuning", "--run_dir", str(run)))
    assert "began with products in TF32, and goes on in float32" in capsys.readouterr().out
