"""Bounds of single operations, held against numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from profiler.costs.attention import attention_op
from profiler.costs.call import AtenCall, TensorMeta
from profiler.op import Op, Operand
from roofline.bounds import op_bounds
from roofline.errors import ChipError


def test_large_gemm_is_bound_by_the_matrix_units(toy_chip, gemm):
    bounds = op_bounds([gemm(1024, 1024, 1024)], toy_chip)
    assert bounds.resources == ("compute", "vector", "l2", "hbm")
    # 2 * 1024^3 FLOPs at 1e13/s; 3 * 2 * 1024^2 bytes at 1e12/s and at 1e11/s
    np.testing.assert_allclose(bounds.seconds[0], [214.7483648e-6, 0, 6.291456e-6, 62.91456e-6], rtol=1e-12)
    assert bounds.bound_s[0] == pytest.approx(214.7483648e-6, rel=1e-12)
    assert bounds.resources[bounds.bound_by[0]] == "compute"


def test_decode_gemv_is_bound_by_main_memory(toy_chip, gemm):
    bounds = op_bounds([gemm(1, 4096, 4096)], toy_chip)
    # 2 * (4096^2 + 2 * 4096) bytes = 33,570,816
    assert bounds.bound_s[0] == pytest.approx(335.70816e-6, rel=1e-12)
    assert bounds.resources[bounds.bound_by[0]] == "hbm"


def test_causal_attention_counts_only_what_a_kernel_cannot_skip(toy_chip):
    query = TensorMeta(shape=(1, 8, 1024, 64), dtype="bfloat16")
    key = TensorMeta(shape=(1, 2, 1024, 64), dtype="bfloat16")
    call = AtenCall(
        name="aten::scaled_dot_product_attention", args=(query, key, key, None, 0.0, True), outputs=(query,)
    )
    bounds = op_bounds([attention_op(call)], toy_chip)
    # pairs seen: 1024 * 1025 / 2 = 524,800; x 8 heads x 4 x 64 FLOPs = 1,074,790,400
    assert bounds.seconds[0, 0] == pytest.approx(107.479040e-6, rel=1e-12)
    # Q and output 2 x 1 MiB, K and V 2 x 256 KiB
    assert bounds.moved_bytes[0] == 2_621_440


def test_type_without_matrix_units_runs_on_the_vector_units(toy_chip, gemm):
    op = replace(gemm(100, 100, 100, dtype="float32"), vector_flops=10_000)
    bounds = op_bounds([op], toy_chip)
    assert bounds.seconds[0, 0] == 0
    assert bounds.seconds[0, 1] == pytest.approx((2_000_000 + 10_000) / 1e11, rel=1e-12)


def test_vector_and_matrix_units_work_side_by_side(toy_chip, gemm):
    op = replace(gemm(1000, 1000, 1000), vector_flops=1_000_000)
    bounds = op_bounds([op], toy_chip)
    np.testing.assert_allclose(bounds.seconds[0, :2], [200e-6, 10e-6], rtol=1e-12)
    assert bounds.compute_s[0] == pytest.approx(200e-6)


def test_unknown_flops_leave_a_bound_from_the_bytes(toy_chip, unknown_op):
    bounds = op_bounds([unknown_op], toy_chip)
    assert bounds.bound_s[0] == pytest.approx(1e6 / 1e11)
    assert bounds.has_unknown[0]
    assert not bounds.flops_known[0]


def test_known_operands_count_where_one_is_unknown(toy_chip, softmax_op):
    hidden = Operand(shape=(5,), dtype="float32", moved_bytes=None)
    bounds = op_bounds([replace(softmax_op, inputs=(*softmax_op.inputs, hidden))], toy_chip)
    assert bounds.moved_bytes[0] == 8_000_000
    assert not bounds.bytes_known[0]
    assert bounds.bound_s[0] == pytest.approx(80e-6)


def test_what_is_unknown_of_either_kind_is_said(toy_chip, softmax_op):
    hidden = Operand(shape=(5,), dtype="float32", moved_bytes=None)
    unread = Operand(shape=(5,), dtype="float32", moved_bytes=0)
    ops = [
        softmax_op,
        replace(softmax_op, vector_flops=None),
        replace(softmax_op, matrix_flops=None),
        replace(softmax_op, inputs=(*softmax_op.inputs, hidden)),
        replace(softmax_op, outputs=(hidden,)),
        replace(softmax_op, inputs=(*softmax_op.inputs, unread)),  # no bytes are known, too
    ]
    bounds = op_bounds(ops, toy_chip)
    assert bounds.flops_known.tolist() == [True, False, False, True, True, True]
    assert bounds.bytes_known.tolist() == [True, True, True, False, False, True]
    assert bounds.has_unknown.tolist() == [False, True, True, True, True, False]


def test_warm_caches_hold_as_much_as_all_nearer_levels_together(toy_chip, gemm):
    """1 MB and 3 MB of cache spare 4 MB of the 33,562,624 bytes that are read from main memory."""
    near, main = toy_chip.memories
    middle = replace(near, name="l3", capacity_bytes=3e6)
    chip = replace(toy_chip, memories=(near, middle, main))
    warm = op_bounds([gemm(1, 4096, 4096)], chip, caches="warm")
    assert warm.level_bytes[0].tolist() == [33_570_816, 32_562_624, 29_562_624]


def test_nothing_known_is_no_bound_and_nothing_to_do_is_zero(toy_chip):
    secret = Op(kind="unknown", name="x::y", dtype="float32", matrix_flops=None, vector_flops=None)
    idle = Op(kind="pointwise", name="aten::add", dtype="float32", sizes=(("elements", 0),))
    bounds = op_bounds([secret, idle], toy_chip)
    assert np.isnan(bounds.bound_s[0])
    assert bounds.bound_s[1] == 0
    assert bounds.bound_by.tolist() == [-1, -1]


def test_warm_caches_spare_what_fits_and_no_more(toy_chip, gemm):
    op = gemm(1, 4096, 4096)
    warm = op_bounds([op], toy_chip, caches="warm")
    # reads 33,562,624 bytes less 1 MB of L2; 8,192 bytes written stay in it
    assert warm.level_bytes[0].tolist() == [33_570_816, 32_562_624]
    small = op_bounds([gemm(64, 64, 64)], toy_chip, caches="warm")
    assert small.level_bytes[0, 1] == 0
    assert np.all(warm.bound_s <= op_bounds([op], toy_chip).bound_s)


def test_misspelled_caches_are_refused(toy_chip, gemm):
    with pytest.raises(ChipError, match="cold, warm, got 'hot'"):
        op_bounds([gemm(1, 1, 1)], toy_chip, caches="hot")  # type: ignore[arg-type]


def test_no_ops_give_empty_bounds(toy_chip):
    bounds = op_bounds([], toy_chip)
    assert bounds.seconds.shape == (0, 4)
    assert bounds.bound_s.shape == (0,)


@pytest.mark.parametrize("factor", [2.0, 0.25])
def test_bound_scales_exactly_with_all_rates(toy_chip, gemm, softmax_op, factor):
    ops = [gemm(1024, 1024, 1024), gemm(1, 4096, 4096), softmax_op]
    faster = replace(
        toy_chip,
        clock_hz=toy_chip.clock_hz * factor,
        memories=tuple(replace(m, bandwidth_bytes_per_s=m.bandwidth_bytes_per_s * factor) for m in toy_chip.memories),
    )
    np.testing.assert_array_equal(op_bounds(ops, faster).bound_s * factor, op_bounds(ops, toy_chip).bound_s)
