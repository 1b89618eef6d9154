"""The data of an incremental run: which clips belong to which class, and batches of their features.

data = open_data("AVE", modality="audio-visual")
clips = data.clips("train", slice(0, 7))
for batch in data.batches([clips[:256]]): ...
"""

import hashlib
import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from features.batch import Batch
from features.cache import CacheOptions, TokenCache
from features.checks import common_shape, frames_first, read_all, refuse_expansion, token_mean
from features.sources import Features
from features.store import feature_files, open_features
from features.tokens import FeatureSizes, Tokens
from features.transfer import upload
from splits.draw import source_video
from splits.formats import SPLITS, read_splits
from splits.select import check_classes, choose_classes, drop_missing
from utils.command_line import DATA_ROOT
from utils.datasets import MODALITIES, dataset_folder
from utils.devices import Group


class IncrementalData(FeatureSizes):
    """Clips with labels in class order, and their features. The class order is applied already: labels are 0..C-1.

    ``ids[i]``, ``label[i]`` and ``split[i]`` describe clip i; ``index[video id]`` is its number. ``vectors``: one per
    clip and modality, on ``device`` from the start, of visual features the mean token; ``tokens``:
    features.cache.TokenCache, or None. ``features``: modality -> features.sources.Features; ``state``: see data_state.
    """

    def __init__(self, classes: list[str], clips: dict, device: torch.device | str = "cpu"):
        super().__init__()
        self.classes, self.device = classes, torch.device(device)
        self.ids = [video for split in SPLITS for video in clips[split]]
        self.index = {video: number for number, video in enumerate(self.ids)}
        self.label = np.array([label for split in SPLITS for label in clips[split].values()], dtype=np.int64)
        self.split = np.repeat(np.arange(len(SPLITS)), [len(clips[split]) for split in SPLITS])
        self.labels = torch.from_numpy(self.label).to(self.device)
        self.features: dict[str, Features] = {}
        self.vectors: dict[str, torch.Tensor] = {}
        self.tokens: TokenCache | None = None
        self.state = {}
        self.seconds_to_open = 0.0

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def clips(self, split: str, classes: slice) -> np.ndarray:
        """Indices of the clips of ``split`` in the slice ``classes``: class by class, each in the file's order."""
        chosen = (self.split == SPLITS.index(split)) & (self.label >= classes.start) & (self.label < classes.stop)
        clips = np.flatnonzero(chosen)
        return clips[np.argsort(self.label[clips], kind="stable")]

    def ids_by_class(self, classes: slice) -> dict[int, list[str]]:
        """Ids of the training clips of each class in the slice ``classes``: {class: ids}."""
        by_class = {label: [] for label in range(classes.start, classes.stop)}
        for clip in self.clips("train", classes):
            by_class[int(self.label[clip])].append(self.ids[clip])
        return by_class

    @property
    def clip_bytes(self) -> int:
        """Bytes of one clip's features, in the form that a run of this modality uses."""
        vectors = sum(values[0].nbytes for values in self.vectors.values())
        return vectors + (self.tokens.clip_bytes if self.tokens else 0)

    @property
    def group(self) -> Group | None:
        """The processes that share the tokens, or None."""
        return self.tokens.group if self.tokens else None

    def indices(self, videos: list[str]) -> np.ndarray:
        """Indices of the clips with these ids."""
        return np.array([self.index[video] for video in videos], dtype=np.int64)

    def feature_digests(self) -> dict[str, str]:
        """A digest of the features of each modality (of visual tokens a sample), whatever the order of clips is."""
        order = np.argsort(self.ids)
        values = {modality: vectors.cpu().numpy()[order] for modality, vectors in self.vectors.items()}
        if self.tokens:
            values["visual"] = self.tokens.read(order[np.linspace(0, len(order) - 1, 8).astype(int)]).numpy()
        return {modality: hashlib.sha256(array.tobytes()).hexdigest() for modality, array in values.items()}

    def description(self) -> dict:
        """What there is to know of the data, as plain values: digests, sizes, and how the features were made."""
        digests = self.feature_digests()
        return {
            "sha256": _digest((self.classes, self.ids, self.label.tolist(), self.split.tolist(), digests)),
            "digests": {"splits": self.state["splits"], **digests},
            "audio_dim": self.audio_dim,
            "visual_shape": self.visual_shape and list(self.visual_shape),
            "features": {modality: feature.attributes for modality, feature in self.features.items()},
            **self.state,
        }

    def shared_with_training(self) -> float:
        """The share of test clips cut from a video that training has clips of too, as far as their ids tell."""
        videos = np.array([source_video(video) for video in self.ids])
        test, training = videos[self.split == SPLITS.index("test")], videos[self.split == SPLITS.index("train")]
        return float(np.isin(test, training).mean())

    def prefetch(self, clips: np.ndarray, later: np.ndarray | None = None) -> None:
        """Bring the features of ``clips``, for the coming epochs, as near as they fit; then those for ``later``."""
        if self.tokens:
            later = clips if later is None else later
            self.tokens.prefetch(clips, later, partial(tqdm, desc="Reading features", disable=None, leave=False))

    def local(self, clips: np.ndarray) -> np.ndarray:
        """Those of ``clips`` whose tokens are this process's part; all of them if it is alone."""
        return self.tokens.local(clips) if self.tokens else clips

    def batches(self, plan: Iterable) -> Iterator[Batch]:
        """Yield a Batch for each of ``plan``: arrays of clip indices, or pairs (indices, number replayed).

        What must cross to a GPU is fetched one batch ahead; neither order nor content depend on it.
        """
        pairs: list[tuple[np.ndarray, int]] = [entry if isinstance(entry, tuple) else (entry, 0) for entry in plan]
        entries = [(*pair, index) for pair, index in zip(pairs, self.upload(pairs), strict=True)]
        if not self.tokens or not self.tokens.copies_per_batch:
            yield from (self.load(*entry) for entry in entries)
            return
        with ThreadPoolExecutor(1) as pool:
            ahead = deque()
            for entry in entries:
                ahead.append(pool.submit(self.load, *entry))
                if len(ahead) > 1:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def upload(self, plan: list[tuple[np.ndarray, int]]) -> list[torch.Tensor]:
        """The indices of the clips of each of ``plan`` on the device."""
        return upload([clips for clips, _ in plan], self.device)

    def load(self, clips: np.ndarray, num_replayed: int = 0, index: torch.Tensor | None = None) -> Batch:
        """The Batch of ``clips`` (indices), which the device may have already as ``index``."""
        index = self.upload([(clips, num_replayed)])[0] if index is None else index
        tokens = None if self.tokens is None else self.tokens.tokens(clips, index)
        return self._batch(clips, index, num_replayed, tokens)

    def on_device(self, plan: list[tuple[np.ndarray, int]]) -> bool:
        """Whether all features of the clips of ``plan`` are on the device."""
        return self.tokens is None or self.tokens.holds(np.concatenate([clips for clips, _ in plan]))

    def batch_on_device(self, index: torch.Tensor, num_replayed: int = 0) -> Batch:
        """The Batch of the clips ``index`` (B,), indices on the device, where their features are (``on_device``)."""
        tokens = None if self.tokens is None else self.tokens.tokens_on_device(index)
        return self._batch(None, index, num_replayed, tokens)

    def _batch(self, clips, index, num_replayed, tokens):
        vectors = {modality: values.index_select(0, index) for modality, values in self.vectors.items()}
        if tokens is None and "visual" in vectors:
            tokens = Tokens.of(vectors["visual"][:, None, None])
        label = self.labels.index_select(0, index)
        return Batch(clips, label, vectors.get("audio"), tokens, num_replayed, index)


