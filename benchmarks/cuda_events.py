"""What goes to a GPU, counted: launches, matrix products, copies, synchronisations, replayed graphs.

    with counting() as counts: ...
    counts.totals()

On a GPU torch's profiler is the witness; on a machine without one a preloaded stand-in for CUDA with a module
``hollow``, which counts what the runtime is asked for and computes nothing. Both count what the host asks for: the
kernels within a graph are one launch, that of the graph; a matrix product of cuBLAS is one product and no kernel.
"""

import contextlib
import ctypes
import importlib
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

COLUMNS = ("kernels", "triton", "products", "copies", "syncs", "graphs")
OWN_KERNELS = ("attend_kernel", "gradients_kernel")
PRODUCTS = re.compile(r"gemm|gemv|cutlass|nvjet|splitk|xmma|dot_kernel", re.IGNORECASE)
LAUNCHES = re.compile(r"cuda(Launch(Cooperative)?Kernel(ExC)?|MemsetAsync)|cuLaunchKernel(Ex)?")
SYNCS = re.compile(r"cuda(Stream|Device|Event)Synchronize|cudaMemcpy")


@dataclass
class Counts:
    """Numbers by column of ``COLUMNS``, ``bytes`` copied by direction, and ``lines`` that say where, if known."""

    numbers: Counter = field(default_factory=Counter)
    bytes: Counter = field(default_factory=Counter)
    kernels: Counter = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)

    def totals(self, per: int = 1) -> dict:
        """All numbers, divided by ``per``: a flat dict, with the bytes by direction."""
        totals = {name: self.numbers[name] / per for name in COLUMNS}
        return totals | {"bytes": {way: size / per for way, size in self.bytes.items()}}


def is_hollow() -> bool:
    """Whether CUDA here is the stand-in that computes nothing."""
    return hasattr(ctypes.CDLL(None), "hollow_set_callback")


@contextlib.contextmanager
def counting(places: int = 0) -> Iterator[Counts]:
    """Count what happens inside; the counts are complete on leaving. ``places``: lines on what came from where."""
    counts = Counts()
    with (_hollow if is_hollow() else _profiled)(counts, places):
        yield counts


@contextlib.contextmanager
def _hollow(counts, places):
    hollow = importlib.import_module("hollow")

    with hollow.counting() as found:
        yield
    totals = found.totals()
    counts.numbers.update({name: totals[name] for name in COLUMNS})
    counts.bytes.update(found.copied())
    for (name, place), number in found.kernels.items():
        counts.kernels[f"{name} @ {place}"] += number
    counts.lines += found.report(top=places).splitlines() if places else []


@contextlib.contextmanager
def _profiled(counts, places):
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=activities) as profile:
        yield
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "trace.json")
        profile.export_chrome_trace(path)
        with open(path, encoding="utf-8") as file:
            add_trace(counts, json.load(file)["traceEvents"])
    counts.numbers["syncs"] -= 1  # the one above
    counts.lines += [f"{number:8d}  {name}" for name, number in counts.kernels.most_common(places)]


def add_trace(counts: Counts, events: list[dict]) -> None:
    """Add the ``traceEvents`` of torch's profiler to ``counts``."""
    kernel_of = {}
    for event in events:
        arguments = event.get("args", {})
        if event.get("cat") == "kernel":
            kernel_of[arguments.get("correlation")] = event["name"]
        elif event.get("cat") == "gpu_memcpy":
            counts.bytes[event["name"].split(" (")[0]] += arguments.get("bytes", 0)
    for event in events:
        name = event.get("name", "")
        if event.get("cat") not in ("cuda_runtime", "cuda_driver"):
            continue
        if LAUNCHES.fullmatch(name):
            kernel = kernel_of.get(event.get("args", {}).get("correlation"), name)
            column = "triton" if kernel in OWN_KERNELS else "products" if PRODUCTS.search(kernel) else "kernels"
            counts.numbers[column] += 1
            counts.kernels[kernel] += 1
        elif name.startswith("cudaGraphLaunch"):
            counts.numbers["graphs"] += 1
        elif name.startswith("cudaMemcpy"):
            counts.numbers["copies"] += 1
        if SYNCS.fullmatch(name):
            counts.numbers["syncs"] += 1
