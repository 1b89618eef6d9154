"""Features of clips that were not in the data: through the same extraction as those a run learned from."""

import os
import tempfile

import numpy as np
import torch

from extraction.ffmpeg import DEFAULT_SAMPLE_RATE, extract_frames, extract_wav
from model.encoders.factory import build_audio_encoder, build_visual_encoder
from utils.errors import InputError, MediaError


class ClipFeatures:
    """``features(video file)`` for the senses of a run, as its features were made.

    ``made``: sense -> attributes that the extraction recorded. ``checkpoints``: sense -> file of the encoder's weights,
    where it is not the recorded one. InputError if the weights are others than those of the run.
    """

    def __init__(self, made, senses, checkpoints, frame_rate, device):
        self.made, self.device = {sense: made.get(sense) or {} for sense in senses}, device
        self.encoders, self.frame_rate = {}, frame_rate
        for sense in senses:
            self.encoders[sense] = self._build(sense, checkpoints.get(sense))
            self.encoders[sense].network.to(device).eval()

    def __call__(self, video):
        """Sense -> array of one clip; MediaError if it has no sound or no frames."""
        with tempfile.TemporaryDirectory() as folder:
            return {sense: self._feature(sense, video, folder) for sense in self.encoders}

    def _feature(self, sense, video, folder):
        made, path = self.made[sense], os.path.join(folder, sense)
        if sense == "audio":
            extract_wav(video, path, self.sample_rate)
        else:
            rate = made.get("frame_rate", self.frame_rate)
            extract_frames(video, path, rate, made.get("short_side", 0))
        encoder = self.encoders[sense]
        with torch.inference_mode():
            feature = encoder.network(encoder.prepare(path)[None].to(self.device))[0].float().cpu().numpy()
        if not np.isfinite(feature).all():
            raise MediaError(f"its {sense} feature holds values that are not finite")
        return feature.astype(made.get("feature_dtype", "float32"))

    @property
    def sample_rate(self):
        return int(self.made["audio"].get("sample_rate") or DEFAULT_SAMPLE_RATE)

    def _build(self, sense, checkpoint):
        made = self.made[sense]
        recorded = made.get("checkpoint")
        file = checkpoint or (recorded if recorded and os.path.exists(recorded) else None)
        if sense == "audio":
            name = made.get("encoder", "audiomae")
            encoder = build_audio_encoder(name, file, self.sample_rate, bool(made.get("normalize_fbank", False)))
        else:
            name = made.get("encoder", "videomae")
            encoder = build_visual_encoder(name, file, made.get("pooling") == "pooled")
        known, now = made.get("checkpoint_sha256"), encoder.attributes.get("checkpoint_sha256")
        if known and known != now:
            raise InputError(
                f"--{sense}_checkpoint: not the weights that made the features of the run ({recorded}, sha256"
                f" {known[:12]}...); give those"
            )
        return encoder
