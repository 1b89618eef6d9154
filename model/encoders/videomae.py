"""VideoMAE's encoder (Tong et al., NeurIPS 2022), from transformers, as a feature extractor.

Shapes: B clips, F pairs of frames, S positions, D width; here 8, 196, 768.
"""

import logging
import os
from typing import Any

import torch
from torch import nn

from model.encoders.frames import IMAGENET_MEAN, IMAGENET_STD, normalized
from utils.errors import InputError, first_line
from utils.files import read_json

HUB_NAME = "MCG-NJU/videomae-base"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class VideoMAE(nn.Module):
    """uint8 frames (B, 16, 3, 224, 224) -> last hidden state (B, F, S, D)."""

    def __init__(self, encoder, mean=IMAGENET_MEAN, std=IMAGENET_STD):
        super().__init__()
        self.encoder, self.mean, self.std = encoder, mean, std

    @property
    def num_frames(self) -> int:
        return self.encoder.config.num_frames

    @property
    def image_size(self) -> int:
        return self.encoder.config.image_size

    @property
    def shape(self) -> tuple[int, int, int]:
        """(F, S, D) of a clip."""
        config = self.encoder.config
        positions = (config.image_size // config.patch_size) ** 2
        return config.num_frames // config.tubelet_size, positions, config.hidden_size

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.encode(normalized(frames, self.mean, self.std))

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """The same for normalised pixels."""
        hidden = self.encoder(pixels).last_hidden_state
        return hidden.unflatten(1, self.shape[:2])


def load_videomae(name: str | None = None) -> tuple[VideoMAE, str]:
    """VideoMAE and the file of its weights, from a local folder or the Hugging Face hub.

    InputError if they cannot be had, or lack one of the encoder's weights.
    """
    name = name or HUB_NAME
    from transformers.models.videomae.modeling_videomae import VideoMAEModel
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    set_verbosity_error()
    disable_progress_bar()
    weights = _find_weights(name)
    folder = os.path.dirname(weights)
    try:
        both: Any = VideoMAEModel.from_pretrained(folder, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise InputError(f"{name}: not a VideoMAE that transformers can load ({first_line(error, 120)})") from None
    encoder, loaded = both
    missing = sorted(loaded["missing_keys"]) + sorted(map(str, loaded.get("mismatched_keys", ())))
    if missing:
        raise InputError(f"{name}: no weights for {missing[0]} ({len(missing)} missing); is it for another model?")
    if encoder.config.use_mean_pooling:
        raise InputError(f"{name}: a fine-tuned VideoMAE (use_mean_pooling); expected a self-supervised one")
    return VideoMAE(encoder, *_pixel_statistics(folder)), weights


def _find_weights(name):
    """The local path of the weights; those of the hub are downloaded into its cache, beside the config."""
    if os.path.isdir(name):
        paths = [os.path.join(name, file) for file in _WEIGHTS]
        weights = next(filter(os.path.exists, paths), None)
        if not weights:
            raise InputError(f"{name}: neither {' nor '.join(_WEIGHTS)} in this folder")
        return weights
    from huggingface_hub.utils.logging import set_verbosity
    from transformers.utils.hub import cached_file

    set_verbosity(logging.CRITICAL)
    try:
        cached_file(name, "config.json")
        cached_file(name, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
        for file in _WEIGHTS:
            weights = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
            if weights:
                return weights
        reason = f"it has neither {' nor '.join(_WEIGHTS)}"
    except (OSError, ValueError) as error:
        reason = first_line(error, 160)
    raise InputError(
        f"VideoMAE {name}: no such folder, and no download ({reason}); download config.json and {_WEIGHTS[0]} of"
        f" {HUB_NAME} and pass their folder as --visual_checkpoint"
    )


def _pixel_statistics(folder):
    """Mean and standard deviation per colour from the image processor's settings; ImageNet's if there are none."""
    try:
        settings = read_json(os.path.join(folder, "preprocessor_config.json"))
        return tuple(settings["image_mean"]), tuple(settings["image_std"])
    except (OSError, InputError, KeyError, TypeError):
        return IMAGENET_MEAN, IMAGENET_STD
