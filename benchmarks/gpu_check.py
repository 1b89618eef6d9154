#!/usr/bin/env python3
"""Is everything right on this GPU, repeatable, and how near the card's own bounds? Three minutes, one table.

    python benchmarks/gpu_check.py [--json FILE]

Ends with 1 if something is not as it should be, and with 2, in one line, where there is no GPU.
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from unittest.mock import patch

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch

import train_incremental
from benchmarks import plain
from benchmarks.made_up import SIZES
from benchmarks.training import Row as Training
from benchmarks.training import make_data
from engine.updates import Updates
from features.tokens import Tokens
from methods.avcil import BatchAttention
from model import fast_attention
from model.network import AudioVisualNet
from utils.command_line import heading

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TINY = Training("avcil", "audio-visual", 3, 2, 2, (24, 4, 4), 2, 16, 16)
METHODS = ("fine_tuning", "lwf", "icarl", "ssil", "afc", "avcil", "cign")
RUN = ("--dataset", "mine", "--classes_per_step", "2", "--memory_size", "16", "--max_epochs", "2", "--num_workers", "0")
RUN += ("--train_batch_size", "16", "--exemplar_batch_size", "8")
AVE_UPDATE = {"clips": 384, "replayed": 128}
# Of AVE's shape in bf16, bytes that an element of the tokens must cost, gathered once: tokens and their projection are
# written and read by the products and the kernels; of replayed clips the old keys, twice.
ELEMENT_BYTES, OLD_BYTES = 22, 4


@dataclass
class Row:
    """A line of the table; ``good``: as it should be (None: only told)."""

    what: str
    measured: str
    wanted: str = ""
    good: bool | None = None


def main():
    parser = argparse.ArgumentParser(description=heading(__doc__), allow_abbrev=False)
    parser.add_argument("--json", metavar="FILE", help="write the table there as well")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print(
            "error: no CUDA device here, so nothing to check; on a machine with a GPU: sh run_gpu_check.sh",
            file=sys.stderr,
        )
        sys.exit(2)
    ceilings, rows = {}, []
    with tempfile.TemporaryDirectory() as folder:
        make_data(folder, TINY)
        for check in (card, attention, methods, repetition, tiers, memory, speed):
            try:
                found = list(check(folder, ceilings))
            except Exception as error:  # a check that breaks is a miss; the others still say what they can
                found = [Row(check.__name__, f"{type(error).__name__}: {str(error)[:80]}", "no error", good=False)]
            for row in found:
                verdict = {None: "", True: "ok", False: "MISS"}[row.good]
                print(f"{row.what:46} {row.measured:>34}  {row.wanted:24} {verdict}", flush=True)
            rows += found
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps([asdict(row) for row in rows], indent=1))
    sys.exit(any(row.good is False for row in rows))


def card(folder, ceilings):
    """What is there, and what it reaches on a copy and on a product of matrices."""
    free, total = (value / 1e9 for value in torch.cuda.mem_get_info())
    yield Row(torch.cuda.get_device_name(), f"{free:.1f} of {total:.1f} GB free")
    yield Row("torch, CUDA", f"{torch.__version__}, {torch.version.cuda}")
    works = fast_attention.kernels() is not None
    yield Row("Triton kernels", "compiled" if works else "do not work", "compiled", works)
    side = 8192
    source = torch.empty(2**28, dtype=torch.float32, device="cuda").fill_(1)
    target, matrix = torch.empty_like(source), torch.ones(side, side, dtype=torch.bfloat16, device="cuda")
    ceilings["GB/s"] = 2 * source.nbytes / 1e9 / seconds(lambda: target.copy_(source))
    ceilings["TFLOP/s"] = 2 * side**3 / 1e12 / seconds(lambda: matrix @ matrix)
    for name, value in ceilings.items():
        yield Row(f"ceiling, {name}", f"{value:.0f}")


def seconds(function, times=20):
    """Of one call, by the device's own clock."""
    function()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(times):
        function()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3 / times


def attention(folder, ceilings):
    """Attention with a teacher, values and gradients, against 64 bits on the CPU."""
    for precision, most in ((None, 1e-4), (torch.bfloat16, 2e-2)):
        exact = attend("cpu", torch.float64, None)
        rough = attend("cuda", torch.float32, precision)
        error = max(
            float((mine.cpu().double() - value).abs().max() / value.abs().max())
            for mine, value in zip(rough, exact, strict=True)
        )
        name = "fp32" if precision is None else "bf16"
        yield Row(f"attention in {name}, largest error", f"{error:.1e}", f"at most {most:g}", error < most)


def attend(device, dtype, precision, clips=24, replayed=8, width=192):
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network, teacher = (
        AudioVisualNet("audio-visual", 4, width, width, precision=precision).to(device, dtype) for _ in range(2)
    )
    audio = torch.randn(clips, width, generator=generator).to(device, dtype)
    visual = torch.randn(clips, 4, 49, width, generator=generator).to(device, dtype)
    teacher.requires_grad_(False)
    old = BatchAttention(
        slice(clips - replayed, clips), lambda rows, tokens: teacher.frozen_attention(audio[rows], tokens)
    )
    out = network.attend(audio, Tokens.of(visual), old)
    weights = [network.attn_visual_proj.weight, network.attn_visual_proj.bias, network.attn_audio_proj.weight]
    loss = out["pooled"].square().sum() + out["spatial_distance"] + out["temporal_distance"]
    return [out["pooled"].detach(), *torch.autograd.grad(loss, weights)]


