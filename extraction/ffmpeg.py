"""Sound tracks and frames of video files, by ffmpeg: the system's, else the one that imageio-ffmpeg carries."""

import errno
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cache
from typing import BinaryIO, cast

import soundfile

from utils.errors import InputError, MediaError
from utils.files import TEMPORARY, UMASK, sync

DEFAULT_SAMPLE_RATE = 11430  # of the released features; AudioMAE itself was trained on 16000
FIRST_FRAME = "000001.jpg"
MAX_SECONDS = 600  # of a clip: sixty times what an encoder looks at
MAX_PIXELS = 36_000_000  # of a picture: 7680 x 4320 and some
MAX_BYTES = 4 * 10**9  # of a clip's sound or frames: ten minutes of 1920 x 1080 take less than half
# Only what the file itself holds: a playlist that calls itself .mp4 must not make ffmpeg read or fetch what it names.
CONTAINERS = (
    "aac,ac3,aiff,amr,asf,au,av1,avi,dv,eac3,flac,flv,gif,h264,h263,hevc,ivf,m4v,matroska,webm,mjpeg,mov,mp4,m4a,3gp,3g2,mj2,"
    "mp3,mpeg,mpegts,mpegvideo,mxf,nsv,nut,obu,ogg,rm,swf,vc1,vob,w64,wav,wtv,yuv4mpegpipe"
)
_COMMON = (
    *("-nostdin", "-hide_banner", "-nostats", "-protocol_whitelist", "file", "-threads", "1"),
    *("-format_whitelist", CONTAINERS, "-max_pixels", str(MAX_PIXELS)),
)
_TOO_LARGE = "exceeds specified max pixel count"
_LONGEST_LOG = 1 << 18  # bytes
_STREAM = re.compile(r"^\s*Stream #\d+:\d+.*?: (Audio|Video): (.*)$", re.MULTILINE)
_COMPLAINT = re.compile(r"error|invalid|fail|could not|cannot|unable|not found|no space|denied", re.IGNORECASE)
_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE)
# What a file says of itself (title: ...) is indented in the log.
_OF_MACHINE = re.compile(rf"^\S.*({'|'.join(map(os.strerror, _CODES))})", re.MULTILINE)
_TAG = re.compile(r"^(\[[^\]]*\]\s*)+")


@cache
def find_ffmpeg() -> str:
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
def ffmpeg_version() -> str:
    """The version as ffmpeg states it, e.g. ``5.1.6-0+deb12u1``."""
    done = subprocess.run([find_ffmpeg(), "-version"], capture_output=True, text=True, errors="replace", check=False)
    words = done.stdout.split()
    return words[2] if words[:2] == ["ffmpeg", "version"] else "unknown"


def extract_wav(
    video: str,
    wav: str,
    sample_rate: int = DEFAULT_SAMPLE_RATE,
    timeout: float = 600,
    max_seconds: float = MAX_SECONDS,
):
    """Write the sound track of ``video`` as 16-bit wav at ``sample_rate`` Hz, its channels kept.

    ``wav`` appears only when whole. Of several tracks ffmpeg takes the one with most channels. MediaError otherwise,
    also of a track longer than ``max_seconds``.
    """
    with _folder_aside(wav) as folder:
        options = ("-vn", "-sn", "-dn", "-t", f"{max_seconds + 2:g}", "-ar", str(sample_rate))
        _run(video, (*options, "-c:a", "pcm_s16le", "-f", "wav", "sound.wav"), folder, timeout, "Audio")
        aside = os.path.join(folder, "sound.wav")
        with open(aside, "rb") as file:
            samples = soundfile.info(file).frames
        if not samples:
            raise MediaError("the decoder produced no sound")
        refuse_long(samples / sample_rate, max_seconds)
        sync(aside)
        os.replace(aside, wav)


def extract_frames(
    video: str,
    frames: str,
    frame_rate: int,
    short_side: int = 0,
    timeout: float = 600,
    max_seconds: float = MAX_SECONDS,
    jpeg_quality: int = 0,
):
    """Write ``frame_rate`` frames a second of ``video`` to the folder ``frames``: 000001.jpg, 000002.jpg, ...

    The folder appears only when whole. Frames are upright (rotation marks are applied), at a constant rate whatever
    the file's; ``short_side`` > 0 scales their shorter side to that many pixels. ``jpeg_quality``: 1 (best) to 31, 0:
    ffmpeg's default. MediaError if there are none, or more than those of ``max_seconds``.
    """
    with _folder_aside(frames) as folder:
        scale = f"scale='if(gt(iw,ih),-2,{short_side})':'if(gt(iw,ih),{short_side},-2)'"
        options = ("-an", "-sn", "-dn", *(("-vf", scale) if short_side else ()), "-r", str(frame_rate))
        options += ("-q:v", str(jpeg_quality)) if jpeg_quality else ()
        most = ("-frames:v", str(int((max_seconds + 1) * frame_rate) + 1))
        _run(video, (*options, *most, "%06d.jpg"), folder, timeout, "Video")
        refuse_long(len(os.listdir(folder)) / frame_rate, max_seconds)
        os.chmod(folder, 0o777 & ~UMASK)
        try:
            os.rename(folder, frames)
        except OSError as error:
            raise OSError(error.errno, error.strerror, frames) from None