def count_classes(dataset: str, data_root: str, num_classes: int | None, splits: str | None = None) -> int:
    """How many classes ``open_data`` will find, without a look at the features."""
    return len(choose_classes(read_splits(splits or dataset_folder(data_root, dataset)), num_classes, None)[0])


def data_state(dataset: str, modality: str, data_root: str, splits: str | None = None) -> dict:
    """What tells, without a look at the features, whether the data may have changed, as plain values.

    ``splits``: a digest of clips and classes; ``files``: modality -> name, bytes and time of each file of features.
    """
    folder = dataset_folder(data_root, dataset)
    read = read_splits(splits or folder)
    files = {each: feature_files(folder, each) for each in MODALITIES[modality]}
    return {"splits": _digest((read.classes, read.clips)), "files": files}


def open_data(
    dataset: str,
    modality: str = "audio-visual",
    data_root: str = DATA_ROOT,
    num_classes: int | None = None,
    class_order_seed: int | None = None,
    num_frames: int | None = None,
    allow_missing: bool = False,
    device: torch.device | str = "cpu",
    needs_tokens: bool | None = None,
    cache: CacheOptions | None = None,
    splits: str | None = None,
) -> IncrementalData:
    """Open the data set ``dataset`` under ``data_root`` for one modality, and check all that training relies on.

    ``num_classes`` keeps the first so many classes; ``class_order_seed`` shuffles their order. ``num_frames`` splits
    visual features stored flat, (frames x positions, dims); default 8. ``allow_missing`` leaves clips without features
    out of every split. ``needs_tokens``: whether single visual tokens are used, or only the mean of each clip (the
    default in visual runs). ``cache``: where tokens are held. ``splits``: a folder or csv file of splits other than the
    data set's. Raises InputError, in one line, on anything that does not fit.
    """
    folder = dataset_folder(data_root, dataset)
    split_table = read_splits(splits or folder)
    classes, clips = choose_classes(split_table, num_classes, class_order_seed)
    started = time.perf_counter()
    features = {each: open_features(folder, each) for each in MODALITIES[modality]}
    for feature in features.values():
        clips = drop_missing(feature, clips, allow_missing)
    check_classes(split_table.source, classes, clips)
    data = IncrementalData(classes, clips, device)
    data.features, data.state = features, data_state(dataset, modality, data_root, splits)
    if "audio" in features:
        (data.audio_dim,) = _shape(features["audio"], data.ids, (1,))
        data.vectors["audio"] = _vectors(features["audio"], data, data.audio_dim)
    if "visual" in features:
        shape = _shape(features["visual"], data.ids, (2, 3))
        data.visual_shape = frames_first(features["visual"].path, shape, num_frames)
        if modality == "audio-visual" if needs_tokens is None else needs_tokens:
            data.tokens = _tokens(features["visual"], data, cache or CacheOptions())
        else:
            data.vectors["visual"] = _means(features["visual"], data, shape[-1])
    data.seconds_to_open = time.perf_counter() - started
    return data


