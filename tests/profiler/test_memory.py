"""Live memory from a trace: closed forms, and what torch's own allocator counts on the CPU."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from profiler.capture import capture, mark_role, phase
from profiler.errors import TraceError
from profiler.fusion import fuse
from profiler.memory import memory_use
from profiler.storage import load_trace, save_trace
from workloads.roles import ROLES

KB = 1024


def record(program):
    with torch.no_grad(), capture(name="x") as recording:
        program()
    return recording.trace


def roles(memory):
    return {role: memory.live_bytes[i].tolist() for i, role in enumerate(ROLES)}


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_chain_of_layers_holds_its_weights_and_two_activations(device):
    layers = [torch.nn.Linear(16, 16, bias=False, device=device) for _ in range(5)]
    x = torch.empty(4, 16, device=device)

    def program():
        y = x
        for layer in layers:
            y = layer(y)

    memory = memory_use(record(program))
    row, weight = 4 * 16 * 4, 16 * 16 * 4
    assert roles(memory)["weights"] == [5 * weight] * 5
    assert roles(memory)["activations"] == [2 * row] * 5
    assert memory.peak_bytes == 5 * weight + 2 * row
    assert memory.unknown_storages == 0


def test_what_is_read_late_lives_until_then():
    x = torch.ones(256)

    def program():
        skip = x * 2
        y = skip + 1
        y = y * 3
        y = y * 4
        y + skip

    assert roles(memory_use(record(program)))["activations"] == [2 * KB, 2 * KB, 3 * KB, 3 * KB, 3 * KB]


def test_writing_in_place_takes_nothing_new():
    x = torch.ones(256)

    def program():
        x.add_(1)
        x.mul_(2)
        x[:10].copy_(x[10:20])

    memory = memory_use(record(program))
    assert memory.total_bytes.tolist() == [KB, KB, KB]
    assert memory.storages == 1


@pytest.mark.parametrize("is_inside", [True, False])
def test_preallocated_cache_counts_whole_from_its_first_use_on(is_inside):
    def allocate():
        return mark_role(torch.empty(1, 2, 100, 8), "kv_cache")

    outside = allocate()

    def program():
        cache = allocate() if is_inside else outside
        for position in range(3):
            cache[:, :, position].copy_(torch.ones(1, 2, 8))
            functional.scaled_dot_product_attention(
                torch.ones(1, 2, 1, 8), cache[:, :, : position + 1], cache[:, :, : position + 1]
            )

    cache_bytes = roles(memory_use(record(program)))["kv_cache"]
    whole = 2 * 100 * 8 * 4
    first = cache_bytes.index(whole)
    assert first == (1 if is_inside else 0)  # the ones to be stored are made before
    assert set(cache_bytes[first:]) == {whole}


def test_cache_that_grows_by_copying_holds_old_and_new_at_once():
    def program():
        cache = mark_role(torch.ones(1, 1, 1, 64), "kv_cache")
        for _ in range(3):
            cache = torch.cat([cache, torch.ones(1, 1, 1, 64)], dim=2)

    trace = record(program)
    row = 64 * 4
    live = memory_use(trace).total_bytes.tolist()
    cats = [i for i, op in enumerate(trace.calls.op) if trace.ops[op].name == "aten::cat"]
    assert [live[i] for i in cats] == [(n + 1 + 1 + n + 2) * row for n in range(3)]  # old, row, new


def test_half_precision_takes_half_and_conserves_over_roles():
    def program(dtype):
        layer = torch.nn.Linear(64, 64, bias=False, device="meta", dtype=dtype)
        x = torch.empty(8, 64, device="meta", dtype=dtype)
        return lambda: functional.relu(layer(x))

    single, half = (memory_use(record(program(dtype))) for dtype in (torch.float32, torch.bfloat16))
    assert single.peak_bytes == 2 * half.peak_bytes
    assert sum(count for _, count in single.peak_by_role) == single.peak_bytes


def allocator_peak(program):
    """Most bytes that torch's CPU allocator held above what it held before, by its own profiler."""
    with torch.no_grad(), torch.profiler.profile(profile_memory=True) as profiler:
        program()
    profiler.export_chrome_trace("memory.json")
    events = json.loads(Path("memory.json").read_text(encoding="utf-8"))["traceEvents"]
    changes = [event["args"] for event in events if event["name"] == "[memory]"]
    assert changes
    return max(np.cumsum([change["Bytes"] for change in changes]))


class Block(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)
        self.up = torch.nn.Linear(width, 4 * width)
        self.down = torch.nn.Linear(4 * width, width)

    def forward(self, x):
        return x + self.down(functional.gelu(self.up(self.norm(x))))


def test_peak_of_a_model_is_what_torch_allocates_on_the_cpu(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = torch.nn.Sequential(*(Block(64) for _ in range(4)))
    x = torch.ones(128, 64)
    memory = memory_use(record(lambda: blocks(x)))
    weights = sum(parameter.nbytes for parameter in blocks.parameters())
    assert memory.most_of("weights") == weights
    ours = memory.peak_bytes - weights - x.nbytes
    # torch holds what a Python variable still names (the sum's inputs, a layer's argument), which nothing reads again.
    assert ours <= allocator_peak(lambda: blocks(x)) <= 1.3 * ours


def test_phases_have_peaks_of_their_own():
    def program():
        with phase("small"):
            torch.ones(256) + 1
        with phase("large"):
            torch.ones(1024) + 1

    frame = memory_use(record(program)).by_phase().set_index("phase")
    assert frame.peak_bytes.to_dict() == {"small": 2 * KB, "large": 8 * KB}


def test_curve_keeps_the_peak_and_never_draws_more_points_than_asked():
    def program():
        for _ in range(500):
            torch.ones(8) + 1
        torch.ones(100_000) + 1
        for _ in range(500):
            torch.ones(8) + 1

    memory = memory_use(record(program))
    curve = memory.over_time(points=50)
    assert len(curve) == 50
    assert curve[[f"{role}_bytes" for role in ROLES]].sum(axis=1).max() == memory.peak_bytes == 800_000


def test_saved_trace_gives_the_same(tmp_path):
    trace = record(lambda: functional.relu(torch.ones(8, 8) @ torch.ones(8, 8)))
    save_trace(trace, tmp_path / "t.parquet")
    loaded = memory_use(load_trace(tmp_path / "t.parquet"))
    assert np.array_equal(loaded.live_bytes, memory_use(trace).live_bytes)


def test_trace_without_dataflow_is_refused_in_one_line():
    trace = record(lambda: torch.ones(8) + 1)
    with pytest.raises(TraceError, match="does not say which storages"):
        memory_use(fuse(trace))
    with pytest.raises(TraceError, match="has no calls"):
        memory_use(record(lambda: None))
