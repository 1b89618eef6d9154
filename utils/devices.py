"""Where to compute."""

import contextlib
from collections.abc import Iterator

import torch

from utils.errors import InputError, first_line


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


def make_deterministic(precision: str = "fp32") -> None:
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


def check_precision(precision: str, device: torch.device) -> None:
    """InputError if ``device`` does not have the format ``precision``."""
    if precision == "tf32" and device.type != "cuda":
        raise InputError(f"--precision tf32: a format of GPUs, this run is on {device}; use fp32 or bf16")


@contextlib.contextmanager
def memory_errors(cure: str) -> Iterator[None]:
    """Let running out of memory, on a GPU or in main memory, end in an InputError with the ``cure``."""
    try:
        yield
    except MemoryError:
        raise InputError(f"out of memory; {cure}") from None
    except RuntimeError as error:
        # torch has a type of its own for a GPU's memory only.
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise InputError(f"out of memory ({first_line(error)}); {cure}") from None
