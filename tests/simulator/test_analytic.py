from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from work import python_calls

from simulator.analytic import in_order, simulate, sweep
from simulator.errors import SimulationError
from simulator.host import HostIssue
from simulator.plans import plan_ops


@given(
    calls=st.lists(st.tuples(st.floats(0, 10), st.floats(0, 5), st.floats(0, 5), st.integers(1, 6)), max_size=30),
)
def test_calls_in_order_solve_the_queue_recursion(calls):
    """Call by call: a call starts when the device is free and its first kernel issued, and waits for its last one."""
    starts, ends, host = [], [0.0], 0.0
    for duration, first, rest, kernels in calls:
        host += first
        starts.append(max(ends[-1], host))
        host += rest
        ends.append(max(starts[-1] + duration, host + duration / kernels if rest else 0.0))
    durations, first, rest, kernels = np.array(calls, dtype=float).reshape(-1, 4).T
    found, took = in_order(durations, HostIssue(first_s=first, rest_s=rest, kernels=kernels))
    np.testing.assert_allclose(found, starts, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found + took, ends[1:], rtol=1e-9, atol=1e-9)


def test_graph_mode_runs_calls_back_to_back(build):
    ops = [build.gemm(512, 512, 512), build.pointwise(100_000)]
    result = simulate(build.trace(ops, [0, 1, 0]), build.chip(launch_s=1e-6))
    gemm_s, add_s = result.op_duration_s
    assert result.makespan_s == pytest.approx(2 * gemm_s + add_s, rel=1e-12)
    assert result.start_s == pytest.approx([0, gemm_s, gemm_s + add_s])


def test_eager_mode_is_bound_by_the_host_where_kernels_are_short(build):
    result = simulate(build.trace([build.pointwise(10)], [0] * 100), build.chip(), mode="eager", host_dispatch_s=1e-3)
    assert result.makespan_s == pytest.approx(0.1, rel=1e-3)
    assert dict(result.busy_s)["host"] == pytest.approx(0.1)


def test_missing_host_dispatch_is_named(build):
    trace = build.trace([build.pointwise(10)], [0])
    assert any("host dispatch" in note for note in simulate(trace, build.chip(), mode="eager").notes)
    known = simulate(trace, build.chip(host_dispatch_s=1e-5), mode="eager")
    assert not any("host dispatch" in note for note in known.notes)


def test_incomplete_ops_and_missing_calibration_are_named(build):
    result = simulate(build.trace([build.unknown(10)], [0]), build.chip())
    assert any("my::op" in note for note in result.notes)
    assert any("no calibration" in note for note in result.notes)


def test_a_note_names_the_first_of_many_incomplete_ops_and_no_more_than_a_line_of_each(build):
    ops = [replace(build.unknown(10), name=f"{letter}{'x' * 2000}") for letter in "abcdefgh"]
    (note,) = [note for note in simulate(build.trace(ops, range(8)), build.chip()).notes if "known bytes" in note]
    assert note.startswith("8 ops cost only their known bytes and FLOPs: axxx")
    assert note.endswith("xxx..., and 2 more")
    assert len(note) < 500


def test_unknown_mode_lists_the_known(build):
    with pytest.raises(SimulationError, match="graph, eager, piecewise"):
        simulate(build.trace([build.pointwise(10)], [0]), build.chip(), mode="lazy")


def test_empty_trace_takes_no_time(build):
    result = simulate(build.trace([], []), build.chip(), mode="eager")
    assert result.makespan_s == 0
    assert result.to_frame().empty


def test_sweep_costs_every_op_on_every_chip(build):
    ops = [build.gemm(64, 64, 64), build.pointwise(1000)]
    chips = [build.chip(cores=cores, name=f"c{cores}") for cores in (10, 20, 40)]
    assert (sweep(ops, chips) == plan_ops(ops, chips).duration_s).all()
    assert sweep(ops, chips).shape == (2, 3)


def test_three_hundred_thousand_calls_take_steps_for_their_ops_only(build):
    ops = [build.gemm(m, 4096, 4096) for m in range(1, 200)] + [build.pointwise(n) for n in range(1, 100)]
    trace = build.trace(ops, np.arange(300_000) % len(ops))
    simulate(trace, build.chip())
    _, steps = python_calls(lambda: simulate(trace, build.chip(), mode="eager"))
    assert steps < 300 * 200  # of each op some, of each call none
