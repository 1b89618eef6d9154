"""How much memory may hold features."""

import torch

from utils.errors import InputError

# What a batch of 384 clips of 8 x 196 x 768 needs beside the features held, with room to spare.
BATCH_BYTES = 6e9
# On a CPU features that are not held are read from the page cache nearly as fast: little is enough.
CPU_BYTES = 0.5e9


def device_bytes(text, device):
    """Bytes for features on ``device``: ``text`` is a number of GB, or ``auto``, what is free but for batches."""
    if text != "auto":
        return _gigabytes("--device_cache", text)
    if device.type == "cuda":
        return max(0, torch.cuda.mem_get_info(device)[0] - BATCH_BYTES)
    return min(CPU_BYTES, available() / 4)


def host_bytes(text, device):
    """Bytes for features in the memory beside a GPU, where they wait if they do not fit there; ``auto``: half."""
    if text != "auto":
        return _gigabytes("--host_cache", text)
    return available() / 2 if device.type == "cuda" else 0


def available():
    """Bytes of main memory that can be had without swapping; 8 GB where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 8e9


def _gigabytes(flag, text):
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise InputError(f"{flag} {text}: give a number of GB, 0 for none, or auto")
    return value * 1e9


def tensor_bytes(content):
    """Bytes of all tensors in ``content``, nested dicts and lists."""
    if isinstance(content, torch.Tensor):
        return content.nbytes
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, (list, tuple)) else ()
    return sum(map(tensor_bytes, parts))
