"""What training asks of a GPU, counted on a stand-in for CUDA that computes nothing: it cannot grow unseen."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from benchmarks.cuda_events import Counts, add_trace
from tests.helpers.shared import REPO, shared

# Most launches (kernels, Triton and others together), products and copies that an update may take, without and with
# memory of earlier steps, on the tiny data, where an epoch is one update and so has its one synchronisation.
MOST = {
    "fine_tuning": ((44, 12, 6), (44, 12, 6)),
    "upper_bound": ((44, 12, 6), (44, 12, 6)),
    "lwf": ((44, 12, 6), (71, 12, 6)),
    "icarl-NME": ((44, 12, 6), (63, 12, 6)),
    "icarl-FC": ((44, 12, 6), (63, 12, 6)),
    "ssil": ((44, 12, 6), (85, 12, 8)),
    "afc-LSC": ((132, 12, 6), (238, 12, 6)),
    "afc-NME": ((132, 12, 6), (238, 12, 6)),
    "avcil": ((44, 12, 6), (218, 18, 12)),
    "cign": ((76, 41, 7), (144, 45, 11)),
}
SYNCS = {"fine_tuning": (1, 1), "upper_bound": (1, 1), "avcil": (1, 3)}


@pytest.fixture(scope="module")
def hollow(tmp_path_factory):
    """Runs a command of Python's on the stand-in, and returns what it printed."""
    launcher, folder = shared("tools", "hollow_cuda", "hollow"), tmp_path_factory.mktemp("hollow")

    def run(*arguments, fresh=""):
        environment = os.environ | {"HOLLOW_OUT": str(folder), "OMP_NUM_THREADS": "1"}
        environment |= {"TRITON_CACHE_DIR": str(folder / f"triton{fresh}"), "PYTHONPATH": str(REPO)}
        command = [launcher, sys.executable, *arguments]
        done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    if importlib.util.find_spec("triton") is None:
        pytest.skip("needs Triton")
    return run


@pytest.fixture(scope="module")
def rows(hollow, tmp_path_factory):
    """(method, step, what) -> row of benchmarks/gpu_counts.py."""
    path = tmp_path_factory.mktemp("counts") / "rows.json"
    hollow("benchmarks/gpu_counts.py", "--size", "tiny", "--epochs", "4", "--json", path, "--method", *MOST)
    return {(row["method"], row["step"], row["what"]): row for row in json.loads(path.read_text())}


@pytest.mark.parametrize("method", MOST)
def test_an_update_takes_no_more_launches_copies_and_waits_than_it_did(rows, method):
    for step, (launches, products, copies) in enumerate(MOST[method]):
        row = rows[method, step, "update"]
        assert row["kernels"] + row["triton"] <= launches
        assert row["products"] <= products
        assert row["copies"] <= copies
        assert row["syncs"] <= SYNCS.get(method, (1, 2))[step]


def test_attention_takes_one_kernel_each_way_and_one_more_where_clips_are_replayed(rows):
    assert rows["avcil", 0, "update"]["triton"] == 2
    assert rows["avcil", 1, "update"]["triton"] == 4


def test_a_run_launches_the_same_binaries_whatever_was_compiled_before(hollow):
    fresh = hollow("-m", "tests.helpers.kernel_hashes", fresh="-fresh")
    after_others = hollow("-m", "tests.helpers.kernel_hashes", "8x4x768", "3x7x20", fresh="-used")
    assert len(fresh.split()) == 4  # forward and backward, with and without a teacher
    assert after_others == fresh


def test_profiler_traces_are_counted_as_the_host_sees_them():
    def call(name, correlation, kind="cuda_runtime"):
        return {"cat": kind, "name": name, "args": {"correlation": correlation}}

    def kernel(name, correlation):
        return {"cat": "kernel", "name": name, "args": {"correlation": correlation}}

    counts = Counts()
    add_trace(
        counts,
        [
            call("cudaLaunchKernel", 1),
            kernel("void at::native::vectorized_elementwise_kernel", 1),
            call("cudaLaunchKernelExC", 2),
            kernel("nvjet_tst_128x64_h_bz_NT", 2),
            call("cuLaunchKernelEx", 3, "cuda_driver"),
            kernel("attend_kernel", 3),
            call("cudaGraphLaunch", 4),
            kernel("void at::native::reduce_kernel", 4),  # within the graph: not asked for by itself
            call("cudaMemcpyAsync", 5),
            {"cat": "gpu_memcpy", "name": "Memcpy HtoD (Pageable -> Device)", "args": {"correlation": 5, "bytes": 96}},
            call("cudaStreamSynchronize", 6),
            {"cat": "cpu_op", "name": "aten::mm", "ph": "X"},
        ],
    )
    expected = {"kernels": 1, "triton": 1, "products": 1, "copies": 1, "syncs": 1, "graphs": 1}
    assert counts.totals() == expected | {"bytes": {"Memcpy HtoD": 96}}
