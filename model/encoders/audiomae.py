"""AudioMAE's encoder (Huang et al., Masked Autoencoders that Listen, NeurIPS 2022) as a feature extractor.

Shapes: B clips, D width (768). Filter banks are (B, 1, 1024, 128): 1024 windows of 10 ms, 128 bands.
"""

import logging
from functools import partial

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from model.encoders.fbank import FRAMES, MEL_BINS
from model.encoders.weights import fit_state, read_state
from utils.errors import InputError, first_line, say

# The AudioSet-2M pre-trained checkpoint on the Hugging Face hub, 343 MB.
HUB_NAME, HUB_FILE = "gaunernst/vit_base_patch16_1024_128.audiomae_as2m", "pytorch_model.bin"
# What the pre-training checkpoint holds for its decoder.
_DECODER = ("decoder_", "mask_token")


def build_audiomae(width: int = 768, depth: int = 12, heads: int = 12) -> VisionTransformer:
    """The encoder, ViT-B/16 on filter banks (B, 1, 1024, 128): the mean of the 512 patch tokens, normalised: (B, D).

    The class token takes part in attention and not in the mean.
    """
    return VisionTransformer(
        img_size=(FRAMES, MEL_BINS),
        patch_size=16,
        in_chans=1,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        global_pool="avg",  # with it timm normalises after the mean (fc_norm), not before
        num_classes=0,
        weight_init="skip",  # the weights are loaded
    )


def load_audiomae(path: str) -> tuple[VisionTransformer, list[str]]:
    """The encoder with the published weights, and the keys that are neither its own nor the decoder's.

    The pre-training checkpoint has no ``fc_norm``: it keeps its initial ones and zeros, as in the released features.
    """
    state = read_state(path)
    network = build_audiomae()
    left_out = fit_state(network, state, path, ("fc_norm.weight", "fc_norm.bias"), _DECODER)
    return network, left_out


def hub_checkpoint() -> str:
    """The file of the weights on the hub, downloaded into its cache once. InputError if it cannot be had."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils.logging import set_verbosity

    set_verbosity(logging.CRITICAL)
    say(f"AudioMAE: weights of {HUB_NAME} on the Hugging Face hub (CC BY-NC 4.0: not for commercial use)")
    try:
        return hf_hub_download(HUB_NAME, HUB_FILE)
    except Exception as error:  # whatever the library under the hub's client raises
        raise InputError(
            f"AudioMAE's weights: no download ({first_line(error)}); download {HUB_FILE} of {HUB_NAME} from the Hugging"
            " Face hub where there is a connection, and pass the file as --audio_checkpoint"
        ) from None
