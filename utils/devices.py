"""Where to compute."""

import torch

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


def check_precision(precision, device):
    """InputError if ``device`` does not have the format ``precision``."""
    if precision == "tf32" and device.type != "cuda":
        raise InputError(f"--precision tf32: a format of GPUs, this run is on {device}; use fp32 or bf16")
