"""What encoders take of a clip, by its id: of the sound and frames of the first step, or of the video itself.

Both answer alike: ``has`` whether a clip has what a modality needs, ``reason`` why not, ``attributes`` how its sound or
frames come about, and a call with an id the inputs of the encoders.
"""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterable
from multiprocessing.process import BaseProcess

import torch

from extraction.failures import read_failures, reason_of
from extraction.folder import EARLIER_QUALITY, MediaFolder, wav_rate
from extraction.videos import Prepared, attempt, prepare_video
from splits.clips import Videos
from utils.errors import MediaError, is_of_machine


class FromFiles:
    """Sound and frames in ``folder``. ``prepare``: modality -> what an encoder makes of a wav or a folder of frames."""

    def __init__(self, folder: MediaFolder):
        self.folder, self.prepare, self.record = folder, {}, folder.record()
        failures = read_failures(folder.path)
        self.failures = {(failure.id, failure.what): failure.reason for failure in failures}

    def has(self, modality: str, video: str) -> bool:
        return self.folder.has(modality, video)

    def reason(self, modality: str, video: str) -> str:
        step = "audio" if modality == "audio" else "frames"
        known = self.failures.get((video, step)) or self.failures.get((video, "video"))
        return known or f"no {step} extracted yet"

    @property
    def sample_rate(self) -> int | None:
        """Hz, of all of the sound."""
        return self.record.get("sample_rate") or wav_rate(self.folder.wav(self.folder.extracted("audio")[0]))

    def attributes(self, modality: str) -> dict:
        about = {"ffmpeg": ", ".join(self.record.get("ffmpeg", ["unknown"]))}
        if modality == "audio":
            return about
        if self.record:
            about["jpeg_quality"] = self.record.get("jpeg_quality", EARLIER_QUALITY)
        return about | {name: self.record.get(name, "unknown") for name in ("frame_rate", "short_side")}

    def __call__(self, video: str, modalities: Iterable[str]) -> Prepared:
        places = {"audio": self.folder.wav, "visual": self.folder.frames_of}
        return {each: attempt(self.prepare[each], places[each](video)) for each in modalities}


class FromVideos:
    """The video files themselves, each decoded once; ``sample_rate`` and ``frame_rate`` as in the first step."""

    def __init__(self, videos: Videos, sample_rate: int, frame_rate: int, max_seconds: float):
        self.videos, self.prepare = videos, {}
        self.sample_rate, self.frame_rate, self.max_seconds = sample_rate, frame_rate, max_seconds

    def has(self, modality: str, video: str) -> bool:
        return self.videos.problem_of(video) is None

    def reason(self, modality: str, video: str) -> str:
        return self.videos.problem_of(video) or ""

    def attributes(self, modality: str) -> dict:
        rate = {"frame_rate": self.frame_rate, "short_side": 0} if modality == "visual" else {}
        return {"from": "videos", "ffmpeg": decoder_version(), **rate}

    def __call__(self, video: str, modalities: Iterable[str]) -> Prepared:
        return prepare_video(
            self.videos.files_of(video)[0],
            {each: self.prepare[each] for each in modalities},
            self.sample_rate,
            self.frame_rate,
            self.max_seconds,
        )


def decoder_version() -> str:
    """PyAV and the decoders it carries, for the record of how features were made."""
    import av  # here: few commands read videos themselves

    return f"PyAV {av.__version__}, libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"


START_SECONDS, START_TRIES = 20, 3  # for the process of a decoder to answer


class Decoder:
    """Prepares clips in a process of its own: one that crashes it, or takes longer than ``timeout`` seconds, fails."""

    def __init__(self, inputs: FromVideos, timeout: float):
        self.inputs, self.timeout = inputs, timeout
        self.process: BaseProcess | None = None

    def __call__(self, video: str, modalities: list[str]) -> Prepared:
        try:
            process = self.process or self.start()
        except MediaError as error:
            return dict.fromkeys(modalities, error)
        try:
            self.pipe.send((video, modalities))
            if self.pipe.poll(self.timeout):
                return self.pipe.recv()
            error = MediaError(f"its decoding did not finish within {self.timeout:g} seconds")
        except (EOFError, OSError):
            process.join(1)
            error = MediaError(f"its decoder was ended by {_ending(process.exitcode)}")
        self.stop()
        return dict.fromkeys(modalities, error)

    def start(self) -> BaseProcess:
        """Begin; the process. One that says nothing is begun anew: it may wait for a lock that a thread held here."""
        for _ in range(START_TRIES):
            process = self._fork()
            with contextlib.suppress(EOFError, OSError):
                if self.pipe.poll(START_SECONDS):
                    self.pipe.recv()
                    return process
            self.stop()
        raise MediaError("no process for its decoder could be started")

    def _fork(self):
        context = multiprocessing.get_context("fork")
        self.pipe, other = context.Pipe()
        self.process = process = context.Process(target=_serve, args=(self.inputs, other), daemon=True)
        process.start()
        other.close()
        return process

    def stop(self):
        """End the process, whatever it does; the next clip gets another one."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.join()
            self.pipe.close()


def _ending(exit_code):
    return signal.Signals(-exit_code).name if exit_code and exit_code < 0 else f"its exit ({exit_code})"


def _serve(inputs, pipe):
    """Answer as long as the parent lives: its end of the pipe is open in other decoders too."""
    leave_interrupts_to_parent()
    torch.set_num_threads(1)
    parent = os.getppid()
    pipe.send("ready")
    while os.getppid() == parent:
        if pipe.poll(1):
            pipe.send({modality: _portable(value) for modality, value in inputs(*pipe.recv()).items()})


def _portable(value):
    """An input as an array, since tensors would be handed over in shared memory; an error as one that can be sent."""
    if not isinstance(value, Exception):
        return value.numpy()
    return OSError(*value.args[:2]) if is_of_machine(value) else MediaError(reason_of(value))


def leave_interrupts_to_parent(_: int = 0):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
