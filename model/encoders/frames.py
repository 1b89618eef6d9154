"""Frames of a clip: which ones an encoder sees, and how they become pixels.

Shapes: F frames, H, W pixels.
"""

import os
from collections.abc import Sequence

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
    folder: str,
    wanted: int,
    side: int,
    resize: int | None = None,
    resample: Image.Resampling = Image.Resampling.BILINEAR,
) -> torch.Tensor:
    """``wanted`` frames of ``folder`` as uint8 (F, 3, side, side), F = ``wanted``.

    Each is scaled to a shorter side of ``resize`` (default: ``side``) pixels and cut to its central square.
    MediaError if there are none or one is unreadable.
    """
    names = sorted(name for name in os.listdir(folder) if name.endswith(".jpg"))
    if not names:
        raise MediaError("its folder of frames is empty")
    chosen = choose_frames(len(names), wanted)
    # Each file is decoded once, however often a short clip needs it.
    pixels = {index: _read_square(os.path.join(folder, names[index]), side, resize, resample) for index in set(chosen)}
    return torch.from_numpy(np.stack([pixels[index] for index in chosen])).permute(0, 3, 1, 2).contiguous()


def _read_square(path, side, resize, resample):
    try:
        check_regular(path)
        with Image.open(path) as image:
            width, height = image.size
            scale = (resize or side) / min(width, height)
            if scale * max(width, height) > _LONGEST_SIDE:
                raise MediaError(f"frames of {width} x {height} pixels are too long and narrow")
            size = (max(side, int(width * scale)), max(side, int(height * scale)))
            image = image.convert("RGB").resize(size, resample)
    except (OSError, SyntaxError, InputError, Image.DecompressionBombError) as error:
        if is_of_machine(error):
            raise
        raise MediaError(f"frame {os.path.basename(path)} is unreadable ({first_line(error, 80)})") from None
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return np.asarray(image)[top : top + side, left : left + side]


def normalized(
    frames: torch.Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> torch.Tensor:
    """uint8 frames (..., 3, H, W) as float32, less ``mean`` over ``std`` per colour (on a scale of 0 to 1)."""
    mean, std = (torch.tensor(values, device=frames.device).view(3, 1, 1) for values in (mean, std))
    return (frames.float() / 255 - mean) / std