def train(folder, method, *flags, name="run", anew=True):
    """Run the command, ``anew`` or going on; the bytes of ``epochs.csv``, the exit code, what it said on stderr."""
    run_dir, errors = os.path.join(folder, name), io.StringIO()
    command = ["--method", method, "--data_root", os.path.join(folder, "data"), "--run_dir", run_dir, *RUN, *flags]
    command += ["--overwrite"] if anew else []
    code = 0
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        try:
            train_incremental.main(command)
        except SystemExit as ended:
            code = ended.code
    path = pathlib.Path(run_dir, "epochs.csv")
    return path.read_bytes() if path.exists() else b"", code, errors.getvalue()


def methods(folder, ceilings):
    """The first epoch of each method on the GPU and on the CPU."""
    for method in METHODS:
        for precision, most in (("fp32", 1e-4), ("bf16", 1e-2))[: 1 + (method == "avcil")]:
            losses = []
            for device in ("cpu", "cuda"):
                lines = train(folder, method, "--device", device, "--precision", precision)[0].decode().splitlines()
                losses.append(next(float(line.split(",")[3]) for line in lines if ",train_loss," in line))
            apart = abs(losses[1] - losses[0]) / abs(losses[0])
            yield Row(
                f"{method} {precision}, first loss, CPU and GPU", f"{apart:.1e}", f"at most {most:g}", apart < most
            )


def repetition(folder, ceilings):
    """The same numbers again: at once, with nothing compiled, uncaptured, and after an interruption."""
    flags = ("--device", "cuda", "--precision", "bf16")
    first = train(folder, "avcil", *flags)[0]
    yield Row("the same run again", *same(train(folder, "avcil", *flags)[0], first))
    script = f"import sys; sys.path.insert(0, {PROJECT!r}); from benchmarks.gpu_check import train; "
    script += f"sys.stdout.buffer.write(train({folder!r}, 'avcil', *{flags!r}, name='fresh')[0])"
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"TRITON_CACHE_DIR": cache}
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, check=False)
    yield Row("in a new process with nothing compiled", *same(done.stdout, first))
    with patch.object(Updates, "_capture", lambda *_: None):
        yield Row("without CUDA graphs", *same(train(folder, "avcil", *flags)[0], first))
    epoch, calls = Updates.epoch, []

    def interrupted(updates, batches):
        calls.append(batches)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return epoch(updates, batches)

    with patch.object(Updates, "epoch", interrupted):
        train(folder, "avcil", *flags, name="interrupted")
        rest = train(folder, "avcil", *flags, name="interrupted", anew=False)[0]
        yield Row("interrupted and gone on", *same(rest, first))


def same(rows, expected):
    equal = rows == expected and len(rows) > 0
    return "equal" if equal else "differs", "equal to the last bit", equal


def tiers(folder, ceilings):
    """Features on the device, on the host, in the file."""
    first = train(folder, "avcil", "--device", "cuda")[0]
    for name, device_gb, host_gb in (("host", "0", "1"), ("file", "0", "0")):
        flags = ("--device", "cuda", "--device_cache", device_gb, "--host_cache", host_gb)
        yield Row(f"features from the {name}", *same(train(folder, "avcil", *flags)[0], first))


def memory(folder, ceilings):
    """How a run ends that needs more than there is."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-5)
    try:
        _, code, errors = train(folder, "avcil", "--device", "cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    good = code == 2 and errors.count("\n") == 1 and errors.startswith("error: out of memory")
    yield Row("out of memory", f"exit {code}, {len(errors.splitlines())} line", "exit 2, 1 line", good)


def speed(folder, ceilings):
    """Updates of AV-CIL at the size of AVE against the ceilings, and beside the plain implementation's."""
    path = os.path.join(folder, "rows.json")
    command = [sys.executable, os.path.join(PROJECT, "benchmarks", "gpu_counts.py"), "--precision", "bf16"]
    subprocess.run([*command, "--json", path], check=True, capture_output=True)
    rows = json.loads(pathlib.Path(path).read_text())
    row = next(row for row in rows if row["step"] == 1 and row["what"] == "update")
    yield Row("AVE, AV-CIL bf16: an update is replayed", f"{row['graphs']:.1f} graphs", "1", row["graphs"] == 1)
    waits = row["syncs"] * row["per"]
    yield Row("waits for the device in an epoch", f"{waits:.0f}", "at most 1", waits <= 1)
    milliseconds, cpu = row["ms"], row["cpu_ms"]
    yield Row("milliseconds an update, of the CPU", f"{milliseconds:.2f}, {cpu:.2f}", "CPU at most 3", cpu <= 3)
    frames_by_positions, width = SIZES["ave"].tokens
    tokens = frames_by_positions * AVE_UPDATE["clips"]
    flop = 2 * 2 * tokens * width**2  # projection, and the gradient of its weight
    moved = ELEMENT_BYTES * tokens * width + OLD_BYTES * frames_by_positions * AVE_UPDATE["replayed"] * width
    for name, amount in (("TFLOP/s", flop / 1e12), ("GB/s", moved / 1e9)):
        rate = 1e3 * amount / milliseconds
        yield Row(f"{name} reached, of the ceiling", f"{rate:.0f}, {100 * rate / ceilings[name]:.0f} %")
    peak = max(row["allocated"] for row in rows if "allocated" in row) / 1e9
    yield Row("most memory, GB", f"{peak:.1f}", "at most 13.9", peak <= 13.9)
    try:
        yield Row("the plain update, times ours", f"{1e3 * plain.resident_update(**AVE_UPDATE) / milliseconds:.1f}")
    except torch.OutOfMemoryError:
        yield Row("the plain update", "does not fit this GPU")


if __name__ == "__main__":
    main()
