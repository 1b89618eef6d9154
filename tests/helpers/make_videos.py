"""Small video files, made by ffmpeg from its own test pictures and tones."""

import subprocess

from extraction.ffmpeg import find_ffmpeg


def make_video(path, seconds=1.0, rate=16, size="64x48", tone=440, picture=True, sound=True, options=()):
    """Write a clip whose container and codecs follow from the suffix of ``path``."""
    inputs, output = [], []
    if picture:
        inputs += ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}"]
    if sound:
        inputs += ["-f", "lavfi", "-i", f"sine=frequency={tone}:sample_rate=16000:duration={seconds}"]
    codecs = {".webm": ["-c:v", "libvpx", "-c:a", "libvorbis"]}.get(path.suffix.lower(), ["-c:v", "mpeg4"])
    output = [*(codecs if picture else codecs[2:]), *options, f"file:{path}"]
    command = [find_ffmpeg(), "-nostdin", "-y", "-loglevel", "error", "-threads", "1", *inputs, *output]
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(command, check=True)
    return path
