"""Plans at a part of the clock: what slows down and what does not, and the term of long kernels that a run has not."""

from dataclasses import replace

import numpy as np
import pytest

from roofline.chipfile import load_chip
from simulator.analytic import simulate
from simulator.clocks import at_clock, steady_chip
from simulator.errors import SimulationError
from simulator.plans import plan_ops


def test_cores_slow_down_with_the_clock_and_memory_does_not(build):
    table = plan_ops([build.gemm(8192, 8192, 8192), build.pointwise(100_000_000)], [build.chip()])
    slow = at_clock(table, 0.5)
    product, stream = slow.duration_s[:, 0] / table.duration_s[:, 0]
    assert product == pytest.approx(2.0, rel=0.01)
    assert stream == pytest.approx(1.0, rel=1e-3)
    # By hand: 600 MB at 1 TB/s.
    assert slow.duration_s[1, 0] == pytest.approx(600e-6, rel=0.01)
    assert (slow.columns.traffic_bytes == table.columns.traffic_bytes).all()


def test_a_stream_is_slowed_once_its_cores_are_the_slower_side(build):
    """100 cores of 128 bytes a clock take 12.8 TB/s at 1 GHz, as much as main memory's 1 TB/s at 1 / 12.8 of it."""
    table = plan_ops([build.pointwise(100_000_000)], [build.chip()])
    seconds = [at_clock(table, ratio).duration_s[0, 0] for ratio in (1.0, 0.1, 0.039)]
    assert seconds[1] == pytest.approx(seconds[0], rel=0.02)
    assert seconds[2] == pytest.approx(2 * seconds[0], rel=0.05)


@pytest.mark.parametrize("name", ["h100-sxm", "a100-sxm-80gb", "b200-sxm", "mi300x", "tpu-v5e"])
def test_less_clock_is_never_faster_and_no_clock_beats_the_bound(build, name):
    kinds = ("gemm", "attention", "pointwise", "softmax", "reduction", "gather", "collective", "sort")
    ops = [
        build.any_op(kind, a, b, c) for kind in kinds for a, b, c in ((3, 70, 64), (512, 300, 128), (4096, 4096, 65))
    ]
    table = plan_ops(ops, [steady_chip(load_chip(name))])
    before = np.full(len(ops), np.inf)
    for ratio in (0.2, 0.4, 0.6, 0.8, 0.99, 1.0):
        seconds = at_clock(table, ratio).duration_s[:, 0]
        assert (seconds <= before * (1 + 1e-12)).all()
        assert (seconds >= table.bound_s[:, 0] * (1 - 1e-12)).all()
        before = seconds
    assert before == pytest.approx(table.duration_s[:, 0])


def test_each_op_may_have_a_clock_of_its_own(build):
    table = plan_ops([build.gemm(2048, 2048, 2048), build.gemm(512, 512, 512)], [build.chip()])
    mixed = at_clock(table, np.array([[0.5], [0.8]])).duration_s[:, 0]
    assert mixed[0] == at_clock(table, 0.5).duration_s[0, 0]
    assert mixed[1] == at_clock(table, 0.8).duration_s[1, 0]


def test_long_kernels_of_a_run_have_no_clock_of_their_own():
    """The H100's products settle in 0.7 ms; the B200's in microseconds, before any regulator acts."""
    steady = dict(steady_chip(load_chip("h100-sxm")).calibration)
    assert steady["gemm.sustained_clock_ratio"] == 1
    assert steady["gemm.float8_e4m3fn.sustained_clock_ratio"] == 1
    assert steady["attention.sustained_slowdown"] == 0
    assert steady["gemm.matrix_efficiency"] == dict(load_chip("h100-sxm").calibration)["gemm.matrix_efficiency"]
    b200 = load_chip("b200-sxm")
    kept = dict(steady_chip(b200).calibration)
    assert kept["gemm.sustained_clock_ratio"] == dict(b200.calibration)["gemm.sustained_clock_ratio"] < 1
    assert kept["attention.sustained_slowdown"] == 0
    plain = replace(b200, calibration=())
    assert steady_chip(plain) is plain


def test_products_that_hold_back_by_themselves_slow_down_from_there_on(build):
    """Matrix units that run at 0.8 of the clock: 0.9 of it costs them nothing, and half of it 1.6 times the time."""
    held = (("gemm.sustained_clock_ratio", 0.8), ("gemm.clock_settle_s", 1e-5))
    table = plan_ops([build.gemm(8192, 8192, 8192)], [build.chip(calibration=held)])
    free = plan_ops([build.gemm(8192, 8192, 8192)], [build.chip()])
    assert table.columns.core_s[0, 0] == pytest.approx(free.columns.core_s[0, 0] / 0.8, rel=1e-3)
    at_most, half = (at_clock(table, ratio).columns for ratio in (0.9, 0.5))
    assert at_most.core_s[0, 0] == pytest.approx(table.columns.core_s[0, 0])
    assert half.core_s[0, 0] == pytest.approx(1.6 * table.columns.core_s[0, 0], rel=1e-3)
    assert half.matrix_s[0, 0] == pytest.approx(1.6 * table.columns.matrix_s[0, 0], rel=1e-3)


def test_a_locked_clock_is_kept_whatever_the_power(build):
    chip, trace = load_chip("h100-sxm"), build.trace([build.gemm(8192, 8192, 8192)], [0] * 4)
    free = simulate(trace, replace(chip, tdp_w=None))
    locked = simulate(trace, chip, clock_ratio=0.5)
    assert 1.8 < locked.makespan_s / free.makespan_s <= 2  # what the shared cache exposes keeps its time
    assert any("clock at 0.5 of the highest" in note for note in locked.notes)
    for ratio in (0.0, 1.5):
        with pytest.raises(SimulationError, match="clock_ratio must be above 0 and at most 1"):
            simulate(trace, chip, clock_ratio=ratio)
