"""Sound tracks and frames of video files, by ffmpeg: the system's, else the one that imageio-ffmpeg carries."""

import os
import re
import shutil
import subprocess
import tempfile
import wave
from functools import cache

from utils.errors import InputError, MediaError
from utils.files import UMASK, sync

DEFAULT_SAMPLE_RATE = 11430  # of the released features; AudioMAE itself was trained on 16000
PARTIAL = ".partial-"
FIRST_FRAME = "000001.jpg"
# Only local files: a playlist that calls itself .mp4 must not make ffmpeg fetch what it names.
_COMMON = ("-nostdin", "-hide_banner", "-nostats", "-protocol_whitelist", "file", "-threads", "1")
_STREAM = re.compile(r"^\s*Stream #\d+:\d+.*?: (Audio|Video): (.*)$", re.MULTILINE)
_COMPLAINT = re.compile(r"error|invalid|fail|could not|cannot|unable|not found|no space|denied", re.IGNORECASE)
_TAG = re.compile(r"^(\[[^\]]*\]\s*)+")


@cache
def find_ffmpeg():
    """Path of the ffmpeg program; InputError if there is none."""
    system = shutil.which("ffmpeg")
    if system:
        return system
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        raise InputError("no ffmpeg found: install ffmpeg, or pip install imageio-ffmpeg") from None


@cache
def ffmpeg_version():
    """The version as ffmpeg states it, e.g. ``5.1.6-0+deb12u1``."""
    done = subprocess.run([find_ffmpeg(), "-version"], capture_output=True, text=True, errors="replace", check=False)
    words = done.stdout.split()
    return words[2] if words[:2] == ["ffmpeg", "version"] else "unknown"


def extract_wav(video, wav, sample_rate=DEFAULT_SAMPLE_RATE, timeout=600):
    """Write the sound track of ``video`` as 16-bit wav at ``sample_rate`` Hz, its channels kept.

    ``wav`` appears only when whole. Of several tracks ffmpeg takes the one with most channels. MediaError otherwise.
    """
    with _folder_aside(wav) as folder:
        options = ("-vn", "-sn", "-dn", "-ar", str(sample_rate), "-c:a", "pcm_s16le", "-f", "wav", "sound.wav")
        _run(video, options, folder, timeout, "Audio")
        aside = os.path.join(folder, "sound.wav")
        with wave.open(aside) as sound:
            if not sound.getnframes():
                raise MediaError("the decoder produced no sound")
        sync(aside)
        os.replace(aside, wav)


def extract_frames(video, frames, frame_rate, short_side=0, timeout=600):
    """Write ``frame_rate`` frames a second of ``video`` to the folder ``frames``: 000001.jpg, 000002.jpg, ...

    The folder appears only when whole. Frames are upright (rotation marks are applied), at a constant rate whatever
    the file's; ``short_side`` > 0 scales their shorter side to that many pixels. MediaError if there are none.
    """
    with _folder_aside(frames) as folder:
        scale = f"scale='if(gt(iw,ih),-2,{short_side})':'if(gt(iw,ih),{short_side},-2)'"
        options = ("-an", "-sn", "-dn", *(("-vf", scale) if short_side else ()), "-r", str(frame_rate), "-q:v", "2")
        _run(video, (*options, "%06d.jpg"), folder, timeout, "Video")
        os.chmod(folder, 0o777 & ~UMASK)
        os.rename(folder, frames)


def remove_partial(*folders):
    """Remove what a killed run left unfinished in ``folders``. Nobody else may be writing there."""
    for entry in (entry for folder in folders for entry in os.scandir(folder)):
        if entry.name.startswith(PARTIAL):
            shutil.rmtree(entry.path, ignore_errors=True)


class _folder_aside(tempfile.TemporaryDirectory):
    """A temporary folder beside ``path``. ffmpeg runs inside it, so that no name of ours reads as an option or as a
    pattern (``%``) to it; that the folder is gone at the end, renamed, is no error."""

    def __init__(self, path):
        super().__init__(prefix=PARTIAL, dir=os.path.dirname(os.path.abspath(path)), ignore_cleanup_errors=True)


def _run(video, options, folder, timeout, kind):
    """Run ffmpeg in the empty ``folder``; MediaError if it fails, finds no ``kind`` of stream, or writes nothing."""
    command = [find_ffmpeg(), *_COMMON, "-i", f"file:{os.path.abspath(video)}", "-threads", "1", *options]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise MediaError(f"ffmpeg did not finish within {timeout:g} seconds") from None
    streams = _STREAM.findall(done.stderr.partition("Stream mapping:")[0])
    complaints = _complaints(done.stderr.replace(f"file:{os.path.abspath(video)}", "the file"))
    if done.returncode and not streams:
        raise MediaError(f"not a video that ffmpeg can read: {complaints[-1]}")
    of_kind = [about for found, about in streams if found == kind]
    if not of_kind:
        raise MediaError("no audio track" if kind == "Audio" else "no video stream")
    if all("(attached pic)" in about for about in of_kind):
        raise MediaError("no video stream, only a cover picture")
    full = "No space left" in done.stderr
    if not os.listdir(folder) and not full:
        raise MediaError(f"the decoder produced no {'sound' if kind == 'Audio' else 'frames'}")
    if done.returncode or full:
        raise MediaError(f"ffmpeg failed ({done.returncode}): {complaints[-1]}")


def _complaints(log):
    """The lines of ffmpeg's log that tell what went wrong, without the names of its parts; at least one."""
    lines = (_TAG.sub("", line.strip())[:160] for line in log.splitlines())
    lines = (line.removeprefix("Error opening input files: ") for line in lines)
    told = [line for line in lines if _COMPLAINT.search(line) and line != "Conversion failed!"]
    return told or ["ffmpeg does not say why"]
