"""Eager programs on a chip that is its own host: times by hand, in both engines, and what is no such chip's."""

from dataclasses import replace

import numpy as np
import pytest

from profiler.op import Op, Operand
from simulator import analytic, event
from simulator.eager_kernels import eager_chip
from simulator.errors import SimulationError
from simulator.own_host import UNTABLED, HostRates, mean_launch_s

MIB = 2**20
CONSTANTS = {
    "near_s": 4e-6,
    "far_s": 40e-6,
    "python_s": 3e-6,
    "fork_s": 5e-6,
    "fresh_bytes_per_s": 2e9,
    "near_bytes_per_s": 50e9,
    "far_bytes_per_s": 20e9,
    "near_bytes": 8.0 * MIB,
    "far_bytes": 64.0 * MIB,
    **{f"{call}.near_s": 10e-6 for call in ("linear", "convolution", "norm", "layer_norm", "gelu", "attention")},
    "gemm.float32.flops_per_s": 1e9,
    "gemm.float32.row_bytes_per_s": 10e9,
    "gemm.float32.weight_bytes_per_s": 8e9,
    "gemm.float32.held_row_bytes_per_s": 40e9,
    "gemm.float32.held_weight_bytes_per_s": 16e9,
    "attention.flops_per_s": 1e9,
    "attention.bytes_per_s": 10e9,
    "conv.flops_per_s": 1e9,
    "norm.elements_per_s": 1e9,
    "function.elements_per_s": 1e9,
    "argmax.elements_per_s": 0.5e9,
}


@pytest.fixture
def chip(build):
    """Two cores whose peaks are far above the measured rates, and a warm dispatch of 1 us."""
    measured = tuple((f"eager.host.{name}", value) for name, value in CONSTANTS.items())
    return build.chip(cores=2, launch_s=1e-6, calibration=measured, host_dispatch_s=None)


def linear(rows: int, size: int) -> Op:
    def operand(m: int, n: int, role: str) -> Operand:
        return Operand(shape=(m, n), dtype="float32", role=role, moved_bytes=4 * m * n)  # type: ignore[arg-type]

    return Op(
        kind="gemm",
        name="aten::linear",
        dtype="float32",
        inputs=(operand(rows, size, "activations"), operand(size, size, "weights")),
        outputs=(operand(rows, size, "activations"),),
        sizes=(("batch", 1), ("m", rows), ("n", size), ("k", size)),
        matrix_flops=2 * rows * size**2,
    )


def elements(name: str, count: int, kind: str = "pointwise") -> Op:
    operand = Operand(shape=(count,), dtype="float32", moved_bytes=4 * count)
    sizes = (("elements", count),) if kind == "pointwise" else (("rows", 1), ("columns", count))
    return Op(kind=kind, name=name, dtype="float32", inputs=(operand,), outputs=(operand,), sizes=sizes)  # type: ignore[arg-type]


def launches_s(build, chip, ops, order):
    return mean_launch_s(build.trace(ops, order), HostRates(eager_chip(chip)))


@pytest.mark.parametrize("engine", [analytic, event])
def test_a_call_is_python_dispatch_fork_and_kernels_one_after_another(build, chip, engine):
    """64 rows of 1024: 0.25 MiB in and out by two threads, 4 MiB of weights from main memory, 134 MFLOP at 1 GFLOP/s.

    The first call of a name finds its code in main memory, 10 times as far as near.
    """
    op = linear(64, 1024)
    passing_s, weights_s = 2 * 64 * 1024 * 4 / 50e9, 4 * MIB / 8e9
    kernel_s = passing_s + weights_s + 2 * 64 * 1024**2 / 1e9 + 5e-6
    result = engine.simulate(build.trace([op], [0]), chip, mode="eager")
    assert result.makespan_s == pytest.approx(3e-6 + 100e-6 + kernel_s, rel=1e-9)
    assert not any("dispatch" in note for note in result.notes)
    assert result.band_basis == (UNTABLED,)


def test_one_row_goes_at_its_own_rate_and_no_thread_is_forked_for_little(build, chip):
    small = elements("aten::neg", 1024)
    result = analytic.simulate(build.trace([linear(1, 1024), small], [0, 1]), chip, mode="eager")
    row_s = 4 * MIB / 10e9 + 2 * 1024 * 4 / 50e9 + 2 * 1024**2 / 1e9 + 5e-6
    assert result.op_duration_s[0] == pytest.approx(103e-6 + row_s)
    # one of two cores has the elements, at half of the rate of both
    assert result.op_duration_s[1] == pytest.approx(43e-6 + 2 * 1024 * 4 / 25e9)


def test_weights_that_a_cache_holds_come_from_there(build, chip):
    op = linear(1, 256)
    trace = build.trace([op], [0, 0])
    told = replace(trace, calls=replace(trace.calls, reads=np.array([1, 2, 3, 2]), writes=np.array([3, 4])))
    far, held = (analytic.simulate(each, chip, mode="eager").op_duration_s[0] for each in (trace, told))
    assert far - held == pytest.approx(256 * 256 * 4 * (1 / 10e9 - 1 / 40e9))


def test_code_is_as_far_as_what_was_moved_since_its_last_call(build, chip):
    """Between two calls of `neg` lie 0, then 36 MiB: 36 is half way from 8 to 64."""
    few, many = elements("aten::neg", 1), elements("aten::exp", 36 * MIB // 8)
    first_s, warm_s, half_s = 40e-6, 1e-6, 22e-6
    launch_s = launches_s(build, chip, [few, many], [0, 0, 1, 0])
    assert launch_s[0] == pytest.approx((first_s + warm_s + half_s) / 3 + 3e-6)
    assert launch_s[1] == pytest.approx(43e-6)


def test_fresh_pages_are_paid_for_where_a_tensor_is_too_large_to_keep(build, chip):
    large, count = elements("aten::neg", 12 * MIB), 12 * MIB
    in_place = replace(large, name="aten::neg_")
    new_s, old_s = analytic.simulate(build.trace([large, in_place], [0, 1]), chip, mode="eager").op_duration_s
    assert new_s - old_s == pytest.approx(4 * count / 2e9)


def test_positions_are_found_element_by_element(build, chip):
    largest, total = (elements(f"aten::{name}", 65536, "reduction") for name in ("argmax", "sum"))
    slow_s, fast_s = analytic.simulate(build.trace([largest, total], [0, 1]), chip, mode="eager").op_duration_s
    assert slow_s - fast_s == pytest.approx(65536 / 0.5e9, rel=1e-6)


def test_graphs_have_no_host_and_say_that_kernels_run_at_peak_rates(build, chip):
    trace = build.trace([linear(64, 1024)], [0])
    bare = replace(chip, calibration=())
    with_constants, without = (analytic.simulate(trace, each, mode="graph") for each in (chip, bare))
    assert with_constants.makespan_s == without.makespan_s
    assert any("no calibration" in note for note in with_constants.notes)


def test_a_missing_constant_is_named(build, chip):
    partial = replace(chip, calibration=chip.calibration[:5])
    with pytest.raises(SimulationError, match=r"calibration\.eager\.host lacks far_bytes"):
        analytic.simulate(build.trace([linear(1, 8)], [0]), partial, mode="eager")
