"""Errors of the Triton kernels against the definition in float64, on random sizes (20 of them), without a GPU.

    TRITON_INTERPRET=1 python -m tests.helpers.kernel_errors 20

prints JSON: ``kernels``, a list with an entry per size and dtype, the largest error of each output over its largest
value; ``network``, the errors of AV-CIL's attention as a whole. Triton must be told to interpret before it is loaded,
hence a program of its own.
"""

import json
import random
import sys

import torch

from model import attention_kernels, fast_attention
from model.attention_kernels import attend, gradients
from tests.test_spatial_attention import clips, gradients_of, networks, plain, through_the_network

# Clips, frames, positions, width: one position, one block, one more than a block, blocks of channels, none, AVE's.
SIZES = [(1, 1, 1, 16), (2, 1, 8, 128), (2, 2, 9, 20), (1, 1, 5, 300), (0, 2, 4, 16), (1, 1, 196, 130)]
DTYPES = {"float32": (torch.float32, torch.float32), "bfloat16": (torch.bfloat16, torch.float16)}


def sizes(number):
    draw = random.Random(0)
    return SIZES + [tuple(draw.randint(1, most) for most in (2, 2, 17, 140)) for _ in range(number)]


def inputs(size, dtype, old_dtype, seed):
    """Tensors of one case: projected, tokens, audio key, bias, and the old network's key and audio key."""
    clips, frames, positions, width = size
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    projected, tokens = normal(*size).to(dtype), normal(*size).to(dtype)
    audio, bias = normal(clips, width).tanh(), 0.1 * normal(width)
    return projected, tokens, audio, bias, normal(*size).tanh().to(old_dtype), normal(clips, width).tanh()


def definition(projected, tokens, audio, bias, old_key=None, old_audio=None):
    """Keys, values and divergences from the old maps, each (B, F, D), in float64."""
    k = torch.tanh(projected + bias)
    log_p = (k * audio[:, None, None]).log_softmax(2)
    key, value = (log_p.exp() * k).sum(2), (log_p.exp() * tokens.double()).sum(2)
    if old_key is None:
        return key, value
    log_q = (old_key.double() * old_audio.double()[:, None, None]).log_softmax(2)
    return key, value, (log_q.exp() * (log_q - log_p)).sum(2)


def error(output, expected):
    """Largest difference, relative to the largest value or, where that is smaller, to 1."""
    return float(((output.double() - expected).abs().max() / expected.abs().max().clamp(min=1)) if len(output) else 0)


def narrowed(values, wide):
    """Whether bfloat16 ``values`` are ``wide`` in float32, rounded as on a GPU, or cut off as Triton interprets it."""
    cut = (wide.view(torch.int32) & -65536).view(torch.float32)
    return torch.equal(values, wide.to(values.dtype)) or torch.equal(values.float(), cut)


def case(size, dtype_name, with_old, seed):
    """The errors of one case; whether a second pass gave the same bits, and a narrow one the wide one's, narrowed."""
    projected, tokens, audio, bias, *old = inputs(size, *DTYPES[dtype_name], seed)
    old = old if with_old else None
    upstream = [*torch.randn(2, *size[:2], size[3], generator=torch.Generator().manual_seed(seed + 1))]
    d_divergence = torch.tensor(0.3)

    leaves = [tensor.double().requires_grad_() for tensor in (projected, audio, bias)]
    expected = definition(leaves[0], tokens, *leaves[1:], *(old or ()))
    weights = [*upstream, d_divergence.expand_as(upstream[0])]
    expected += torch.autograd.grad(
        sum((value * weight).sum() for value, weight in zip(expected, weights, strict=False)), leaves
    )

    sums = attend(projected, tokens, audio, bias, old)
    runs = []
    for dtype in (torch.float32, torch.float32, projected.dtype):
        buffer = projected.to(dtype, copy=True)
        # The buffer holds what was projected, and then its gradient.
        rest = gradients(buffer, tokens, audio, bias, sums, *upstream, old, d_divergence)
        runs.append((buffer, *rest))
    wide, again, narrow = runs
    outputs = [*sums[1:3], *sums[4:], *wide]
    names = ["key", "value", *(["divergence"] if with_old else []), "d_projected", "d_audio", "d_bias"]
    errors = {
        name: error(*pair) for name, *pair in zip(names, outputs, map(torch.Tensor.detach, expected), strict=True)
    }
    same = all(torch.equal(first, second) for first, second in zip(wide, again, strict=True))
    return {
        "size": size,
        "dtype": dtype_name,
        "same_bits": same,
        "narrowed": torch.equal(narrow[0], wide[0]) if dtype_name == "float32" else narrowed(narrow[0], wide[0]),
        "errors": errors,
    }


def network():
    """Errors of pooled tokens, distances and gradients of the attention's weights, through the kernels in float32."""
    pair, (audio, visual) = networks(20), clips(5, 2, 9, 20)
    exact = plain(*pair, audio, visual)
    expected = [*exact, *gradients_of(pair[0], exact).values()]
    fast_attention.uses_kernels, fast_attention.kernels = lambda bias: True, lambda: attention_kernels
    pair = [each.float() for each in pair]
    outputs = through_the_network(*pair, audio.float(), visual.float())
    outputs = [*outputs, *gradients_of(pair[0], outputs).values()]
    return [error(value[None].detach(), exact.detach()) for value, exact in zip(outputs, expected, strict=True)]


def main():
    torch.set_num_threads(1)
    cases = [
        (size, dtype, with_old) for size in sizes(int(sys.argv[1])) for dtype in DTYPES for with_old in (False, True)
    ]
    print(json.dumps({"kernels": [case(*each, seed) for seed, each in enumerate(cases)], "network": network()}))


if __name__ == "__main__":
    assert attention_kernels.triton.knobs.runtime.interpret, "start with TRITON_INTERPRET=1"
    main()
