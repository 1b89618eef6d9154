"""Sound and pictures of a video file in one decode, by PyAV: what extract_wav and a lossless extract_frames would give.

ffmpeg's own libraries decode, resample and convert, with the settings of its command.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from extraction.constant_rate import Clock, chosen_frames
from extraction.ffmpeg import CONTAINERS, MAX_PIXELS, MAX_SECONDS, refuse_long
from utils.errors import MediaError, first_line

# Modality -> the input of its encoder, or why there is none.
Prepared = dict[str, torch.Tensor | Exception]
_TURNS = {90: [("transpose", "cclock")], 180: [("hflip", ""), ("vflip", "")], 270: [("transpose", "clock")]}


class VideoClip:
    """The file ``path``, whose sound and pictures may last ``max_seconds``.

    MediaError, of what is asked for, if the file does not give it.
    """

    def __init__(self, path: str, max_seconds: float = MAX_SECONDS):
        self.path, self.max_seconds = path, max_seconds

    def sound(self, sample_rate: int) -> np.ndarray:
        """The sound track with most channels as int16 (samples, channels) at ``sample_rate`` Hz."""
        blocks, count = [], 0
        with self._open() as file:
            stream = _best(file.streams.audio, lambda stream: stream.codec_context.channels, "no audio track")
            for block in _resampled(_decoded(file, stream), _end(file, stream), sample_rate):
                blocks.append(block)
                count += len(block)
                refuse_long(count / sample_rate, self.max_seconds)
        if not count:
            raise MediaError("the decoder produced no sound")
        return np.concatenate(blocks)

    def frames(self, frame_rate: int, wanted: int, convert: Callable[[np.ndarray], np.ndarray]) -> list[np.ndarray]:
        """``wanted`` of the pictures at ``frame_rate`` a second, as choose_frames says, each through ``convert``.

        ``convert`` takes uint8 (H, W, 3), upright. Which pictures are wanted is known from the times in the file, and
        those that neither they nor others need are not decoded; or, where the times may not be those of the pictures,
        from decoding all.
        """
        times, moments = self._times(frame_rate)
        chosen = chosen_frames(times, wanted)
        few = self._decode_few({moments[index] for index in chosen}, set(moments), convert) if moments else {}
        if few:
            return [few[moments[index]] for index in chosen]
        kept: dict[int, np.ndarray] = {}
        for _ in range(3):
            chosen = chosen_frames(times, wanted)
            if kept and set(chosen) <= kept.keys():
                return [kept[index] for index in chosen]
            times = self._decode(frame_rate, set(chosen), kept, convert)
            if not times:
                raise MediaError("the decoder produced no frames")
        raise MediaError("the decoder does not produce the same frames twice")

    def _open(self) -> Any:
        import av
        from av.error import FFmpegError

        if not os.path.isfile(self.path):
            raise MediaError("not a regular file" if os.path.exists(self.path) else "there is no such file")
        options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
        try:
            return av.open(f"file:{os.path.abspath(self.path)}", options=options, metadata_errors="replace")
        except (FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise MediaError(f"not a video that ffmpeg can read: {reason}") from None

    def _times(self, frame_rate):
        """(place, length) of each picture in units of 1 / ``frame_rate``, as the packets of the file have them.

        Beside these the packets' times as written, in the same order; none if one of them may have no picture.
        """
        with self._open() as file:
            stream = _video(file)
            packets = [packet for packet in file.demux(stream) if packet.size]
            timed = sorted((packet for packet in packets if packet.pts is not None), key=lambda packet: packet.pts)
            moments = [packet.pts for packet in timed]
            whole = len(set(moments)) == len(packets) and not any(
                each.is_discard or each.is_corrupt for each in packets
            )
            if not whole or not packets or packets[0] is not timed[0] or not packets[0].is_keyframe:
                moments = []
            return Clock(file, stream, frame_rate, self.max_seconds).places(timed), moments

    def _decode_few(self, wanted, moments, convert):
        """Time -> picture of the ``wanted`` ones, or nothing if the decoder has a say of its own on ``moments``."""
        from av.error import FFmpegError

        kept = {}
        with self._open() as file, contextlib.suppress(FFmpegError):
            stream, picture = _video(file), _Picture()
            for frame in _decoded(file, stream, wanted):
                if frame.is_corrupt or frame.pts not in moments:
                    return {}
                if frame.pts in wanted:
                    kept[frame.pts] = convert(picture(frame))
        return kept if kept.keys() == wanted else {}

    def _decode(self, frame_rate, wanted, kept, convert):
        """Decode all pictures, keep the ``wanted`` ones, numbered from 0, in ``kept``, and return the times of all."""
        with self._open() as file:
            stream, picture = _video(file), _Picture()
            clock, times = Clock(file, stream, frame_rate, self.max_seconds), []
            for index, frame in enumerate(_decoded(file, stream)):
                times += clock.places([frame])
                if index in wanted:
                    kept[index] = convert(picture(frame))
            return times


def prepare_video(
    path: str, prepare: dict[str, Callable], sample_rate: int, frame_rate: int, max_seconds: float
) -> Prepared:
    """The inputs of encoders from a video file; ``prepare``: modality -> what an encoder makes of sound or frames."""
    clip = VideoClip(path, max_seconds)
    parts: dict[str, Callable[[Callable], Any]] = {
        "audio": lambda use: use(clip.sound(sample_rate)),
        "visual": lambda use: use(partial(clip.frames, frame_rate)),
    }
    return {modality: attempt(parts[modality], use) for modality, use in prepare.items()}


def attempt(function: Callable, argument: Any) -> Any:
    """What it returns, or the error: whatever one clip raises concerns that clip."""
    try:
        return function(argument)
    except Exception as error:
        return error


def _video(file):
    """The stream of highest resolution that is no cover picture."""
    from av.stream import Disposition

    covers = [stream for stream in file.streams.video if stream.disposition & Disposition.attached_pic]
    if covers and len(covers) == len(file.streams.video):
        raise MediaError("no video stream, only a cover picture")
    streams = [stream for stream in file.streams.video if stream not in covers]
    stream = _best(streams, lambda stream: stream.codec_context.width * stream.codec_context.height, "no video stream")
    if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
        raise MediaError(f"pictures of more than {MAX_PIXELS // 10**6} megapixels; scale it down")
    return stream


def _best(streams, size, missing):
    """The stream that ffmpeg chooses: marked as the default before others, then the largest, then the first."""
    from av.stream import Disposition

    if not streams:
        raise MediaError(missing)
    return max(streams, key=lambda stream: size(stream) + 5_000_000 * bool(stream.disposition & Disposition.default))


def _end(file, stream):
    """When an MP4 file's edit list ends a track that begins at 0, in its time base: the last block may be longer."""
    return stream.duration if "mp4" in file.format.name and not stream.start_time else None


