"""``raw_data/<folder>/``: videos, and the sound and frames made of them, with a record of how they were made."""

import json
import os
import wave

from extraction.ffmpeg import FIRST_FRAME
from utils.datasets import find_dataset
from utils.errors import InputError
from utils.files import write_json

RECORD = "extraction.json"
_FLAGS = {"sample_rate": ("audios", "Hz"), "frame_rate": ("frames", "a second"), "short_side": ("frames", "pixels")}


class MediaFolder:
    """Paths under ``raw_root/<raw folder of the data set>``; see ``docs`` of the file formats in the README."""

    def __init__(self, raw_root, dataset):
        self.path = os.path.join(raw_root, find_dataset(dataset).raw_folder)
        self.videos, self.audios, self.frames = (os.path.join(self.path, n) for n in ("videos", "audios", "frames"))

    def wav(self, video):
        return os.path.join(self.audios, f"{video}.wav")

    def frames_of(self, video):
        return os.path.join(self.frames, video)

    def has(self, modality, video):
        """Whether the sound ("audio") or the frames ("visual") of a clip are there; what is there is whole."""
        path = self.wav(video) if modality == "audio" else os.path.join(self.frames_of(video), FIRST_FRAME)
        return os.path.exists(path)

    def extracted(self, modality):
        """The ids whose sound or frames are there, sorted."""
        folder = self.audios if modality == "audio" else self.frames
        if not os.path.isdir(folder):
            return []
        names = (name for name in os.listdir(folder) if not name.startswith("."))
        if modality == "audio":
            names = (name.removesuffix(".wav") for name in names if name.endswith(".wav"))
        return sorted(video for video in names if self.has(modality, video))

    def record(self):
        """How sound and frames were made: sample_rate, frame_rate, short_side, ffmpeg; {} if they are not ours."""
        path = os.path.join(self.path, RECORD)
        try:
            with open(path, encoding="utf-8") as file:
                return json.load(file)
        except FileNotFoundError:
            return {}
        except ValueError:
            raise InputError(f"{path}: not readable as JSON; remove it together with audios/ and frames/") from None

    def start_record(self, options, ffmpeg):
        """Note ``options`` before the first clip; InputError if clips made with other ones are there already.

        ``options``: some of sample_rate, frame_rate, short_side.
        """
        before = self.record()
        for name, value in options.items():
            folder, unit = _FLAGS[name]
            old = before.get(name)
            if old not in (None, value) and self.extracted("audio" if folder == "audios" else "visual"):
                raise InputError(
                    f"{os.path.join(self.path, folder)}: made with --{name} {old} ({unit}), not {value}; pass"
                    f" --{name} {old}, give another --raw_root, or remove that folder"
                )
        versions = sorted({*before.get("ffmpeg", []), ffmpeg})
        write_json(os.path.join(self.path, RECORD), before | options | {"ffmpeg": versions})


def wav_rate(path):
    """Sample rate in Hz from a wav file's header; None if it is not a wav file of whole samples."""
    try:
        with wave.open(path) as sound:
            return sound.getframerate()
    except (wave.Error, EOFError, OSError):
        return None
