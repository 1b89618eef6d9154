"""The Triton kernels, without a GPU: their numbers in Triton's interpreter, and what the compiler makes of them."""

import collections
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests.helpers.shared import REPO

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")

ARCHITECTURES = (80, 86, 90)  # A100, A5000 and RTX 30, H100
# Beside 16-bit tokens; the rest is float32.
DTYPES = {"projected": "*bf16", "tokens": "*bf16", "d_projected": "*bf16", "old_key": "*fp16"}
AVE = {"F": 8, "S": 196, "D": 768}


@pytest.fixture(scope="module", params=[4, pytest.param(20, marks=pytest.mark.slow)])
def errors(request):
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.helpers.kernel_errors", str(request.param)]
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["kernels"]) == 4 * (6 + request.param)
    return found


def test_kernels_give_the_numbers_of_the_definition_in_float64(errors):
    for case in errors["kernels"]:
        # float32 has steps of 1.2e-7; sums of some twenty terms and the fast logistic function take a few.
        assert max(case["errors"].values()) < 1e-6, case


def test_kernels_repeat_to_the_bit_and_round_only_what_they_write(errors):
    for case in errors["kernels"]:
        assert case["same_bits"] and case["narrowed"], case


def test_attention_of_the_network_through_the_kernels(errors):
    # Two float32 matrix products more than the kernels alone.
    assert max(errors["network"]) < 2e-6, errors["network"]


def compiled(kernel, architecture, has_old):
    """``kernel`` at the size of AVE, compiled for a GPU that need not be here."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from model.attention_kernels import BLOCK_D, BLOCK_S, WARPS

    constants = AVE | {"HAS_OLD": has_old, "BLOCK_S": BLOCK_S, "BLOCK_D": BLOCK_D}
    types = {name: "constexpr" if name in constants else DTYPES.get(name, "*fp32") for name in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(types.values()) if kind != "constexpr"}
    source = ASTSource(kernel, types, constants, aligned)
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options={"num_warps": WARPS})


def machine_code(binary, folder):
    """Registers and stack bytes of a thread, and how often each instruction stands in the machine code."""
    tool = pathlib.Path(
        importlib.util.find_spec("triton").submodule_search_locations[0], "backends/nvidia/bin/cuobjdump"
    )
    path = folder / "kernel.cubin"
    path.write_bytes(binary.asm["cubin"])
    code, usage = (
        subprocess.run([tool, flag, path], capture_output=True, text=True, check=True).stdout
        for flag in ("-sass", "-res-usage")
    )
    registers, stack = map(int, re.search(r"REG:(\d+) STACK:(\d+)", usage).groups())
    lines = re.findall(r"^\s+/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", code, re.MULTILINE)
    return registers, stack, collections.Counter(lines)


def count(instructions, *names):
    return sum(number for name, number in instructions.items() if name.split(".")[0] in names)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "name, has_old", [("attend", False), ("attend", True), ("gradients", False), ("gradients", True)]
)
def test_compiled_kernels_fit_their_gpu(tmp_path, monkeypatch, architecture, name, has_old):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from model import attention_kernels

    binary = compiled(getattr(attention_kernels, f"{name}_kernel"), architecture, has_old)
    registers, stack, instructions = machine_code(binary, tmp_path)
    # With 128 registers four blocks of 4 warps fit a multiprocessor, enough to wait for memory in turns.
    assert registers <= 128
    assert stack == 0 and count(instructions, "LDL", "STL") == 0, "spills"
    assert count(instructions, "RED", "REDG", "ATOM", "ATOMG") == 0, "atomics"
    assert not re.search(rb"__cuda_sm\w+", binary.asm["cubin"]), "calls a routine, such as 64-bit division"
    wide = sum(
        number for opcode, number in instructions.items() if opcode.startswith(("LDG", "LDGSTS")) and "128" in opcode
    )
    assert wide >= 2 + has_old, "tokens are not loaded 16 bytes at a time"
    stores = [opcode for opcode in instructions if opcode.startswith("STG")]
    assert name == "attend" or any("128" in opcode for opcode in stores), "gradients are not stored 16 bytes at a time"
