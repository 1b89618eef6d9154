"""One look at every feature before it is used: shapes, types, values that are numbers; and the mean token of a clip."""

import os
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from features.sources import Features
from utils.errors import InputError


def common_shape(features: Features, videos: Sequence[str], dims: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that all ``videos`` share, of as many axes as ``dims`` allow; InputError if shapes or types differ."""
    shape, _ = features.describe(videos[0])
    axes = " or ".join(map(str, dims))
    if len(shape) not in dims or 0 in shape:
        raise InputError(f"{features.path}: {videos[0]!r} has shape {shape}, expected {axes} axes")
    for video in videos:
        other, dtype = features.describe(video)
        if dtype.kind != "f":
            raise InputError(f"{features.path}: {video!r} holds {dtype}, expected float16, float32 or float64")
        if other != shape:
            raise InputError(f"{features.path}: {video!r} has shape {other}, {videos[0]!r} has {shape}; make it again")
    return shape


# Features so many times larger than their file, and larger than this, are hardly meant.
EXPANSION, LARGE = 16, 2**30


def refuse_expansion(path: str, size: float, cure: str) -> None:
    """InputError with the ``cure`` if few bytes in the file ``path`` say that they are ``size`` bytes of features."""
    held = os.path.getsize(path)
    if size > LARGE and size > EXPANSION * held:
        raise InputError(f"{path}: {held / 1e6:.1f} MB would become {size / 1e9:.2f} GB of features; {cure}")


def read_all(
    features: Features,
    videos: Sequence[str],
    progress: Callable[[Sequence[str]], Iterable[str]],
    use: Callable[[int, np.ndarray], object] | None = None,
):
    """Read every clip once, give it as ``use(number, array)``; InputError naming the clips with bad values at the end.

    ``progress`` wraps the list of videos.
    """
    bad = []
    for number, video in enumerate(progress(videos)):
        array = features[video]
        if not finite(array):
            bad.append(video)
        elif use:
            use(number, array)
    if bad:
        raise InputError(
            f"{features.path}: {len(bad)} clips hold values that are NaN, infinite or too large for float32:"
            f" {', '.join(bad[:5])}; extract them again, or remove them"
            " (python features/convert.py --skip_bad) and pass --allow_missing"
        )


def finite(array: np.ndarray) -> bool:
    """Whether all values are finite as float32, which training makes of them (float16 stays what it is)."""
    with np.errstate(all="ignore"):
        array = array.astype(np.float32, copy=False) if array.itemsize > 4 else array
        # One pass without a temporary: a sum is finite unless a value is not (it is too wide to overflow).
        return bool(np.isfinite(array.sum(dtype=np.float64)))


DEFAULT_FRAMES = 8


def frames_first(path: str, shape: tuple[int, ...], num_frames: int | None) -> tuple[int, int, int]:
    """``shape`` of visual tokens, (frames x positions, D) or (frames, positions, D), as the latter.

    InputError if ``num_frames`` (None: 8, or what the shape says) does not fit."""
    if len(shape) == 3:
        if num_frames not in (None, shape[0]):
            raise InputError(f"{path}: holds {shape[0]} frames, --num_frames {num_frames} does not fit; leave it out")
        return shape
    frames = DEFAULT_FRAMES if num_frames is None else num_frames
    if frames < 1 or shape[0] % frames:
        raise InputError(f"{path}: {shape[0]} tokens are not a multiple of {frames} frames; pass --num_frames")
    return frames, shape[0] // frames, shape[1]


def token_mean(array: np.ndarray, frames: int = DEFAULT_FRAMES) -> np.ndarray:
    """The mean token (D,) float32 of tokens (F, S, D), or (F * S, D) of ``frames`` frames: over frames, then positions.

    To the bit what PyTorch gives (widths that 32 divides, up to 256 frames and positions): AFC's KMeans tells last bits
    apart.
    """
    tokens = array.astype(np.float32, copy=False)
    if tokens.ndim == 2:
        frames = frames if len(tokens) % frames == 0 else 1
        tokens = tokens.reshape(frames, -1, tokens.shape[-1])
    return _mean(_mean(tokens))


def _mean(rows):
    """The mean over the first axis, summed as torch does along an outer dimension: 16 rows at a time, then these."""
    whole = len(rows) // 16
    blocks = rows[: 16 * whole].reshape(whole, 16, *rows.shape[1:])
    return (rows[16 * whole :].sum(0) + blocks.sum(1).sum(0)) / np.float32(len(rows))
