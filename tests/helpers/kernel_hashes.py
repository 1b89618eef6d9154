"""Which compiled kernels an update of AV-CIL at the size of AVE launches, after updates of other sizes.

    python -m tests.helpers.kernel_hashes 8x4x32 ...

prints the hashes of those that AVE's update needed, one a line. Needs CUDA, or a stand-in that computes nothing.
"""

import sys

import torch

from features.tokens import Tokens
from methods.avcil import BatchAttention
from model import attention_kernels, fast_attention
from model.network import AudioVisualNet

AVE = "8x196x768"


def update(clips, replayed, size):
    """Forward and backward pass with a teacher on ``clips`` clips."""
    frames, positions, width = map(int, size.split("x"))
    network, teacher = (
        AudioVisualNet("audio-visual", 28, width, width, precision=torch.bfloat16).cuda() for _ in range(2)
    )
    audio = torch.zeros(clips, width, device="cuda")
    visual = torch.zeros(1, frames, positions, width, dtype=torch.bfloat16, device="cuda").expand(clips, -1, -1, -1)
    visual = visual.contiguous()
    with torch.no_grad():
        kept = teacher.frozen_attention(audio[-replayed:], visual[-replayed:])
    old = BatchAttention(slice(clips - replayed, clips), lambda rows, tokens: kept)
    out = network(audio, Tokens.of(visual), old)
    (out["logits"].sum() + out["spatial_distance"] + out["temporal_distance"]).backward()


def compiled():
    """Hashes of all that is compiled so far."""
    kernels = attention_kernels.attend_kernel, attention_kernels.gradients_kernel
    return {
        binary.hash for kernel in kernels for caches in kernel.device_caches.values() for binary in caches[0].values()
    }


if __name__ == "__main__":
    # Else a thread of autograd may still be letting go of the graph while Python ends, which then aborts.
    torch.autograd.set_multithreading_enabled(False)
    for size in sys.argv[1:]:
        update(12, 4, size)
    fast_attention.kernels()  # tries one out
    before = compiled()
    update(384, 128, AVE)
    print("\n".join(sorted(compiled() - before)))
