"""The data of an incremental run: which clips belong to which class, and batches of their features.

data = open_data("AVE", modality="audio-visual")
clips = data.clips("train", slice(0, 7))
for batch in data.batches([clips[:256]], device): ...
"""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from utils.command_line import DATA_ROOT
from utils.datasets import dataset_folder
from utils.errors import InputError
from utils.features import check_features, open_features
from utils.splits import SPLITS, read_splits

DEFAULT_FRAMES = 8


@dataclass
class Batch:
    """Clips of one step of training or inference; the last ``num_replayed`` of them come from the exemplar memory.

    ``clip`` (B,) indices into the data, ``label`` (B,), ``audio`` (B, A) and ``visual`` (B, F, S, D) or None.
    """

    clip: np.ndarray
    label: torch.Tensor
    audio: torch.Tensor | None
    visual: torch.Tensor | None
    num_replayed: int = 0

    def __len__(self):
        return len(self.clip)

    @property
    def new(self):
        """The rows that are not replayed, as a slice."""
        return slice(0, len(self) - self.num_replayed)

    @property
    def replayed(self):
        """The rows that come from the exemplar memory, as a slice."""
        return slice(len(self) - self.num_replayed, len(self))


class IncrementalData:
    """Clips with labels in class order, and their features. The class order is applied already: labels are 0..C-1.

    ``ids[i]``, ``label[i]`` and ``split[i]`` describe clip i; ``index[video id]`` is its number.
    """

    def __init__(self, classes, clips, features, audio_dim, visual_shape, num_workers=1):
        self.classes, self.features, self.num_workers = classes, features, num_workers
        self.audio_dim, self.visual_shape = audio_dim, visual_shape
        self.ids = [video for split in SPLITS for video in clips[split]]
        self.index = {video: number for number, video in enumerate(self.ids)}
        self.label = np.array([label for split in SPLITS for label in clips[split].values()], dtype=np.int64)
        self.split = np.repeat(np.arange(len(SPLITS)), [len(clips[split]) for split in SPLITS])

    @property
    def num_classes(self):
        return len(self.classes)

    @property
    def visual_dim(self):
        return self.visual_shape and self.visual_shape[-1]

    def clips(self, split, classes):
        """Indices of the clips of ``split`` in the slice ``classes``: class by class, each in the file's order."""
        chosen = (self.split == SPLITS.index(split)) & (self.label >= classes.start) & (self.label < classes.stop)
        clips = np.flatnonzero(chosen)
        return clips[np.argsort(self.label[clips], kind="stable")]

    def ids_by_class(self, classes):
        """Ids of the training clips of each class in the slice ``classes``: {class: ids}."""
        by_class = {label: [] for label in range(classes.start, classes.stop)}
        for clip in self.clips("train", classes):
            by_class[int(self.label[clip])].append(self.ids[clip])
        return by_class

    def indices(self, videos):
        """Indices of the clips with these ids."""
        return np.array([self.index[video] for video in videos], dtype=np.int64)

    def batches(self, plan, device):
        """Yield a Batch for each of ``plan``: arrays of clip indices, or pairs (indices, number replayed).

        Up to ``num_workers`` threads read ahead; the order and the content do not depend on them.
        """
        plan = (entry if isinstance(entry, tuple) else (entry, 0) for entry in plan)
        if self.num_workers == 0:
            yield from (self.load(clips, device, replayed) for clips, replayed in plan)
            return
        with ThreadPoolExecutor(self.num_workers) as pool:
            ahead = deque()
            for clips, replayed in plan:
                ahead.append(pool.submit(self.load, clips, device, replayed))
                if len(ahead) > self.num_workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def load(self, clips, device="cpu", num_replayed=0):
        """Read the features of ``clips`` (indices) as float32 onto ``device``."""
        audio, visual = (self._gather(sense, clips, device) for sense in ("audio", "visual"))
        label = torch.from_numpy(self.label[clips]).to(device)
        return Batch(clips, label, audio, visual, num_replayed)

    def _gather(self, sense, clips, device):
        if sense not in self.features:
            return None
        shape = (self.audio_dim,) if sense == "audio" else self.visual_shape
        out = torch.empty((len(clips), *shape), pin_memory=torch.device(device).type == "cuda")
        rows = out.numpy().reshape(len(clips), -1)
        for row, clip in zip(rows, clips, strict=True):
            row[:] = self.features[sense][self.ids[clip]].reshape(-1)
        return out.to(device, non_blocking=True)


