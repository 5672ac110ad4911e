"""Workloads: condensed kernels stand for the whole trace, in time and in calls."""

import numpy as np
import pytest

from explorer.errors import ExplorationError
from explorer.workload import condense, workload_from_trace
from profiler.op import KINDS, Op, Operand
from simulator import analytic
from simulator.plans import plan_columns


def attention(build, keys):
    return build.attention(1, 32, 8, 1, keys, 128, False)


def test_hundreds_of_lengths_become_a_few_with_the_same_time(build, shipped_chips):
    """Decoding over 1,000 to 1,255 keys: every step another kernel, a step of a product beside each."""
    ops = [attention(build, 1000 + step) for step in range(256)] + [build.gemm(1, 4096, 4096)]
    trace = build.trace(ops, [index for step in range(256) for index in (step, 256)])
    workload = workload_from_trace(trace, units=256, fused=False)
    assert len(workload) <= 8
    assert workload.counts.sum() == pytest.approx(512, rel=0.01)
    for chip in shipped_chips():
        whole_s = analytic.simulate(trace, chip).makespan_s
        seconds = float(plan_columns(workload.ops, [chip]).duration_s[:, 0] @ workload.counts)
        assert seconds == pytest.approx(whole_s, rel=0.005), chip.name


def test_a_layer_of_experts_is_one_kernel_as_in_serving_engines():
    torch = pytest.importorskip("torch", reason="a network is captured")
    from tiny_networks import tiny_preset

    from profiler.capture import capture
    from workloads.architecture import Mixture
    from workloads.backbones import build_backbone

    model = build_backbone(tiny_preset(moe=Mixture(experts=8, top_k=2, expert_ffn=12), rope_theta=100.0), device="meta")
    with torch.no_grad(), capture(name="tiny") as recording:
        model(torch.zeros(1, 5, dtype=torch.int64, device="meta"))
    serving, called = (workload_from_trace(recording.trace, fused=fused) for fused in (True, False))
    is_layer = serving.ops.kind[:, 0] == KINDS.index("moe")
    assert serving.counts[is_layer].sum() == 2  # of two layers
    assert not (called.ops.kind == KINDS.index("moe")).any()
    flops = [(each.ops.matrix_flops[:, 0] * each.counts).sum() for each in (serving, called)]
    assert flops[0] == flops[1]


def test_products_of_different_shapes_are_never_merged(build):
    ops = [build.gemm(64, 64 + 8 * i, 4096) for i in range(8)]
    kept, counts = condense(ops, np.ones(8), np.zeros(8, dtype=bool), 3)
    assert kept.tolist() == list(range(8)) and counts.tolist() == [1.0] * 8


def test_sampling_is_what_reads_logits_and_is_no_product(build):
    head = Op(
        kind="gemm",
        name="aten::linear",
        dtype="bfloat16",
        inputs=(build.operand(8 * 64), build.operand(100 * 64, "bfloat16", "weights")),
        outputs=(Operand(shape=(8, 100), dtype="bfloat16", role="logits", moved_bytes=1600),),
        sizes=(("batch", 1), ("m", 8), ("n", 100), ("k", 64)),
        matrix_flops=2 * 8 * 100 * 64,
    )
    softmax = Op(
        kind="softmax",
        name="aten::softmax",
        dtype="bfloat16",
        inputs=(Operand(shape=(8, 100), dtype="bfloat16", role="logits", moved_bytes=1600),),
        outputs=(build.operand(800),),
        sizes=(("rows", 8), ("columns", 100)),
        vector_flops=4000,
    )
    workload = workload_from_trace(build.trace([head, softmax], [0, 1, 0, 1, 0]), units=3, fused=False)
    assert dict(zip(workload.names, workload.is_sampling.tolist(), strict=True)) == {
        "aten::linear": False,
        "aten::softmax": True,
    }
    assert (workload.logits, workload.logits_bytes, workload.sampled_passes) == (2400.0, 4800.0, 3.0)


def test_empty_traces_and_no_units_are_refused(build):
    trace = build.trace([build.gemm(8, 8, 8)], [0])
    with pytest.raises(ExplorationError, match="units must be > 0, got 0"):
        workload_from_trace(trace, units=0)
    with pytest.raises(ExplorationError, match="holds no calls"):
        workload_from_trace(build.trace([build.gemm(8, 8, 8)], []), units=1)
