"""Where tokens are held, and by how many processes, changes nothing that comes out."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dataloader import open_data
from features.cache import CacheOptions, TierCache
from methods.avcil import TeacherAttention
from tests.helpers import tiny
from tests.helpers.shared import REPO

TIERS = ("auto", "0", "0.00005", "1")  # GB; the third holds a step's clips but not all of the data


def rows(root):
    return [(root / "run" / name).read_text() for name in ("steps.jsonl", "epochs.csv")]


@pytest.mark.parametrize(
    "method, precision", [("avcil", "fp32"), ("avcil", "bf16"), ("icarl", "fp32"), ("upper_bound", "fp32")]
)
def test_every_tier_gives_the_same_run(tmp_path, method, precision):
    tiny.make(tmp_path)
    found = []
    for tier in TIERS:
        flags = ["--modality", "audio-visual", "--precision", precision, "--device_cache", tier]
        tiny.train(tmp_path, method, *flags)
        found.append(rows(tmp_path))
    if (method, precision) == ("avcil", "fp32"):
        # The teacher's maps are computed of all exemplars at once, or of each batch as it comes: rows of a product of
        # matrices that some processors round otherwise in another company: by 2e-9 of a loss, seen once. The limit is
        # a few last bits of float32 losses of 1 to 4.
        lines = [[line.rsplit(",", 1) for line in epochs.splitlines()[1:]] for _, epochs in found]
        for (steps, _), each in zip(found, lines, strict=True):
            assert steps == found[0][0] and [name for name, _ in each] == [name for name, _ in lines[0]]
            values = [[float(value) for _, value in of] for of in (each, lines[0])]
            np.testing.assert_allclose(*values, rtol=0, atol=1e-6)
    else:
        assert all(other == found[0] for other in found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gigabytes", TIERS)
def test_every_tier_gives_the_tokens_of_the_file(tmp_path, gigabytes, dtype):
    tiny.make(tmp_path)
    data = open_data("tiny", data_root=tmp_path, cache=CacheOptions(device_gb=gigabytes, dtype=dtype))
    some = data.clips("train", slice(0, 2))
    data.prefetch(some)
    assert data.tokens.holds(some) == (gigabytes != "0")
    batch = data.load(some[::-1].copy(), 3)
    expected = torch.from_numpy(np.stack([data.features["visual"][data.ids[clip]] for clip in some[::-1]]))
    torch.testing.assert_close(batch.visual.tensor(), expected.view(-1, 8, 2, 12).to(dtype), rtol=0, atol=0)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.lists(st.lists(st.integers(0, 19), min_size=1, max_size=12), max_size=8))
def test_cache_holds_what_it_was_asked_for_last(capacity, requests):
    values = torch.arange(20.0)[:, None] * torch.ones(3)
    reads = []

    def read(clips):
        reads.extend(clips)
        return values[clips]

    cache = TierCache(20, capacity, (3,), torch.float32)
    for request in requests:
        clips, before = np.array(request), set(np.flatnonzero(cache.row_of >= 0))
        reads.clear()
        assert cache.hold(clips, lambda parts: map(read, parts)) == (len(set(request)) <= capacity)
        if len(set(request)) <= capacity:
            assert sorted(reads) == sorted(set(request) - before)
            torch.testing.assert_close(cache.take(clips), values[clips], rtol=0, atol=0)
        held = cache.row_of[cache.row_of >= 0]
        assert len(set(held)) == len(held)


def test_cached_attention_maps_are_those_computed_as_needed(tmp_path):
    tiny.make(tmp_path)
    data = open_data("tiny", data_root=tmp_path)
    from model.network import AudioVisualNet

    torch.manual_seed(0)
    teacher = AudioVisualNet("audio-visual", 2, data.audio_dim, data.visual_dim)
    exemplars = data.clips("train", slice(0, 2))
    cached, fresh = TeacherAttention(teacher), TeacherAttention(teacher)
    cached.cache(data, exemplars, lambda clips: data.batches([clips]))
    assert cached.cached is not None
    batch = data.load(exemplars[[5, 1, 3]], 3)
    arguments = np.arange(3), batch.visual.tensor()
    expected = fresh.of(batch).maps(*arguments)
    torch.testing.assert_close(cached.of(batch).maps(*arguments), expected, rtol=1e-6, atol=1e-7)


def test_two_processes_give_the_run_of_one(tmp_path):
    tiny.make(tmp_path)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [REPO / "train_incremental.py", *tiny.flags(tmp_path, "avcil", "--run_dir", str(tmp_path / "two"))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Average Accuracy") == 1
    tiny.train(tmp_path, "avcil")
    two, one = (
        [line.split(",") for line in (tmp_path / run / "epochs.csv").read_text().splitlines()[1:]]
        for run in ("two", "run")
    )
    assert [line[:3] for line in two] == [line[:3] for line in one]
    np.testing.assert_allclose([float(line[3]) for line in two], [float(line[3]) for line in one], rtol=1e-4, atol=1e-5)
    results = [json.loads((tmp_path / run / "results.json").read_text()) for run in ("two", "run")]
    assert results[0]["accuracy_matrix"] == results[1]["accuracy_matrix"]
