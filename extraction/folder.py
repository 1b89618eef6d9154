"""``raw_data/<folder>/``: videos, and the sound and frames made of them, with a record of how they were made."""

import os

import soundfile

from extraction.ffmpeg import FIRST_FRAME
from utils.datasets import find_dataset
from utils.errors import InputError
from utils.files import read_json, write_json

RECORD = "extraction.json"
_FLAGS = {
    "sample_rate": ("audios", "Hz"),
    "frame_rate": ("frames", "a second"),
    "short_side": ("frames", "pixels"),
    "jpeg_quality": ("frames", "ffmpeg's scale"),
}
EARLIER_QUALITY = 2  # of frames from before it was recorded


class MediaFolder:
    """Paths under ``raw_root/<raw folder of the data set>``; see ``docs`` of the file formats in the README."""

    def __init__(self, raw_root: str, dataset: str):
        self.path = os.path.join(raw_root, find_dataset(dataset).raw_folder)
        self.videos, self.audios, self.frames = (os.path.join(self.path, n) for n in ("videos", "audios", "frames"))

    def wav(self, video: str) -> str:
        return os.path.join(self.audios, f"{video}.wav")

    def frames_of(self, video: str) -> str:
        return os.path.join(self.frames, video)

    def has(self, modality: str, video: str) -> bool:
        """Whether the sound ("audio") or the frames ("visual") of a clip are there; what is there is whole."""
        path = self.wav(video) if modality == "audio" else os.path.join(self.frames_of(video), FIRST_FRAME)
        return os.path.exists(path)

    def extracted(self, modality: str) -> list[str]:
        """The ids whose sound or frames are there, sorted."""
        folder = self.audios if modality == "audio" else self.frames
        if not os.path.isdir(folder):
            return []
        names = (name for name in os.listdir(folder) if not name.startswith("."))
        if modality == "audio":
            names = (name.removesuffix(".wav") for name in names if name.endswith(".wav"))
        return sorted(video for video in names if self.has(modality, video))

    def record(self) -> dict:
        """How sound and frames were made: sample_rate, frame_rate, short_side, ffmpeg; {} if they are not ours."""
        path, cure = os.path.join(self.path, RECORD), "remove it together with audios/ and frames/"
        if not os.path.exists(path):
            return {}
        record = read_json(path, cure=cure)
        numbers = isinstance(record, dict) and all(isinstance(record.get(name, 0), int) for name in _FLAGS)
        versions = record.get("ffmpeg", []) if numbers else None
        if not isinstance(versions, list) or not all(isinstance(version, str) for version in versions):
            raise InputError(f"{path}: not a record of an extraction; {cure}")
        return record

    def start_record(self, options: dict[str, int], ffmpeg: str):
        """Note ``options`` before the first clip; InputError if clips made with other ones are there already.

        ``options``: some of sample_rate, frame_rate, short_side.
        """
        before = self.record()
        earlier = {"jpeg_quality": EARLIER_QUALITY} if "frame_rate" in before else {}
        for name, value in options.items():
            folder, unit = _FLAGS[name]
            old = (earlier | before).get(name)
            if old not in (None, value) and self.extracted("audio" if folder == "audios" else "visual"):
                raise InputError(
                    f"{os.path.join(self.path, folder)}: made with --{name} {old} ({unit}), not {value}; pass"
                    f" --{name} {old}, give another --raw_root, or remove that folder"
                )
        versions = sorted({*before.get("ffmpeg", []), ffmpeg})
        write_json(os.path.join(self.path, RECORD), before | options | {"ffmpeg": versions})


def wav_rate(path: str) -> int | None:
    """Sample rate in Hz from a wav file's header; None if it is none."""
    if not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as file:
            return soundfile.info(file).samplerate
    except soundfile.SoundFileError:
        return None
