"""From prepared clips to stored features: workers decode ahead, the network runs, a thread writes."""

import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from extraction.failures import Failure, reason_of
from features.store_writer import StoreWriter
from model.encoders.factory import Encoder
from model.network import PRECISIONS as DTYPES
from utils.errors import InputError, is_of_machine

# Training's words, and half precision, whose range frozen encoders do not leave.
PRECISIONS = {**DTYPES, "fp16": torch.float16}
# Feature files name the precision by these words, which the command takes as well.
RECORDED = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class PreparedBatches(Dataset):
    """Batches of clips as (ids, stacked inputs or None, failures [(id, reason)]). ``paths``: id -> wav or frames.

    An error in the place of a batch is the machine's, no clip's.
    """

    def __init__(self, batches, paths, prepare):
        self.batches, self.paths, self.prepare = batches, paths, prepare

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, number):
        ids, inputs, failures = [], [], []
        for video in self.batches[number]:
            try:
                inputs.append(self.prepare(self.paths[video]))
                ids.append(video)
            except Exception as error:  # whatever one clip raises concerns that clip
                if is_of_machine(error):
                    return error
                failures.append((video, reason_of(error)))
        # Not as tensors, which workers hand over in shared memory: where there is none left, all would wait for ever.
        return ids, np.stack(inputs) if inputs else None, failures


def read_precision(text: str) -> str:
    """A word of PRECISIONS or RECORDED as one of PRECISIONS, for argparse; others are given back as they are."""
    return next((word for word, recorded in RECORDED.items() if recorded == text), text)


def plan_batches(ids: Sequence[str], batch_size: int, rank: int = 0, world: int = 1) -> list[list[str]]:
    """This rank's batches of ``ids``. They depend on nothing else, so that a run that goes on makes the same ones."""
    batches = [list(ids[start : start + batch_size]) for start in range(0, len(ids), batch_size)]
    return batches[rank::world]


def extract_features(
    encoder: Encoder, writer: StoreWriter, batches: list[list[str]], paths: dict[str, str], options: SimpleNamespace
) -> tuple[int, list[Failure]]:
    """Write the features of all clips in ``batches``; return how many, and the failures.

    ``options``: what, device, precision, feature_dtype, num_workers, show_progress.
    """
    network = encoder.network.to(options.device).eval()
    loader = _loader(PreparedBatches(batches, paths, encoder.prepare), options)
    total = sum(map(len, batches))
    count, failures, pending = 0, [], None
    with ThreadPoolExecutor(1) as thread, tqdm(**_bar(total, encoder.name, options)) as bar:
        for ids, inputs, failed in _whole(loader):
            features = infer(network, inputs, options.device, options.precision) if ids else []
            good, bad = _finite(ids, features, options.feature_dtype)
            failures += [Failure(video, options.what, reason) for video, reason in [*failed, *bad]]
            if pending:
                pending.result()
            pending = thread.submit(writer.write, good) if good else None
            count += len(good)
            bar.update(len(ids) + len(failed))
        if pending:
            pending.result()
    return count, failures


def _loader(data, options):
    return DataLoader(
        data,
        batch_size=None,
        num_workers=min(options.num_workers, len(data)),
        prefetch_factor=2 if options.num_workers and len(data) else None,
        collate_fn=_as_it_is,
        worker_init_fn=_leave_interrupts_to_parent,
    )


def _as_it_is(batch):
    return batch


def _leave_interrupts_to_parent(_):
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _whole(loader):
    """The batches of ``loader``, or the error that stands for one; InputError if a worker dies."""
    try:
        for batch in loader:
            if isinstance(batch, Exception):
                raise batch
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(f"a worker process died, out of memory perhaps ({error}); lower --num_workers") from None


def infer(network: nn.Module, inputs: np.ndarray, device: torch.device, precision: str = "fp32") -> np.ndarray:
    """Features of a batch of inputs as float32; ``precision``: one of PRECISIONS. InputError if a GPU has no room."""
    dtype = PRECISIONS[precision]
    mixed = torch.autocast(device.type, dtype) if dtype else nullcontext()
    try:
        with torch.inference_mode(), mixed:
            return network(torch.from_numpy(inputs).to(device)).float().cpu().numpy()
    except torch.OutOfMemoryError:
        raise InputError("the GPU's memory is full; lower --batch_size") from None


def _finite(ids, features, dtype):
    """Split a batch into {id: feature} and [(id, reason)] of those with values that ``dtype`` cannot hold."""
    good, bad = {}, []
    for video, feature in zip(ids, features, strict=True):
        with np.errstate(over="ignore"):
            feature = feature.astype(dtype)
        if np.isfinite(feature).all():
            good[video] = feature
        else:
            bad.append((video, f"its feature holds values that are not finite in {dtype}"))
    return good, bad


def _bar(total, name, options):
    # Silent (None) when not on a terminal; one bar for all ranks' sake.
    return {"total": total, "desc": name, "unit": "clip", "disable": None if options.show_progress else True}