def refuse_long(seconds: float, max_seconds: float):
    """MediaError if sound or frames are longer than a clip may be."""
    # A second more is rounding: of the last frame, of the codec's last block.
    if seconds > max_seconds + 1:
        raise MediaError(f"longer than {max_seconds:g} seconds; cut it, or raise --max_seconds")


def remove_partial(*folders: str):
    """Remove what a killed run left unfinished in ``folders``. Nobody else may be writing there."""
    for entry in (entry for folder in folders for entry in os.scandir(folder)):
        if entry.name.startswith(TEMPORARY):
            shutil.rmtree(entry.path, ignore_errors=True)


def _folder_aside(path):
    """A temporary folder beside ``path``. ffmpeg runs inside it, so that no name of ours reads as an option or as a
    pattern (``%``) to it; that the folder is gone at the end, renamed, is no error."""
    parent = os.path.dirname(os.path.abspath(path))
    return tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=parent, ignore_cleanup_errors=True)


def _run(video, options, folder, timeout, kind):
    """Run ffmpeg in the empty ``folder``; MediaError if it fails, finds no ``kind`` of stream, or writes nothing."""
    if not os.path.isfile(video):
        raise MediaError("not a regular file" if os.path.exists(video) else "there is no such file")
    name = f"file:{os.path.abspath(video)}"
    exit_code, log = _watched([find_ffmpeg(), *_COMMON, "-i", name, "-threads", "1", *options], folder, timeout)
    log = log.replace(name, "the file")
    _refuse_full_disk(exit_code, log, folder)
    streams = _STREAM.findall(log.partition("Stream mapping:")[0])
    complaints = _complaints(log)
    if exit_code and not streams:
        raise MediaError(f"not a video that ffmpeg can read: {complaints[-1]}")
    of_kind = [about for type_of_stream, about in streams if type_of_stream == kind]
    if not of_kind:
        raise MediaError("no audio track" if kind == "Audio" else "no video stream")
    if all("(attached pic)" in about for about in of_kind):
        raise MediaError("no video stream, only a cover picture")
    if _TOO_LARGE in log and (exit_code or not os.listdir(folder)):
        raise MediaError(f"pictures of more than {MAX_PIXELS // 10**6} megapixels; scale it down")
    if not os.listdir(folder):
        raise MediaError(f"the decoder produced no {'sound' if kind == 'Audio' else 'frames'}")
    if exit_code < 0:
        raise MediaError(f"ffmpeg was ended by {signal.Signals(-exit_code).name}")
    if exit_code:
        raise MediaError(f"ffmpeg failed ({exit_code}): {complaints[-1]}")


def _watched(command, folder, timeout):
    """Run ``command`` in ``folder``; return its exit code and its log, a long one without its middle.

    MediaError if it takes more than ``timeout`` seconds, or fills the folder.
    """
    looked, end, log = time.monotonic(), time.monotonic() + timeout, b""
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        pipe = cast(BinaryIO, process.stderr)
        ready = select.poll()
        ready.register(pipe)
        try:
            while True:
                if ready.poll(1000):
                    chunk = os.read(pipe.fileno(), 1 << 16)
                    if not chunk:
                        break
                    log += chunk
                    if len(log) > 2 * _LONGEST_LOG:
                        log = log[: _LONGEST_LOG // 2] + log[-_LONGEST_LOG // 2 :]
                if time.monotonic() > end:
                    raise MediaError(f"ffmpeg did not finish within {timeout:g} seconds")
                if time.monotonic() > looked + 1:
                    looked = time.monotonic()
                    _refuse_large(folder)
        except BaseException:
            process.kill()
            raise
    return process.returncode, log.decode(errors="replace")


def _refuse_large(folder):
    size = sum(entry.stat().st_size for entry in os.scandir(folder))
    if size > MAX_BYTES:
        raise MediaError(f"it takes more than {MAX_BYTES / 1e9:g} GB; cut it, or scale it down (--short_side)")


def _refuse_full_disk(exit_code, log, folder):
    """OSError where ffmpeg, which has ended, had no room or open file left: no fault of the clip's."""
    code = errno.EFBIG if exit_code == -signal.SIGXFSZ else None
    if match := _OF_MACHINE.search(log):
        code = next(each for each in _CODES if os.strerror(each) == match[1])
    if code:
        raise OSError(code, os.strerror(code), os.path.dirname(folder))


def _complaints(log):
    """The lines of ffmpeg's log that tell what went wrong, without the names of its parts; at least one."""
    lines = (_TAG.sub("", line.strip())[:160] for line in log.splitlines())
    lines = (line.removeprefix("Error opening input files: ") for line in lines)
    complaints = [line for line in lines if _COMPLAINT.search(line) and line != "Conversion failed!"]
    return complaints or ["ffmpeg does not say why"]
