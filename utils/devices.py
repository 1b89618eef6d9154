"""Where to compute: device, determinism, memory, and the processes that torchrun starts to work together."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import torch
from torch import distributed

from utils.environment import signal_at_end_of_parent
from utils.errors import InputError, first_line, say_error

# What an update needs on a GPU beside the features held, in sizes of the tokens of its batch: the tokens, their
# projection and the teacher's keys of replayed clips, within a graph that keeps its memory, and half of it for
# validation beside that; and bytes for the network, its optimiser and the libraries.
BATCH_TOKENS, LIBRARY_BYTES = 4, 1e9
# On a CPU features that are not held are read from the page cache nearly as fast: little is enough.
CPU_BYTES = 0.5e9
PATIENCE_MINUTES = 30  # how much longer than the longest work so far the others are waited for
NOTICE_SECONDS = 60  # a process that has waited for so long says so


def choose_device(name: str) -> torch.device:
    """The torch device called ``name``; "auto" is CUDA when there is one. InputError if it cannot be used."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("only cpu and cuda are supported")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: {str(error).splitlines()[0]}; try --device auto or cpu") from None
    return device


def make_deterministic(precision: str) -> None:
    """Let torch take only kernels that repeat exactly; ``tf32`` allows that format in a GPU's matrix products."""
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(True)
    else:
        # The same, without loading the compiler, which takes seconds.
        torch.set_deterministic_debug_mode("error")
    # Nothing here reads memory before it is written; to fill it all the same costs a twentieth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue] (set by it)
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    # Partial sums of 16-bit products stay in float32.
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def choose_precision(precision: str, device: torch.device, tf32_holds: bool) -> str:
    """What ``auto`` means on ``device``: TF32 on a GPU that has it, where ``tf32_holds``; else float32."""
    if precision != "auto":
        return precision
    has_tf32 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return "tf32" if has_tf32 and tf32_holds else "fp32"


def check_precision(precision: str, device: torch.device) -> None:
    """InputError if ``device`` does not have the format ``precision``."""
    if precision == "tf32" and device.type != "cuda":
        raise InputError(f"--precision tf32: a format of GPUs, this run is on {device}; use fp32 or bf16")


def emulates_bf16(device: torch.device) -> bool:
    """Whether ``device`` is a CPU without instructions for bfloat16, whose products then are slower than in float32."""
    return device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


@contextlib.contextmanager
def memory_errors(cure: str) -> Iterator[None]:
    """Let running out of memory, on a GPU or in main memory, end in an InputError with the ``cure``."""
    try:
        yield
    except MemoryError as error:
        raise InputError(f"out of memory ({first_line(error)}); {cure}") from None
    except RuntimeError as error:
        # torch has a type of its own for a GPU's memory only.
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise InputError(f"out of memory ({first_line(error)}); {cure}") from None


def device_bytes(text: str, device: torch.device, batch_bytes: float, sharing: int = 1) -> float:
    """Bytes for features on ``device``: ``text`` is a number of GB, or ``auto``, what is free but for batches.

    ``batch_bytes``: of the tokens of the largest batch. Of a GPU, each of ``sharing`` processes has an equal part.
    """
    if text != "auto":
        return 1e9 * float(text)
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return max(0, min(free, total / sharing) - BATCH_TOKENS * batch_bytes - LIBRARY_BYTES)
    return min(CPU_BYTES, available() / 4)


def host_bytes(text: str, device: torch.device, sharing: int = 1) -> float:
    """Bytes for features in the memory beside a GPU, where they wait if they do not fit there; ``auto``: half."""
    if text != "auto":
        return 1e9 * float(text)
    return available() / 2 / sharing if device.type == "cuda" else 0