def _resampled(frames, end, sample_rate):
    """Blocks (n, channels) int16 of ``frames``, up to the time ``end``, at another rate."""
    from av.filter import Graph

    graph = Graph()
    for frame in itertools.chain(frames, [None]):
        if not graph.configured:
            if frame is None:
                return
            source = graph.add_abuffer(
                format=frame.format.name,
                sample_rate=frame.sample_rate,
                layout=frame.layout.name,
                time_base=frame.time_base,
            )
            filters = [("atrim", f"end_pts={end}")] if end else []
            filters += [("aformat", f"sample_fmts=s16:sample_rates={sample_rate}"), ("abuffersink", None)]
            graph.link_nodes(source, *(graph.add(*each) for each in filters)).configure()
        graph.push(frame)
        with contextlib.suppress(BlockingIOError, EOFError):  # until more is needed, until all is said
            while True:
                block: Any = graph.pull()
                yield block.to_ndarray().reshape(-1, block.layout.nb_channels)


def _decoded(file, stream, wanted=None) -> Iterator[Any]:
    """The frames of ``stream``. Packets that cannot be decoded are passed over.

    With ``wanted``, times of packets, frames at other times that no frame refers to are left out, and errors raised.
    """
    from av.error import FFmpegError

    context = stream.codec_context
    if context is None:
        raise MediaError("no decoder for it")
    context.thread_count = 1
    context.options = {"max_pixels": str(MAX_PIXELS)} if stream.type == "video" else {}
    for packet in file.demux(stream):
        if wanted is not None:
            context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        try:
            yield from packet.decode()
        except FFmpegError as error:
            if isinstance(error, MemoryError) or wanted is not None:
                raise


class _Picture:
    """Frames as uint8 (H, W, 3), turned upright, by the filters that ffmpeg's command would insert."""

    def __init__(self):
        self.graphs = {}

    def __call__(self, frame):
        kind = (frame.width, frame.height, frame.format.name, frame.rotation % 360)
        if kind not in self.graphs:
            self.graphs[kind] = self._graph(frame)
        graph = self.graphs[kind]
        graph.push(frame)
        return graph.pull().to_ndarray()

    def _graph(self, frame):
        from av.filter import Graph

        graph = Graph()
        nodes = [
            graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
        ]
        turns = _TURNS.get(frame.rotation % 360, [])
        filters = [*turns, ("scale", "flags=bicubic"), ("format", "rgb24"), ("buffersink", "")]
        nodes += [graph.add(name, value or None) for name, value in filters]
        graph.link_nodes(*nodes).configure()
        return graph