def _shape(feature, ids, dims):
    """``common_shape``; InputError as well for a file that few bytes make out to be many."""
    shape = common_shape(feature, ids, dims)
    if not feature.checked:
        cure = "if that is meant, make its store (python features/convert.py --yes_expand)"
        refuse_expansion(feature.path, 4 * len(ids) * math.prod(shape), cure)
    return shape


def _digest(plain):
    return hashlib.sha256(repr(plain).encode()).hexdigest()


def _vectors(feature, data, width, reduce=lambda array: array, modality="audio"):
    """One vector (width,) per clip as a tensor on the device: its feature, passed through ``reduce``."""
    vectors = np.empty((len(data.ids), width), np.float32)

    def keep(number, array):
        vectors[number] = reduce(array)

    read_all(feature, data.ids, _bar(modality), keep)
    return torch.from_numpy(vectors).to(data.device)


def _means(feature, data, width):
    if feature.means is None:
        return _vectors(feature, data, width, partial(token_mean, frames=data.visual_shape[0]), "visual")
    return torch.from_numpy(feature.means[feature.rows(data.ids)]).to(data.device)


def _tokens(feature, data, options):
    if not feature.checked:
        read_all(feature, data.ids, _bar("visual"))
    return TokenCache(feature, data.ids, data.visual_shape, data.device, options)


def _bar(modality):
    return partial(tqdm, desc=f"Checking {modality} features", disable=None, leave=False)
