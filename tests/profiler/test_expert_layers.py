"""Layers of experts as one op: what it stands for, what is conserved, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from profiler.capture import capture
from profiler.errors import TraceError
from profiler.expert_layers import merge_expert_layers
from profiler.fusion import fuse
from profiler.traces import Trace
from workloads.architecture import Mixture
from workloads.backbones import build_backbone
from workloads.presets import ModelPreset

MIXTURE = Mixture(experts=8, top_k=2, expert_ffn=12)
GROUPED = Mixture(
    experts=8, top_k=3, expert_ffn=12, shared=2, router="sigmoid", groups=4, kept_groups=2, scale=2.5, dense_layers=1
)


def record(mixture: Mixture = MIXTURE, **changes: object) -> Trace:
    preset = ModelPreset(
        name="tiny-moe",
        kind="ar",
        layers=2,
        d_model=16,
        heads=4,
        kv_heads=2,
        head_dim=8,
        ffn=24,
        vocab=50,
        max_length=256,
        rope_theta=100.0,
        norm_eps=1e-6,
        moe=mixture,
        source="made up for these tests",
        **changes,  # type: ignore[arg-type]  # a preset's own fields
    )
    model = build_backbone(preset, device="meta")
    with torch.no_grad(), capture(name="tiny") as recording:
        model(torch.zeros(1, 5, dtype=torch.int64, device="meta"))
    return recording.trace


def test_a_layer_becomes_one_op_that_reads_the_experts_that_run_once() -> None:
    """By hand: 5 tokens x 2 experts are 10 rows on 8 experts, so all run: 3 weights each of 12 x 16 numbers."""
    merged = merge_expert_layers(record())
    layers = [op for op in merged.ops if op.kind == "moe"]
    assert sum(merged.ops[index].kind == "moe" for index in merged.calls.op) == 2
    assert dict(layers[0].sizes) == {
        **{"tokens": 5, "hidden": 16, "inter": 12, "experts": 8, "topk": 2},
        **{"running": 8, "gated": 1},
    }
    assert layers[0].matrix_flops == 2 * 10 * 3 * 12 * 16
    width = 4 if layers[0].dtype == "float32" else 2
    assert sum(operand.moved_bytes or 0 for operand in layers[0].inputs if operand.role == "weights") == (
        8 * 3 * 12 * 16 * width
    )
    assert sum(operand.moved_bytes or 0 for operand in layers[0].outputs) == 5 * 16 * width


@pytest.mark.parametrize(("mixture", "changes"), [(MIXTURE, {}), (GROUPED, {}), (MIXTURE, {"ffn_type": "relu2_mlp"})])
def test_flops_stay_and_nothing_else_is_joined(mixture: Mixture, changes: dict[str, object]) -> None:
    eager = record(mixture, **changes)
    merged = merge_expert_layers(eager)
    assert merged.to_frame()["flops"].sum() == eager.to_frame()["flops"].sum()
    gated = [op.size("gated") for op in merged.ops if op.kind == "moe"]
    assert set(gated) == {0 if changes else 1}
    left = [merged.modules[path] for path in merged.calls.module]
    assert any(path.endswith(".router.score") for path in left)
    assert not any(path.endswith(".experts") for path in left)
    assert sum(".shared" in path for path in left) == sum(
        ".shared" in eager.modules[path] for path in eager.calls.module
    )


def test_layer_of_experts_can_be_fused_further() -> None:
    fused = fuse(merge_expert_layers(record()))
    assert fused.view == "fused"
    assert sum(fused.ops[index].kind == "moe" for index in fused.calls.op) == 2


def test_trace_without_experts_comes_back() -> None:
    with torch.no_grad(), capture() as recording:
        torch.zeros(4).exp()
    assert merge_expert_layers(recording.trace) is recording.trace


@pytest.mark.parametrize(("ours", "theirs"), [(".router.score", ".gate"), (".experts", ".other.experts")])
def test_experts_of_other_networks_come_back(ours: str, theirs: str) -> None:
    eager = record()
    foreign = replace(eager, modules=tuple(path.replace(ours, theirs) for path in eager.modules))
    assert merge_expert_layers(foreign) is foreign


def test_what_cannot_be_merged_is_refused_in_one_line() -> None:
    eager = record()
    with pytest.raises(TraceError, match="eager view"):
        merge_expert_layers(fuse(eager))
    calls = replace(eager.calls, reads=np.array([], dtype=np.int64), writes=np.array([], dtype=np.int64))
    with pytest.raises(TraceError, match="no dataflow"):
        merge_expert_layers(replace(eager, calls=calls))
