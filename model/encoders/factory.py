"""Encoders by name: what each takes from a clip's sound or frames, and the network that makes features of it.

Shapes: B clips, F frames, S positions, D width.
"""

import importlib
import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from model.encoders.fbank import FRAMES, filter_bank, fit_frames, normalize, read_wav, waveform_of
from model.encoders.frames import read_frames
from model.encoders.images import NUM_FRAMES, MeanPosition, Patches, load_timm
from model.encoders.videomae import HUB_NAME, load_videomae
from model.encoders.weights import file_sha256, find_checkpoint, state_sha256
from utils.errors import InputError, did_you_mean

AUDIO_ENCODERS = ("audiomae", "logmel")
VISUAL_ENCODERS = ("videomae", "patches", "timm/<model>")
WIDTH = 768  # of both audio encoders
_LOGMEL_BANDS, _LOGMEL_TIMES = 64, 12


@dataclass
class Encoder:
    """``prepare(path)`` gives the input of one clip; ``network`` maps a batch of those to features (B, *``shape``).

    In the place of a path it takes what extraction.videos gives.

    ``prepare`` can be sent to another process and raises MediaError for a clip it cannot read. ``attributes`` say how
    the features are made. ``left_out``: keys of the checkpoint that the network has no use for.
    """

    name: str
    prepare: Callable[[str], torch.Tensor]
    network: nn.Module
    shape: tuple[int, ...]
    attributes: dict
    left_out: list[str] = field(default_factory=list)


def build_audio_encoder(
    name: str, checkpoint: str | None = None, sample_rate: int | None = None, normalize_fbank: bool = False
) -> Encoder:
    """``audiomae``: (768,) a clip. ``logmel``: (768,), 64 log-mel bands x 12 equal parts of the clip, no weights.

    ``checkpoint``: a file of AudioMAE's weights, or ``hub``, which None stands for as well.
    """
    if name not in AUDIO_ENCODERS:
        build = _find("audio_encoder", name, AUDIO_ENCODERS)
        return build(checkpoint, sample_rate, normalize_fbank)
    attributes = {"encoder": name, "sample_rate": sample_rate or 0, "normalize_fbank": normalize_fbank}
    if name == "logmel":
        _refuse("--audio_checkpoint", checkpoint, "logmel has no weights")
        _refuse("--normalize_fbank", normalize_fbank, "logmel is normalised in any case")
        return Encoder(name, partial(prepare_logmel, sample_rate), nn.Identity(), (WIDTH,), attributes)
    from model.encoders.audiomae import hub_checkpoint, load_audiomae  # only here: the import takes seconds

    file = hub_checkpoint() if checkpoint in (None, "", "hub") else checkpoint
    network, left_out = load_audiomae(file)
    attributes |= {"checkpoint": checkpoint or "hub", "checkpoint_sha256": file_sha256(file)}
    return Encoder(
        name, partial(prepare_audiomae, sample_rate, normalize_fbank), network, (WIDTH,), attributes, left_out
    )


def build_visual_encoder(name: str, checkpoint: str | None = None, pooled: bool = False) -> Encoder:
    """``videomae``: (8, 196, 768) a clip. ``timm/<model>``: 8 frames x its tokens. ``patches``: (8, 4, 256).

    ``pooled``: one position a frame.
    """
    attributes = {"encoder": name, "pooling": "pooled" if pooled else "tokens"}
    if name == "patches":
        _refuse("--visual_checkpoint", checkpoint, "patches has no weights")
        network, prepare, left_out = Patches(), partial(read_frames, wanted=2 * NUM_FRAMES, side=Patches.side), []
        shape = Patches.shape
    elif name == "videomae":
        network, weights = load_videomae(checkpoint)
        prepare, left_out = partial(read_frames, wanted=network.num_frames, side=network.image_size), []
        shape = network.shape
        attributes |= {"checkpoint": checkpoint or HUB_NAME, "checkpoint_sha256": file_sha256(weights)}
    elif name.startswith("timm/"):
        network, options, left_out = load_timm(name.removeprefix("timm/"), checkpoint, pooled)
        prepare, shape = partial(read_frames, wanted=NUM_FRAMES, **options), network.shape(options["side"])
        attributes |= {
            "checkpoint": checkpoint or "timm's pretrained weights",
            "checkpoint_sha256": file_sha256(find_checkpoint(checkpoint)) if checkpoint else state_sha256(network),
        }
    else:
        return _find("visual_encoder", name, VISUAL_ENCODERS)(checkpoint, pooled)
    if pooled and not name.startswith("timm/"):
        network, shape = nn.Sequential(network, MeanPosition()), (shape[0], 1, shape[2])
    return Encoder(name, prepare, network, shape, attributes, left_out)


def prepare_audiomae(sample_rate: int | None, normalized: bool, sound: str | np.ndarray) -> torch.Tensor:
    """Filter bank (1, 1024, 128) of the first 10 s or so of a wav file, or of int16 (n, channels), zero-padded."""
    waveform, rate = _read(sound, sample_rate)
    bank = fit_frames(filter_bank(waveform, rate, max_frames=FRAMES))
    return (normalize(bank) if normalized else bank)[None]


def prepare_logmel(sample_rate: int | None, sound: str | np.ndarray) -> torch.Tensor:
    """The whole wav file, or int16 (n, channels), as the mean log-mel energies of 12 equal parts, (768,), band by band.

    Brought to mean 0 and variance 1 like the outputs of the trained encoders, so loudness does not matter.
    """
    waveform, rate = _read(sound, sample_rate)
    bands = filter_bank(waveform, rate, _LOGMEL_BANDS).T
    feature = F.adaptive_avg_pool1d(bands, _LOGMEL_TIMES).flatten()
    return F.layer_norm(feature, feature.shape)


def _find(function, name, known):
    """The ``function`` of the file ``model/encoders/<name>.py``; InputError if there is none."""
    folder = os.path.dirname(os.path.abspath(__file__))
    names = [module.name for module in pkgutil.iter_modules([folder])]
    build = getattr(importlib.import_module(f"model.encoders.{name}"), function, None) if name in names else None
    if build is None:
        meant = did_you_mean(name, known)
        raise InputError(
            f"--{function} {name}: not one of {', '.join(known)}{meant}, and no file model/encoders/{name}.py defines"
            f" {function} (docs/extending.md)"
        )
    return build


def _read(sound, sample_rate):
    if isinstance(sound, str):
        return read_wav(sound, sample_rate)
    assert sample_rate
    return waveform_of(sound), sample_rate


def _refuse(flag, value, reason):
    if value:
        raise InputError(f"{flag}: {reason}; leave it out")
