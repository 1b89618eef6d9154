"""Kernels that torch.compile fuses where that pays: on a GPU, where each operation otherwise crosses its memory."""

import functools
import warnings

import torch


def compiled_on_cuda(function):
    """Let ``function`` of tensors be compiled when its first argument is on a GPU; elsewhere it runs as written.

    Where the compiler does not work (no Triton, no C compiler) it says so once and runs as written.
    """
    state = {}

    @functools.wraps(function)
    def run(first, *rest):
        if first.is_cuda and state.setdefault("works", True):
            try:
                # Only now: to load the compiler takes seconds.
                if "compiled" not in state:
                    state["compiled"] = torch.compile(function, dynamic=True)
                return state["compiled"](first, *rest)
            except torch.cuda.OutOfMemoryError:
                raise
            except Exception as error:  # the compiler fails in many ways, all of them before anything is computed
                state["works"] = False
                warnings.warn(f"torch.compile does not work here, running uncompiled: {str(error)[:120]}", stacklevel=2)
        return function(first, *rest)

    return run
