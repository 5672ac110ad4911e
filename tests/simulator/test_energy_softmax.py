"""Energy of vector work: what is counted once, and the softmax that attention's FLOPs leave out."""

import pytest

from profiler.op import Op, Operand
from roofline.chipfile import load_chip
from simulator.energy import op_energy
from simulator.plans import plan_ops


def vector_j(op):
    chip = load_chip("h100-sxm")
    energy = op_energy(plan_ops([op], [chip]))
    return dict(energy.parts)["vector"][0] / chip.energy.vector_j_per_flop


def tensor(*shape):
    return Operand(shape=shape, dtype="bfloat16", moved_bytes=2 * 64)


def test_elementary_functions_are_counted_once():
    op = Op(
        kind="pointwise", name="aten::exp", dtype="bfloat16", inputs=(tensor(64),), outputs=(tensor(64),),
        sizes=(("elements", 64),), vector_flops=64,
    )  # fmt: skip
    assert vector_j(op) == pytest.approx(64)


@pytest.mark.parametrize(("causal", "pairs"), [(0, 2 * 8 * 8), (1, 2 * 8 * 9 // 2)])
def test_softmax_of_attention_costs_five_flops_a_pair(causal, pairs):
    dense = 2 * 2 * 2 * 8 * 8 * 16
    op = Op(
        kind="attention", name="aten::scaled_dot_product_attention", dtype="bfloat16",
        inputs=(tensor(1, 2, 8, 16),) * 3, outputs=(tensor(1, 2, 8, 16),),
        sizes=(("batch", 1), ("heads", 2), ("kv_heads", 2), ("queries", 8), ("keys", 8), ("head_dim", 16),
               ("value_dim", 16), ("causal", causal)),
        matrix_flops=dense, skippable_flops=dense - pairs * 4 * 16,
    )  # fmt: skip
    assert vector_j(op) == pytest.approx(5 * pairs)
