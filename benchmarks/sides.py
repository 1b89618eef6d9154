"""One side of benchmarks/training.py in a process of its own, with nothing loaded that the side does not need.

    python benchmarks/sides.py SIDE OUT.json FLAGS...

SIDE is ours (train_incremental.py as it is), plain (benchmarks/plain.py), or either with -resident: features made on
the GPU, ours a whole run after one of an epoch, plain its updates alone.
"""

import json
import os
import pathlib
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


class Meter:
    """Wall and CPU seconds of what is called through it."""

    def __init__(self):
        self.seconds = self.cpu = 0.0

    def of(self, function):
        def measured(*arguments):
            started = time.perf_counter(), time.process_time()
            result = function(*arguments)
            self.seconds, self.cpu = time.perf_counter() - started[0], time.process_time() - started[1]
            return result

        return measured


def ours(flags, meter):
    """The command itself; reading data and starting up are not in its training."""
    import train_incremental

    train_incremental.run = meter.of(train_incremental.run)
    train_incremental.main(flags)
    return {}


def plain(flags, meter):
    """The same training, written plainly."""
    import torch

    from benchmarks import plain

    plain.fit = meter.of(plain.fit)
    device = flags[flags.index("--device") + 1]
    plain.run(flags, torch.device(device))
    return {}


def ours_resident(flags, meter):
    """A whole run on features that are made on the GPU, after one of an epoch."""
    import gc

    import torch

    import train_incremental
    from features.cache import TokenCache

    def made_on_device(cache, parts, progress, bring):
        return (torch.randn(len(part), *cache.shape, device=cache.device, dtype=cache.dtype) for part in parts)

    setattr(TokenCache, "read_parts", made_on_device)  # noqa: B010 (a checker would refuse the assignment)
    started = time.perf_counter()
    train_incremental.main([*flags, "--max_epochs", "1"])
    gc.collect()  # its features are in circles of references
    torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter() - started
    train_incremental.run = meter.of(train_incremental.run)
    train_incremental.main([*flags, "--overwrite"])
    return {"device": torch.cuda.max_memory_allocated() / 1e9, "start_up": began}


def plain_resident(flags, meter):
    """The seconds of its updates on resident data, times their number: a whole run takes hours."""
    import torch

    from benchmarks import plain
    from benchmarks.made_up import SIZES

    size, epochs = SIZES["ave"], int(flags[flags.index("--max_epochs") + 1])
    steps = size.classes // 7
    updates = epochs * (size.counts[0] * 7 // 256)
    try:
        first, later = plain.resident_update(256, 0), plain.resident_update(256 + 128, 128)
        meter.seconds = updates * (first + (steps - 1) * later)
    except torch.OutOfMemoryError:
        meter.seconds = float("nan")
    return {"device": torch.cuda.max_memory_allocated() / 1e9}


def main():
    side, out, *flags = sys.argv[1:]
    meter = Meter()
    more = globals()[side.replace("-", "_")](flags, meter)
    from benchmarks.made_up import peak_resident

    found = {"seconds": meter.seconds, "cpu": meter.cpu, "host": peak_resident() / 1e9, **more}
    pathlib.Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
