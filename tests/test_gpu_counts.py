"""What training asks of a GPU, counted on a stand-in for CUDA that computes nothing: it cannot grow unseen."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
import torch

from benchmarks.cuda_events import Counts, add_trace
from tests.helpers.shared import REPO, shared

# An update is one replayed graph, a copy of its clips' indices into the graph's input and one of its losses out of it.
# The tiny data have one update an epoch, which besides takes the plan to the device and the losses, in 64 bits, to the
# host, and waits for these: the only time in an epoch that training waits.
UPDATE = {"graphs": 1, "kernels": 1, "triton": 0, "products": 0, "copies": 5, "syncs": 1}
METHODS = (
    *("fine_tuning", "upper_bound", "lwf", "icarl-NME", "icarl-FC", "ssil", "afc-LSC", "afc-NME", "avcil", "cign"),
)


@pytest.fixture(scope="module")
def hollow(tmp_path_factory):
    """Runs a command of Python's on the stand-in, and returns what it printed."""
    launcher, folder = shared("tools", "hollow_cuda", "hollow"), tmp_path_factory.mktemp("hollow")

    def run(*arguments, fresh="", **more):
        environment = os.environ | {"HOLLOW_OUT": str(folder), "OMP_NUM_THREADS": "1"} | more
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
    hollow("benchmarks/gpu_counts.py", "--size", "tiny", "--epochs", "5", "--json", path, "--method", *METHODS)
    return {(row["method"], row["step"], row["what"]): row for row in json.loads(path.read_text())}


@pytest.mark.parametrize("method", METHODS)
def test_an_update_is_one_graph_and_waits_for_nothing(rows, method):
    for step in (0, 1):
        row = rows[method, step, "update"]
        assert row["graphs"] == 1, "not captured"
        assert all(row[column] <= most for column, most in UPDATE.items()), row


@pytest.mark.parametrize("method", METHODS)
def test_what_comes_between_two_epochs_waits_for_validation_and_with_nearest_means_for_exemplars(rows, method):
    for step in (0, 1):
        assert rows[method, step, "epoch's rest"]["syncs"] <= 1 + method.endswith("NME")


def test_a_run_launches_the_same_binaries_whatever_was_compiled_before(hollow):
    fresh = hollow("-m", "tests.helpers.kernel_hashes", fresh="-fresh")
    after_others = hollow("-m", "tests.helpers.kernel_hashes", "8x4x768", "3x7x20", fresh="-used")
    assert len(fresh.split()) == 4  # forward and backward, with and without a teacher
    assert after_others == fresh


RING = """
from concurrent.futures import ThreadPoolExecutor
import torch
from features import transfer
transfer.PIECE_BYTES = 4096
rows = torch.randn(100, 4, 8)
ring = transfer.PinnedRing(torch.device("cuda:0"), (4, 8), torch.float32)
for threads in (None, ThreadPoolExecutor(3), None, ThreadPoolExecutor(8)):
    arriving = ring.send(100, lambda some, piece: piece.copy_(rows[some.start : some.stop]), torch.float32, threads)
    assert (arriving(range(10, 60)).cpu() == rows[10:60]).all() and (arriving(range(100)).cpu() == rows).all()
print(ring.rows, len(ring.pieces))
"""


def test_rows_reach_the_device_through_a_few_pinned_pieces_whatever_their_number(hollow):
    assert hollow("-c", RING, HOLLOW_KEEP="1").split() == ["32", "4"]


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_check_without_a_gpu_says_so_in_one_line():
    environment = os.environ | {"PYTHON": sys.executable}
    command = ["sh", REPO / "run_gpu_check.sh"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == "" and done.stderr.count("\n") == 1 and done.stderr.startswith("error: no CUDA device")
