"""Where to compute."""

import os
from datetime import timedelta

import torch
from torch import distributed

from utils.errors import InputError


def choose_device(name):
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


def make_deterministic(precision="fp32"):
    """Let torch take only kernels that repeat exactly; ``tf32`` allows that format in a GPU's matrix products."""
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(True)
    else:
        # The same, without loading the compiler, which takes seconds.
        torch.set_deterministic_debug_mode("error")
    # Nothing here reads memory before it is written; to fill it all the same costs a twentieth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    # Partial sums of 16-bit products stay in float32.
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def check_precision(precision, device):
    """InputError if ``device`` does not have the format ``precision``."""
    if precision == "tf32" and device.type != "cuda":
        raise InputError(f"--precision tf32: a format of GPUs, this run is on {device}; use fp32 or bf16")


class Group:
    """``rank`` of ``world`` processes. On several machines they must see the same files."""

    def __init__(self):
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if self.world > 1:
            # Ranks wait for the slowest at the end, for as long as it takes.
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            distributed.init_process_group(backend, timeout=timedelta(days=7))

    @property
    def is_main(self):
        return self.rank == 0

    def device(self, name):
        """The torch device ``name`` ("auto": CUDA if there is one); of "cuda", each process gets its own."""
        device = choose_device(name)
        if str(device) == "cuda" and self.world > 1:
            device = choose_device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}")
        return device

    def share_of(self, count):
        """This process's part of the ``count`` cores of its machine."""
        return max(1, count // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))

    def sum(self, value):
        """The sum of a tensor over all ranks, as a new one."""
        total = value.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    def barrier(self):
        """Wait for all ranks."""
        if self.world > 1:
            distributed.barrier()

    def gather(self, items):
        """The lists of all ranks as one, on every rank."""
        if self.world == 1:
            return items
        parts = [None] * self.world
        distributed.all_gather_object(parts, items)
        return [item for part in parts for item in part]

    def close(self):
        if self.world > 1:
            distributed.destroy_process_group()
