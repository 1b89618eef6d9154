"""Frames of a clip: which ones an encoder sees, and how they become pixels.

Shapes: F frames, H, W pixels.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image

from utils.errors import InputError, MediaError, first_line, is_of_machine
from utils.files import check_regular

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LONGEST_SIDE = 20_000


def choose_frames(available: int, wanted: int = 16) -> list[int]:
    """Indices from 0 of ``wanted`` of ``available`` frames: the first, evenly spread ones, the last.

    Those of the released features: numbers (from 1) 1, then 1 + int((i + 1) N / 15 + 0.5) for i = 0..13, then N. In
    short clips that runs past the end: the last frame stands in for those.
    """
    inner = [int((i + 1) * available / (wanted - 1) + 0.5) for i in range(wanted - 2)]
    return [min(index, available - 1) for index in [0, *inner, available - 1]][:wanted]


def read_frames(
    frames: str | Callable,
    wanted: int,
    side: int,
    resize: int | None = None,
    resample: Image.Resampling = Image.Resampling.BILINEAR,
) -> torch.Tensor:
    """``wanted`` frames of a folder as uint8 (F, 3, side, side), F = ``wanted``.

    Each is scaled to a shorter side of ``resize`` (default: ``side``) pixels and cut to its central square.
    MediaError if there are none or one is unreadable. In the place of a folder, ``frames(wanted, convert)`` gives those
    of a video, each through ``convert``.
    """
    square = partial(_square, side=side, resize=resize or side, resample=resample)
    if callable(frames):
        pixels = frames(wanted, lambda array: square(Image.fromarray(array)))
    else:
        names = sorted(name for name in os.listdir(frames) if name.endswith(".jpg"))
        if not names:
            raise MediaError("its folder of frames is empty")
        chosen = choose_frames(len(names), wanted)
        # Each file is decoded once, however often a short clip needs it.
        read = {index: _read_square(os.path.join(frames, names[index]), square) for index in set(chosen)}
        pixels = [read[index] for index in chosen]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()


def _read_square(path, square):
    try:
        check_regular(path)
        with Image.open(path) as image:
            return square(image)
    except (OSError, SyntaxError, InputError, Image.DecompressionBombError) as error:
        if is_of_machine(error):
            raise
        raise MediaError(f"frame {os.path.basename(path)} is unreadable ({first_line(error, 80)})") from None


def _square(image, side, resize, resample):
    width, height = image.size
    scale = resize / min(width, height)
    if scale * max(width, height) > _LONGEST_SIDE:
        raise MediaError(f"frames of {width} x {height} pixels are too long and narrow")
    size = (max(side, int(width * scale)), max(side, int(height * scale)))
    image = image.convert("RGB").resize(size, resample)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return np.asarray(image)[top : top + side, left : left + side]


def normalized(
    frames: torch.Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> torch.Tensor:
    """uint8 frames (..., 3, H, W) as float32, less ``mean`` over ``std`` per colour (on a scale of 0 to 1)."""
    centre, scale = (torch.tensor(values, device=frames.device).view(3, 1, 1) for values in (mean, std))
    return (frames.float() / 255 - centre) / scale
