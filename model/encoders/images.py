"""Encoders that look at one frame at a time: any image model of timm, and plain pixels.

Shapes: B clips, F frames, S positions of a frame, D width; H, W pixels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from model.encoders.frames import normalized
from model.encoders.weights import PACKAGED, find_checkpoint, fit_state, read_state, renamed_in_order
from utils.errors import InputError, first_line

NUM_FRAMES = 8


class TimmFrames(nn.Module):
    """uint8 frames (B, F, 3, H, W) -> (B, F, S, D): the tokens of each frame, class tokens left out.

    ``pooled``: one position a frame, what the model's own pooling makes of it.
    """

    def __init__(self, network: Any, mean: Sequence[float], std: Sequence[float], pooled: bool):
        super().__init__()
        self.network, self.mean, self.std, self.pooled = network, mean, std, pooled

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        hidden = self.network.forward_features(normalized(frames.flatten(0, 1), self.mean, self.std))
        if self.pooled:
            tokens = self.network.forward_head(hidden, pre_logits=True).flatten(1).unsqueeze(1)
        else:
            tokens = self.tokens(hidden)
        return tokens.unflatten(0, frames.shape[:2])

    @torch.inference_mode()
    def shape(self, side: int) -> tuple[int, int, int]:
        """(F, S, D) of a clip of NUM_FRAMES frames of ``side`` x ``side`` pixels, found out with one black frame."""
        training = self.training
        tokens = self.eval()(torch.zeros(1, 1, 3, side, side, dtype=torch.uint8))
        self.train(training)
        return NUM_FRAMES, *tokens.shape[2:]

    def tokens(self, hidden: torch.Tensor) -> torch.Tensor:
        """Tokens (B F, S, D) from what timm's models return: tokens, or maps with channels first or last."""
        if hidden.ndim == 3:
            return hidden[:, getattr(self.network, "num_prefix_tokens", 0) :]
        channels_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"
        return hidden.flatten(1, 2) if channels_last else hidden.flatten(2).transpose(1, 2)


def load_timm(name: str, path: str | None = None, pooled: bool = False) -> tuple[TimmFrames, dict, list[str]]:
    """The image model ``name`` of timm as TimmFrames, its frame options (side, resize, resample), and keys left out.

    Weights: the file ``path``, or one of PACKAGED, else timm's pretrained ones. InputError if either cannot be had.
    """
    import timm
    from timm.data.config import resolve_model_data_config

    try:
        network = timm.create_model(name, pretrained=path is None, num_classes=0)
    except Exception as error:  # timm, the hub and the network raise errors of many kinds
        reason = first_line(error, 160)
        raise InputError(
            f"timm/{name}: no such model, or no pretrained weights ({reason}); check the name, or pass"
            " a downloaded file as --visual_checkpoint"
        ) from None
    left_out = []
    if path:
        state = read_state(find_checkpoint(path))
        if path in PACKAGED:  # under the names of another library
            state = renamed_in_order(state, timm.create_model(name), path)
        left_out = fit_state(network, state, path)
    settings = resolve_model_data_config(network)
    side = settings["input_size"][-1]
    options = {
        "side": side,
        "resize": int(side / settings["crop_pct"]),
        "resample": getattr(Image.Resampling, settings["interpolation"].upper(), Image.Resampling.BICUBIC),
    }
    return TimmFrames(network, settings["mean"], settings["std"], pooled), options, left_out


class Patches(nn.Module):
    """Pixels as features, without weights: uint8 frames (B, 16, 3, 32, 32) -> (B, 8, 4, 256).

    The mean of each two frames, in grey, is cut into 2 x 2 patches of 16 x 16 numbers.
    """

    side = 32
    patch = 16
    shape = (NUM_FRAMES, 4, 256)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        pixels = normalized(frames).unflatten(1, (NUM_FRAMES, -1)).mean((2, 3), keepdim=True).squeeze(2)
        patches = F.unfold(pixels.flatten(0, 1), self.patch, stride=self.patch)
        return patches.transpose(1, 2).unflatten(0, (-1, NUM_FRAMES)).contiguous()


class MeanPosition(nn.Module):
    """(B, F, S, D) -> (B, F, 1, D)."""

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        return feature.mean(2, keepdim=True)
