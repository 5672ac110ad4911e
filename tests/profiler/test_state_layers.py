"""Layers with a state as engines write them: what joins the convolution and the scan, and what a compiler leaves."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from profiler.capture import capture
from profiler.errors import TraceError
from profiler.fusion import fuse
from profiler.serving_view import serving_view
from profiler.state_layers import merge_state_layers, state_layers
from workloads.decode_step import build_decode_step
from workloads.mamba import Mamba2
from workloads.presets import load_preset
from workloads.programs import resolve_program

BATCH, HEADS, WIDTH, STATE, CHANNELS = 3, 128, 80, 128, 12288


def step(**options):
    with capture(name="step") as recording:
        build_decode_step("nemotron-nano-9b-v2", batch=BATCH, context=9, state_dtype="float32", **options)()
    return recording.trace


def within_first_layer(trace):
    """Ops of the first layer, which is Mamba-2, in the order of its calls."""
    (phase,) = (number for number, name in enumerate(trace.phases) if name == "decode")
    paths = [trace.modules[module] for module in trace.calls.module]
    inside = [path == LAYER or path.startswith(f"{LAYER}.") for path in paths]
    return [trace.ops[op] for op in trace.calls.op[np.array(inside) & (trace.calls.phase == phase)]]


LAYER = "Backbone.blocks.0.attention"


def test_layers_with_a_state_are_found_by_what_they_run():
    layers = state_layers(step())
    assert len(layers) == 27 and LAYER in layers
    with capture(name="plain") as recording:
        build_decode_step("smollm2-135m", batch=2, context=3)()
    assert state_layers(recording.trace) == frozenset()
    assert merge_state_layers(recording.trace) is recording.trace


def test_a_convolution_moves_its_kept_inputs_and_a_scan_its_state_once():
    """By hand, bfloat16 but for the state: of a channel 3 kept inputs in and out, one new, one out, 5 weights."""
    ops = within_first_layer(merge_state_layers(step()))
    assert [op.kind for op in ops] == ["gemm", "conv", "scan", *["pointwise"] * 2, "norm", "pointwise", "gemm"]
    conv, scan = ops[1:3]
    assert conv.read_bytes() == 2 * CHANNELS * (BATCH * (3 + 1) + 5)
    assert conv.write_bytes() == 2 * CHANNELS * BATCH * (3 + 1)
    states = 4 * BATCH * HEADS * WIDTH * STATE
    # Inputs and step sizes; bias, decay and skip. What enters and leaves the state are views of the same tensor as the
    # inputs, and a group reads a tensor once: 0.1 % too little here.
    inputs = 2 * BATCH * (HEADS * WIDTH + HEADS) + 2 * 3 * HEADS
    assert scan.read_bytes() == states + inputs
    assert scan.write_bytes() == states + 2 * BATCH * HEADS * WIDTH


def test_a_prompt_runs_one_kernel_for_the_convolution_and_one_scan():
    program = resolve_program("nemotron-nano-9b-v2@forward", device="meta", seq_len=300)
    with capture(name="prompt") as recording:
        program.run()
    view = merge_state_layers(recording.trace)
    kinds = [view.ops[op].kind for op in view.calls.op]
    assert (kinds.count("conv"), kinds.count("scan")) == (27, 27)
    assert flops(view) == flops(recording.trace)


def flops(trace):
    return sum(op.matrix_flops * count for op, count in zip(trace.ops, trace.call_counts, strict=True))


def test_what_a_compiler_does_not_see_stays_single():
    """vLLM 0.11's mixer: ten operations of a norm in float32 and a copy of the output, each a kernel of its own."""
    trace = step(uncompiled_mixers=True)
    layers = state_layers(trace)
    view = serving_view(trace, uncompiled=lambda path: any(path == one or path.startswith(f"{one}.") for one in layers))
    names = [op.name for op in within_first_layer(view)]
    assert names[3:] == [
        *("aten::_to_copy", "aten::silu", "aten::mul", "aten::pow", "aten::mean", "aten::add", "aten::rsqrt"),
        *("aten::mul", "aten::_to_copy", "aten::mul", "aten::linear", "aten::copy_"),
    ]
    seen = serving_view(step())
    assert [op.kind for op in within_first_layer(seen)] == ["gemm", "conv", "scan", "norm", "gemm"]


def test_the_norm_in_single_operations_is_the_gated_norm():
    """x silu(z) over the root of its mean square in each group, times the weight."""
    torch.manual_seed(0)
    preset = load_preset("nemotron-nano-9b-v2")
    space = replace(preset.state_space, inner=64, heads=4, groups=2, state=8)
    mixer = Mamba2(preset, space, 0, torch.float32)
    weight, x, z = torch.randn(64), torch.randn(2, 5, 64), torch.randn(2, 5, 64)
    mixer.norm_weight = torch.nn.Parameter(weight)
    gated = (x * z * torch.sigmoid(z)).view(2, 5, 2, 32)
    by_hand = weight * (gated / torch.sqrt(gated.square().mean(-1, keepdim=True) + preset.norm_eps)).view(2, 5, 64)
    with torch.no_grad():
        torch.testing.assert_close(mixer._norm_in_single_operations(x, z), by_hand)


def test_fused_views_are_refused():
    with pytest.raises(TraceError, match="eager view only"):
        merge_state_layers(fuse(step()))
