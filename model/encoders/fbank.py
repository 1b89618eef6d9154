"""Kaldi-compatible log-mel filter banks, and the sound files they are computed from.

Shapes: n samples, T windows of 25 ms every 10 ms, M mel bands (128).
"""

import os
from functools import cache

import numpy as np
import soundfile
import torch
from torch.nn import functional as F

from utils.errors import InputError, MediaError, first_line
from utils.files import check_regular

FRAMES = 1024  # rows that AudioMAE takes: 10.24 s
MEL_BINS = 128
AUDIOSET_MEAN, AUDIOSET_STD = -4.2677393, 4.5689974  # of log-mel values; AudioMAE (NeurIPS 2022), section 4.1
LARGEST_SOUND = 2**27  # samples of all channels: three hours of one channel at the released rate
_WINDOW_MS, _SHIFT_MS = 25, 10
_PREEMPHASIS = 0.97
_LOWEST_HZ = 20.0
_EPSILON = torch.finfo(torch.float32).eps


def read_wav(path: str, expected_rate: int | None = None) -> tuple[torch.Tensor, int]:
    """A 16-bit wav file as (waveform, rate): float32 (n,), its first channel less the mean of all channels.

    Any number of channels. MediaError if the file is damaged, is of another kind, or has another rate than
    ``expected_rate``.
    """
    try:
        check_regular(path)
        with open(path, "rb") as file:
            # libsndfile takes a file that was cut short for a shorter one.
            whole = int.from_bytes(file.read(8)[4:], "little") + 8 <= os.path.getsize(path)
            file.seek(0)
            with soundfile.SoundFile(file) as sound:
                rate, samples = sound.samplerate, _samples(sound)
    except InputError as error:
        raise MediaError(str(error)) from None
    except soundfile.SoundFileError as error:
        raise MediaError(f"not a readable wav file ({first_line(error).rpartition(': ')[2]})") from None
    if not whole:
        raise MediaError("the wav file ends early")
    if expected_rate and rate != expected_rate:
        raise MediaError(f"the wav file is at {rate} Hz, others are at {expected_rate}; extract the sound again")
    return waveform_of(samples), rate


def waveform_of(samples: np.ndarray) -> torch.Tensor:
    """int16 samples (n, channels) as float32 (n,): the first channel less the mean of all."""
    waveform = torch.from_numpy(samples.astype(np.float32)).div_(32768)
    return waveform[:, 0] - waveform.mean()


def _samples(sound):
    """All samples of an open sound file as int16 (n, channels)."""
    if sound.format not in ("WAV", "WAVEX"):
        raise MediaError(f"not a readable wav file (it is {sound.format})")
    if sound.subtype != "PCM_16":
        raise MediaError(f"the wav file holds {sound.subtype}, expected 16-bit samples")
    if sound.frames * sound.channels > LARGEST_SOUND:
        raise MediaError(f"the wav file holds {sound.frames / sound.samplerate:.0f} s of sound; cut it")
    return sound.read(dtype="int16", always_2d=True)


def filter_bank(waveform: torch.Tensor, rate: int, bins: int = MEL_BINS, max_frames: int | None = None) -> torch.Tensor:
    """Log-mel energies (T, M) of ``waveform`` (n,) at ``rate`` Hz, as Kaldi's ``compute-fbank-feats``.

    Hann window of 25 ms every 10 ms, no energy, no dither; frames lie within the waveform (Povey et al.,
    The Kaldi Speech Recognition Toolkit, 2011). MediaError if there is not one whole window.
    """
    window, shift = int(rate * 0.001 * _WINDOW_MS), int(rate * 0.001 * _SHIFT_MS)
    if max_frames:
        waveform = waveform[: (max_frames - 1) * shift + window]
    if len(waveform) < window:
        raise MediaError(f"the sound is shorter than one window of {_WINDOW_MS} ms")
    frames = waveform.unfold(0, window, shift)
    frames = frames - frames.mean(1, keepdim=True)
    # Before the first sample Kaldi assumes that sample again.
    frames = frames - _PREEMPHASIS * F.pad(frames[None], (1, 0), mode="replicate")[0, :, :-1]
    size = 1 << (window - 1).bit_length()
    spectrum = torch.fft.rfft(frames * torch.hann_window(window, periodic=False), size)
    power = spectrum.real.square() + spectrum.imag.square()
    # The last bin, at half the sampling rate, carries no weight in Kaldi.
    return (power[:, :-1] @ _mel_weights(bins, size, rate)).clamp_min(_EPSILON).log()


@cache
def _mel_weights(bins, size, rate):
    """Triangles (size / 2, bins), straight in mel, between 20 Hz and half the sampling rate."""
    lowest, highest = _mel(torch.tensor([_LOWEST_HZ, rate / 2], dtype=torch.float64)).tolist()
    edges = torch.linspace(lowest, highest, bins + 2, dtype=torch.float64)
    mel = _mel(torch.arange(size // 2, dtype=torch.float64) * rate / size)[:, None]
    rising = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp_min(0).float()


def _mel(hertz):
    return 1127.0 * torch.log1p(hertz / 700.0)


def fit_frames(bank: torch.Tensor, frames: int = FRAMES) -> torch.Tensor:
    """``bank`` (T, M) cut, or padded with zeros, to ``frames`` rows."""
    return F.pad(bank[:frames], (0, 0, 0, max(0, frames - len(bank))))


def normalize(bank: torch.Tensor) -> torch.Tensor:
    """Filter banks as AudioMAE was trained on them: less AudioSet's mean, over twice its standard deviation."""
    return (bank - AUDIOSET_MEAN) / (2 * AUDIOSET_STD)