def open_data(
    dataset,
    modality="audio-visual",
    data_root=DATA_ROOT,
    num_classes=None,
    class_order_seed=None,
    num_frames=None,
    allow_missing=False,
    num_workers=1,
):
    """Open the data set ``dataset`` under ``data_root`` for one modality, and check all that training relies on.

    ``num_classes`` keeps the first so many classes; ``class_order_seed`` shuffles their order. ``num_frames`` splits
    visual features stored flat, (frames x positions, dims); default 8. ``allow_missing`` leaves clips without features
    out of every split. Raises InputError, in one line, on anything that does not fit.
    """
    folder = dataset_folder(data_root, dataset)
    splits = read_splits(folder)
    classes, clips = _choose_classes(splits, num_classes, class_order_seed)
    features = {sense: open_features(folder, sense) for sense in ("audio", "visual") if sense in modality}
    for feature in features.values():
        clips = _drop_missing(feature, clips, allow_missing)
    _check_classes(splits.source, classes, clips)
    videos = [video for split in SPLITS for video in clips[split]]
    audio_dim = visual_shape = None
    if "audio" in features:
        (audio_dim,) = check_features(features["audio"], videos, (1,), _bar("audio"))
    if "visual" in features:
        shape = check_features(features["visual"], videos, (2, 3), _bar("visual"))
        visual_shape = _frames_first(features["visual"].path, shape, num_frames)
    return IncrementalData(classes, clips, features, audio_dim, visual_shape, num_workers)


def _bar(sense):
    return partial(tqdm, desc=f"Checking {sense} features", disable=None, leave=False)


def _choose_classes(splits, num_classes, class_order_seed):
    found = len(splits.classes)
    if not found:
        raise InputError(f"{splits.source}: no clip in split train; add some")
    count = found if num_classes is None else num_classes
    if not 1 <= count <= found:
        raise InputError(f"--num_classes {count}: {splits.source} has {found} classes")
    order = np.arange(count)
    if class_order_seed is not None:
        order = np.random.default_rng(class_order_seed).permutation(count)
    new_label = {int(old): new for new, old in enumerate(order)}
    clips = {
        split: {video: new_label[label] for video, label in part.items() if label in new_label}
        for split, part in splits.clips.items()
    }
    return [splits.classes[label] for label in order], clips


def _drop_missing(feature, clips, allow_missing):
    missing = [video for split in SPLITS for video in clips[split] if video not in feature]
    if not missing:
        return clips
    some = f"{feature.path}: no feature for {len(missing)} clips of the splits: {', '.join(missing[:5])}"
    if not allow_missing:
        raise InputError(f"{some}; extract them, or pass --allow_missing to leave them out of every split")
    print(f"{some}; left out of every split (--allow_missing)", flush=True)
    gone = set(missing)
    return {split: {v: label for v, label in part.items() if v not in gone} for split, part in clips.items()}


def _check_classes(source, classes, clips):
    present = {split: set(part.values()) for split, part in clips.items()}
    for split in SPLITS:
        if not present[split]:
            raise InputError(f"{source}: no clip in split {split}; add some")
    for label, name in enumerate(classes):
        lacking = [split for split in SPLITS if label not in present[split]]
        if lacking:
            raise InputError(
                f"{source}: class {name!r} has no {' and no '.join(lacking)} clip; add some, or remove the class"
            )


def _frames_first(path, shape, num_frames):
    if len(shape) == 3:
        if num_frames not in (None, shape[0]):
            raise InputError(f"{path}: holds {shape[0]} frames, --num_frames {num_frames} does not fit; leave it out")
        return shape
    frames = DEFAULT_FRAMES if num_frames is None else num_frames
    if frames < 1 or shape[0] % frames:
        raise InputError(f"{path}: {shape[0]} tokens are not a multiple of {frames} frames; pass --num_frames")
    return frames, shape[0] // frames, shape[1]