def available() -> float:
    """Bytes of main memory that can be had without swapping; 8 GB where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 8e9


class Group:
    """``rank`` of ``world`` processes. On several machines they must see the same files.

    A process never waits for ever: it gives up ``minutes`` after the longest time that ever lay between two meetings
    of the processes, and ends when the program that started it has ended.
    """

    def __init__(self, minutes: float = PATIENCE_MINUTES):
        self.world = _of_torchrun("WORLD_SIZE", 1, 1)
        self.rank = _of_torchrun("RANK", None if self.world > 1 else 0, 0, self.world)
        self.local_rank, self.local_world = _of_torchrun("LOCAL_RANK", 0, 0), _of_torchrun("LOCAL_WORLD_SIZE", 1, 1)
        if self.world > 1:
            _of_torchrun("MASTER_PORT", None, 0, 2**16)
            if not os.environ.get("MASTER_ADDR"):
                raise InputError(f"WORLD_SIZE={self.world} without MASTER_ADDR in the environment; {_NOT_OF_TORCHRUN}")
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            # Gloo waits until the watch says stop; NCCL's waiting cannot be seen from here and has a limit of its own.
            limit = timedelta(minutes=minutes) if torch.cuda.is_available() else timedelta(days=7)
            self.watch = _Watch(self.rank, 60 * minutes)
            with self._meeting():
                distributed.init_process_group(backend, timeout=limit)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """The torch device ``name`` ("auto": CUDA if there is one); of "cuda", each process gets its own."""
        device = choose_device(name)
        if str(device) == "cuda" and self.world > 1:
            device = choose_device(f"cuda:{self.local_rank}")
        return device

    def share_of(self, count: int) -> int:
        """This process's part of the ``count`` cores of its machine."""
        return max(1, count // self.local_world)

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all ranks, as a new one."""
        total = value.clone(memory_format=torch.contiguous_format)
        with self._meeting():
            distributed.all_reduce(total)
        return total

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world > 1:
            with self._meeting():
                distributed.barrier()

    def gather(self, items: list) -> list:
        """The lists of all ranks as one, on every rank."""
        if self.world == 1:
            return items
        parts = [items] * self.world
        with self._meeting():
            distributed.all_gather_object(parts, items)
        return [item for part in parts for item in part]

    def close(self) -> None:
        """Leave, all at once: who goes first ends connections that others may still be making."""
        if self.world > 1:
            self.barrier()
            distributed.destroy_process_group()

    @contextlib.contextmanager
    def _meeting(self) -> Iterator[None]:
        """All that waits for the other processes; InputError if one of them has ended."""
        self.watch.arrive()
        try:
            yield
        except RuntimeError as error:
            reason = re.sub(r"^\[\S+:\d+\] ", "", first_line(error, 300))  # without the place in the library's source
            raise InputError(
                f"rank {self.rank}: another process of this run has ended ({reason[:100]}): its own line says why;"
                " the same command goes on"
            ) from None
        finally:
            self.watch.leave()


class _Watch:
    """Looks, beside the work, whether this process waits for too long or its parent has ended, and then ends it."""

    def __init__(self, rank, seconds):
        self.rank, self.seconds, self.parent = rank, seconds, os.getppid()
        self.waiting_since, self.left, self.longest, self.noticed = None, time.monotonic(), 0.0, False
        signal_at_end_of_parent(signal.SIGCONT)  # one that is stopped then goes on to see it, and ends
        threading.Thread(target=self._run, daemon=True).start()

    def arrive(self):
        now = time.monotonic()
        self.longest = max(self.longest, now - self.left)
        self.waiting_since = now

    def leave(self):
        self.left, self.waiting_since, self.noticed = time.monotonic(), None, False

    def _run(self):
        while True:
            time.sleep(1)
            self.look()

    def look(self):
        if os.getppid() != self.parent:
            self._end("the program that started it has ended")
        since = self.waiting_since
        waited = 0 if since is None else time.monotonic() - since
        if waited > NOTICE_SECONDS and not self.noticed:
            self.noticed = True
            sys.stderr.write(f"rank {self.rank} waits for the other processes, {waited:.0f} s now\n")
            sys.stderr.flush()
        if waited > self.longest + self.seconds:
            self._end(f"the other processes did not answer for {_duration(waited)} (--rank_timeout)")

    def _end(self, reason):
        # What waits inside a library cannot be interrupted: no other way out.
        say_error(f"rank {self.rank}: {reason}; the same command goes on")
        os._exit(2)


def _duration(seconds):
    return f"{seconds / 60:.0f} minutes" if seconds >= 100 else f"{seconds:.0f} seconds"


_NOT_OF_TORCHRUN = "start several processes by torchrun, or unset what is left of it (WORLD_SIZE, RANK)"


def _of_torchrun(name, default, low, stop=2**31):
    """The whole number in the environment variable ``name``, from ``low`` on and below ``stop``.

    Where it is not set, ``default``; where that is None, it is needed. InputError as well if it is no such number.
    """
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch("[0-9]{1,10}", text) or not low <= int(text) < stop:
        was = "is not set" if text is None else f"is {text[:40]!r}, not a number from {low} to {stop - 1}"
        raise InputError(f"the environment variable {name} {was}; {_NOT_OF_TORCHRUN}")
    return int(text)
