"""When the host issues kernels: pieces of a graph by hand, in both engines."""

from dataclasses import replace

import numpy as np
import pytest

from profiler.op import Op
from simulator import analytic, event
from simulator.host import SCRIPTED_DISPATCH_S, host_issue
from simulator.op_columns import OpColumns
from simulator.plans import plan_ops


def scan(build, chunk=16):
    """Mamba-2 over 32 positions in chunks: five kernels."""
    sizes = (("rows", 8), ("columns", 32), ("state", 8), ("head_dim", 4), ("chunk", chunk))
    return Op(kind="scan", name="my::scan", dtype="bfloat16", inputs=(build.operand(1000),), sizes=sizes)


def layers(build):
    """Two pointwise kernels, attention, one more, a scan, one more: three pieces and two cuts."""
    ops = [build.pointwise(1000), build.attention(1, 8, 8, 16, 16, 64, True), scan(build)]
    return build.trace(ops, [0, 0, 1, 0, 2, 0])


@pytest.mark.parametrize("engine", [analytic, event])
def test_pieces_by_hand(build, engine):
    """The host needs 1 ms a dispatch and kernels take microseconds, so each waits for its own.

    The first piece is issued at 1 ms and attention at 2 ms, the second piece at 3 ms, the scan's five kernels at 4 to
    8 ms, the last piece at 9 ms.
    """
    trace, chip = layers(build), build.chip()
    alone_s = plan_ops(trace.ops, [chip]).duration_s[:, 0]
    result = engine.simulate(trace, chip, mode="piecewise", host_dispatch_s=1e-3)
    expected_s = np.array([1.0, 1.0, 2.0, 3.0, 4.0, 9.0]) * 1e-3
    expected_s[1] += alone_s[0]  # behind the first kernel of its piece
    np.testing.assert_allclose(result.start_s, expected_s, atol=1e-11)
    scan_s = 4e-3 + alone_s[2] / 5  # from the first kernel's issue to one kernel behind the last one's
    np.testing.assert_allclose(result.duration_s[4], scan_s, atol=1e-11)
    assert dict(result.busy_s)["host"] == pytest.approx(9e-3)
    assert result.makespan_s == pytest.approx(9e-3 + alone_s[0])


@pytest.mark.parametrize("engine", [analytic, event])
def test_long_kernels_hide_the_host(build, engine):
    trace, chip = build.trace([build.gemm(4096, 4096, 4096), scan(build)], [0, 1, 0]), build.chip()
    alone_s = plan_ops(trace.ops, [chip]).duration_s[:, 0]
    dispatch_s = alone_s[0] / 1000
    assert alone_s[0] > 5 * SCRIPTED_DISPATCH_S + 2 * dispatch_s
    result = engine.simulate(trace, chip, mode="piecewise", host_dispatch_s=dispatch_s)
    assert result.makespan_s == pytest.approx(dispatch_s + 2 * alone_s[0] + alone_s[1], rel=1e-6)


def test_scans_are_launched_by_python_kernel_by_kernel(build):
    trace = layers(build)
    ops = OpColumns.from_ops(trace.ops)
    eager = host_issue(trace, ops, "eager", 5e-6)
    assert eager.first_s.tolist() == [5e-6, 5e-6, 5e-6, 5e-6, SCRIPTED_DISPATCH_S, 5e-6]
    assert eager.rest_s.tolist() == [0, 0, 0, 0, 4 * SCRIPTED_DISPATCH_S, 0]
    assert eager.kernels.tolist() == [1, 1, 1, 1, 5, 1]
    pieces = host_issue(trace, ops, "piecewise", 5e-6)
    assert pieces.first_s.tolist() == [5e-6, 0, 5e-6, 5e-6, SCRIPTED_DISPATCH_S, 5e-6]
    assert pieces.total_s == pytest.approx(4 * 5e-6 + 5 * SCRIPTED_DISPATCH_S)
    assert host_issue(trace, ops, "graph", 5e-6).total_s == 0
    assert host_issue(trace, ops, "piecewise", 0.0).total_s == 0  # no host that could be waited for


def test_a_piece_ends_with_its_step_and_its_stream(build):
    trace = build.trace([build.pointwise(1000)], [0] * 6, [0, 0, 0, 0, 1, 1])
    step = np.array([0, 0, 1, 1, 1, 1])
    trace = replace(trace, calls=replace(trace.calls, step=step))
    issue = host_issue(trace, OpColumns.from_ops(trace.ops), "piecewise", 2e-6)
    assert issue.first_s.tolist() == [2e-6, 0, 2e-6, 0, 2e-6, 0]


def test_a_cumulative_sum_and_a_dense_convolution_stay_in_their_piece(build):
    ops = [
        build.rows("scan", 8, 4096),
        build.gemm(64, 64, 64, kind="conv"),
        build.gemm(64, 1, 4, batch=64, kind="conv"),
    ]
    issue = host_issue(build.trace(ops, [0, 1, 2, 0]), OpColumns.from_ops(ops), "piecewise", 5e-6)
    assert issue.first_s.tolist() == [5e-6, 0, SCRIPTED_DISPATCH_S, 5e-6]


@pytest.mark.parametrize("streams", [[0] * 60, [0, 1, 1] * 20])
def test_engines_agree_on_pieces(build, streams):
    """On one stream to the picosecond; on several the closed form plays one after another and is no faster."""
    ops = [build.gemm(512, 512, 512), build.attention(1, 8, 8, 256, 256, 64, True), scan(build)]
    trace = build.trace(ops, [0, 1, 2] * 20, streams)
    chip = build.chip(launch_s=1e-6, host_dispatch_s=4e-6)
    one, other = (engine.simulate(trace, chip, mode="piecewise") for engine in (analytic, event))
    if len(set(streams)) == 1:
        assert other.makespan_s == pytest.approx(one.makespan_s, rel=1e-6)
        np.testing.assert_allclose(other.start_s, one.start_s, rtol=1e-6, atol=1e-9)
    assert other.makespan_s <= one.makespan_s * (1 + 1e-6)
    assert any("launched by Python: 58 us" in note for note in one.notes)
