"""A trained learner, from the folder of its run alone: to use it, not only to score it."""

import argparse
import os
from dataclasses import dataclass

import torch

from engine.checkpoints import content_errors, kept_steps, load, step_path
from engine.learner import Learner
from engine.registry import find_method
from engine.run_files import ARGUMENTS, DATA
from engine.run_identity import defining, difference
from features.batch import Batch
from features.tokens import FeatureSizes, Tokens
from utils.datasets import MODALITIES
from utils.errors import InputError
from utils.files import read_json


@dataclass
class Trained:
    """``learner`` after ``step`` of the run in ``folder``, whose ``args`` it has; ``classes``: names, in order.

    ``provenance``: modality -> how its features were made, as recorded by the extraction (empty: unknown).
    """

    folder: str
    args: argparse.Namespace
    step: int
    classes: list[str]
    learner: Learner
    provenance: dict

    @property
    def modalities(self) -> tuple[str, ...]:
        """Which features it takes."""
        return MODALITIES[self.args.modality]

    @torch.no_grad()
    def scores(self, features: list[dict]) -> torch.Tensor:
        """Scores (B, classes) of clips, each given as a dict modality -> array as the feature files hold it."""
        return self.learner.scores(self.batch(features)).cpu()

    def batch(self, features: list[dict]) -> Batch:
        """The Batch of clips given by their features; InputError if these are not of the size that the run learned."""
        sizes, tensors = self.learner.data, {}
        for modality, shape in (("audio", (sizes.audio_dim,)), ("visual", sizes.visual_shape)):
            if modality in self.modalities:
                values = [torch.from_numpy(self._sized(clip[modality], modality, shape)) for clip in features]
                tensors[modality] = torch.stack(values).float().to(self.learner.device)
        visual = tensors.get("visual")
        if visual is not None and not self.learner.needs_tokens(self.args.modality):
            visual = visual.mean((1, 2), keepdim=True)
        index, unknown = torch.arange(len(features)), torch.zeros(len(features), dtype=torch.int64)
        tokens = None if visual is None else Tokens.of(visual)
        return Batch(None, unknown, tensors.get("audio"), tokens, index=index)

    def _sized(self, array, modality, shape):
        # A flat (F x S, D) and a frames-first (F, S, D) array are the same features.
        if array.size != torch.Size(shape).numel() or array.shape[-1] != shape[-1]:
            raise InputError(
                f"{modality} features of shape {tuple(array.shape)} do not fit the run in {self.folder}, which learned"
                f" from {tuple(shape)}; extract them as it did"
            )
        return array.reshape(shape).copy()


def load_trained(folder: str, step: int | None = None, device: torch.device | str = "cpu") -> Trained:
    """The learner of the run in ``folder`` after ``step``, by default the last finished one."""
    data, checkpoints = _read_description(folder), os.path.join(folder, "checkpoints")
    steps = kept_steps(checkpoints)
    if not steps:
        raise InputError(f"{folder}: no finished step of a run in it (checkpoints/step_0.pt); train first")
    path = step_path(checkpoints, steps[-1] if step is None else step)
    try:
        saved = load(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such step; there are {', '.join(map(str, steps))}") from None
    with content_errors(path):
        args = argparse.Namespace(**saved["arguments"])
        _check_run(folder, path, args)
        sizes = FeatureSizes(data["audio_dim"], data["visual_shape"] and tuple(data["visual_shape"]))
        learner = find_method(args.method)(args, sizes, torch.device(device))
        learner.load_state(saved["learner"])
        return Trained(folder, args, saved["step"], saved["classes"], learner, data["features"])


def _check_run(folder, path, args):
    """InputError if the checkpoint ``path`` of a run with ``args`` is not of the run in ``folder``."""
    arguments = _read(folder, ARGUMENTS, {"method", "dataset", "modality"})
    differs = difference(defining(args), defining(arguments))
    if differs:
        raise InputError(f"{path}: a checkpoint of another run than this folder's ({differs}); put its own back")


def _read_description(folder):
    return _read(folder, DATA, {"audio_dim", "visual_shape", "features"})


def _read(folder, name, keys):
    path = os.path.join(folder, name)
    try:
        value = read_json(path, "file of a run", "train again")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder}: not the folder of a run (no {name}); give one under save/") from None
    if not isinstance(value, dict) or not keys <= value.keys():
        raise InputError(f"{path}: damaged; train again")
    return value
