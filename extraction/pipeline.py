"""From prepared clips to stored features: workers decode ahead, the network runs, a thread writes."""

import contextlib
import queue
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from extraction.failures import Failure, reason_of
from extraction.inputs import Decoder, FromFiles, FromVideos, leave_interrupts_to_parent
from features.store_writer import StoreWriter
from model.encoders.factory import Encoder
from model.network import PRECISIONS as DTYPES
from utils.errors import InputError, is_of_machine

# Training's words, and half precision, whose range frozen encoders do not leave.
PRECISIONS = {**DTYPES, "fp16": torch.float16}
# Feature files name the precision by these words, which the command takes as well.
RECORDED = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass
class Job:
    """The features of one modality: of ``ids``, those that ``inputs`` has what they are made of."""

    modality: str
    ids: list[str]
    encoder: Encoder
    writer: StoreWriter
    inputs: FromFiles | FromVideos

    def missing(self) -> list[str]:
        """The ids that have neither a feature nor what it is made from."""
        return [v for v in self.ids if v not in self.writer.stored and not self.inputs.has(self.modality, v)]


class PreparedBatches(Dataset):
    """Batches, {id: modalities}, as {modality: (ids, stacked inputs or None, failures [(id, reason)])}.

    ``prepare(id, modalities)`` gives the inputs of one clip. An error in the place of a batch is the machine's, no
    clip's.
    """

    def __init__(self, batches, prepare):
        self.batches, self.prepare = batches, prepare

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, number):
        return _stacked({video: self.prepare(video, each) for video, each in self.batches[number].items()})


def _stacked(clips):
    parts = {}
    for video, inputs in clips.items():
        for modality, value in inputs.items():
            ids, values, failures = parts.setdefault(modality, ([], [], []))
            if not isinstance(value, Exception):
                ids.append(video)
                values.append(np.asarray(value))
            elif is_of_machine(value):
                return value
            else:
                failures.append((video, reason_of(value)))
    # Not as tensors, which workers hand over in shared memory: where there is none left, all would wait for ever.
    return {
        each: (ids, np.stack(values) if values else None, failures) for each, (ids, values, failures) in parts.items()
    }


def read_precision(text: str) -> str:
    """A word of PRECISIONS or RECORDED as one of PRECISIONS, for argparse; others are given back as they are."""
    return next((word for word, recorded in RECORDED.items() if recorded == text), text)


def plan_batches(ids: Sequence[str], batch_size: int, rank: int = 0, world: int = 1) -> list[list[str]]:
    """This rank's batches of ``ids``. They depend on nothing else, so that a run that goes on makes the same ones."""
    batches = [list(ids[start : start + batch_size]) for start in range(0, len(ids), batch_size)]
    return batches[rank::world]


def extract_features(
    jobs: list[Job], batches: list[dict[str, list[str]]], options: SimpleNamespace
) -> dict[str, tuple[int, list[Failure]]]:
    """Write the features of the clips in ``batches``, {id: modalities}; return per modality how many, and the failures.

    ``jobs`` have the same inputs. ``options``: device, precision, feature_dtype, num_workers, timeout, show_progress.
    """
    by_modality = {job.modality: job for job in jobs}
    networks = {job.modality: job.encoder.network.to(options.device).eval() for job in jobs}
    counts, failures, pending = dict.fromkeys(by_modality, 0), {each: [] for each in by_modality}, []
    total = sum(len(each) for batch in batches for each in batch.values())
    with ThreadPoolExecutor(1) as thread, tqdm(**_bar(total, jobs, options)) as bar:
        for batch in _whole(_loaded(jobs[0].inputs, batches, options)):
            written, pending = pending, []
            for modality, (ids, inputs, failed) in batch.items():
                values = [] if inputs is None else infer(networks[modality], inputs, options.device, options.precision)
                good, bad = _finite(ids, values, options.feature_dtype)
                failures[modality] += [Failure(v, f"{modality}_feature", reason) for v, reason in [*failed, *bad]]
                counts[modality] += len(good)
                pending += [thread.submit(by_modality[modality].writer.write, good)] if good else []
                bar.update(len(ids) + len(failed))
            for each in written:
                each.result()
        for each in pending:
            each.result()
    return {modality: (counts[modality], failures[modality]) for modality in by_modality}


def _loaded(inputs, batches, options):
    if isinstance(inputs, FromVideos):
        return _decoded(inputs, batches, options)
    data = PreparedBatches(batches, inputs)
    return DataLoader(
        data,
        batch_size=None,
        num_workers=min(options.num_workers, len(data)),
        prefetch_factor=2 if options.num_workers and len(data) else None,
        collate_fn=_as_it_is,
        worker_init_fn=leave_interrupts_to_parent,
    )


def _decoded(inputs, batches, options):
    """Stacked batches of clips that Decoders prepare, two batches ahead."""
    decoders = [Decoder(inputs, options.timeout) for _ in range(max(1, options.num_workers))]
    idle = queue.SimpleQueue()
    for decoder in decoders:
        idle.put(decoder)

    def prepare(video, modalities):
        decoder = idle.get()
        try:
            return decoder(video, modalities)
        finally:
            idle.put(decoder)

    ahead = deque()
    pool = ThreadPoolExecutor(len(decoders))
    try:
        for batch in [*batches, None, None]:
            ahead.append({video: pool.submit(prepare, video, each) for video, each in (batch or {}).items()})
            if len(ahead) > 2:
                yield _stacked({video: future.result() for video, future in ahead.popleft().items()})
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for decoder in decoders:
            decoder.stop()


def _as_it_is(batch):
    return batch


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
    mixed = torch.autocast(device.type, dtype) if dtype else contextlib.nullcontext()
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


def _bar(total, jobs, options):
    # Silent (None) when not on a terminal; one bar for all ranks' sake.
    names = ", ".join(job.encoder.name for job in jobs)
    return {"total": total, "desc": names, "unit": "clip", "disable": None if options.show_progress else True}
