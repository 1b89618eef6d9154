"""Features of clips that were not in the data: through the same extraction as those a run learned from."""

import os
import tempfile

import numpy as np
import torch

from extraction.ffmpeg import DEFAULT_SAMPLE_RATE, MAX_SECONDS, extract_frames, extract_wav
from extraction.folder import EARLIER_QUALITY
from extraction.pipeline import infer
from extraction.videos import prepare_video
from model.encoders.factory import build_audio_encoder, build_visual_encoder
from model.encoders.weights import PACKAGED
from utils.errors import InputError, MediaError


class ClipFeatures:
    """``features(video file)`` for the modalities of a run, as its features were made.

    ``provenance``: modality -> attributes that the extraction recorded. ``checkpoints``: modality -> file of the
    encoder's weights, where it is not the recorded one. InputError if the weights are others than those of the run.
    """

    def __init__(
        self, provenance: dict, modalities: tuple[str, ...], checkpoints: dict, frame_rate: int, device: torch.device
    ):
        self.provenance, self.device = {modality: provenance.get(modality) or {} for modality in modalities}, device
        self.encoders, self.frame_rate = {}, frame_rate
        for modality in modalities:
            self.encoders[modality] = self._build(modality, checkpoints.get(modality))
            self.encoders[modality].network.to(device).eval()

    def __call__(self, video: str) -> dict[str, np.ndarray]:
        """Modality -> array of one clip; MediaError if it has no sound or no frames."""
        with tempfile.TemporaryDirectory() as folder:
            return {modality: self._feature(modality, video, folder) for modality in self.encoders}

    def _feature(self, modality, video, folder):
        provenance, path = self.provenance[modality], os.path.join(folder, modality)
        rate, encoder = int(provenance.get("frame_rate", self.frame_rate)), self.encoders[modality]
        if provenance.get("from") == "videos":
            prepared = prepare_video(video, {modality: encoder.prepare}, self.sample_rate, rate, MAX_SECONDS)[modality]
            if isinstance(prepared, Exception):
                raise prepared
        else:
            if modality == "audio":
                extract_wav(video, path, self.sample_rate)
            else:
                quality = int(provenance.get("jpeg_quality", EARLIER_QUALITY))
                extract_frames(video, path, rate, provenance.get("short_side", 0), jpeg_quality=quality)
            prepared = encoder.prepare(path)
        feature = infer(encoder.network, prepared[None].numpy(), self.device)[0]
        if not np.isfinite(feature).all():
            raise MediaError(f"its {modality} feature holds values that are not finite")
        return feature.astype(provenance.get("feature_dtype", "float32"))

    @property
    def sample_rate(self):
        return int(self.provenance.get("audio", {}).get("sample_rate") or DEFAULT_SAMPLE_RATE)

    def _build(self, modality, checkpoint):
        provenance = self.provenance[modality]
        recorded = provenance.get("checkpoint")
        known = recorded and (recorded in PACKAGED or os.path.exists(recorded))
        file = checkpoint or (recorded if known else None)
        if modality == "audio":
            name = provenance.get("encoder", "audiomae")
            encoder = build_audio_encoder(name, file, self.sample_rate, bool(provenance.get("normalize_fbank", False)))
        else:
            name = provenance.get("encoder", "videomae")
            encoder = build_visual_encoder(name, file, provenance.get("pooling") == "pooled")
        sha256 = provenance.get("checkpoint_sha256")
        if sha256 and sha256 != encoder.attributes.get("checkpoint_sha256"):
            raise InputError(
                f"--{modality}_checkpoint: not the weights that made the features of the run ({recorded}, sha256"
                f" {sha256[:12]}...); give those"
            )
        return encoder
