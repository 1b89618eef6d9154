"""TF32 on a CPU: products of float32 matrices whose factors are rounded to ten bits of mantissa, summed in float32."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

DROPPED = 13  # bits of a float32
# The places of the two factors among a product's arguments.
FACTORS = {"mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "addmm_": (1, 2), "baddbmm": (1, 2)}


def rounded(values: torch.Tensor) -> torch.Tensor:
    """To the nearest TF32 number, of two the even one, as a GPU does."""
    bits = values.contiguous().view(torch.int32)
    half = (1 << (DROPPED - 1)) - 1 + ((bits >> DROPPED) & 1)
    return ((bits + half) & -(1 << DROPPED)).view(torch.float32)


class TF32(TorchDispatchMode):
    """Within it every product of float32 matrices is one in TF32; ``products`` counts them."""

    products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        factors = FACTORS.get(func.overloadpacket.__name__, ())
        if factors and args[factors[0]].dtype == torch.float32:
            self.products += 1
            args = tuple(rounded(arg) if place in factors else arg for place, arg in enumerate(args))
        return func(*args, **(kwargs or {}))
