from itertools import product

import numpy as np
import pandas as pd
import pytest
from kernel_alone import isolated_ps
from work import python_calls

from profiler.op import KINDS
from roofline.bounds import op_bounds
from roofline.chipfile import load_chip
from simulator import analytic, event
from simulator.errors import SimulationError
from simulator.kernel_process import kernel_work
from simulator.op_frame import ops_from_frame
from simulator.plans import plan_columns, plan_ops
from simulator.validation.silicon import SYSTEMS, TABLES, package_folder, silicon_backends, silicon_table

SIZES = ((1, 1, 1), (1, 4096, 4096), (7, 33, 129), (128, 128, 128), (1000, 777, 3), (4096, 512, 1024), (2048, 4097, 65))


def test_engines_agree_on_isolated_kernels_of_every_kind(build, shipped_chips):
    ops = [build.any_op(kind, *sizes) for kind in KINDS for sizes in SIZES]
    chips = (build.chip(), build.chip(launch_s=1e-6, memories=build.memories(latency_s=5e-7)), *shipped_chips())
    table = plan_ops(ops, chips)
    for c, chip in enumerate(chips):
        played_s = np.array([isolated_ps(kernel_work(table.plan(o, c), chip), chip) for o in range(len(ops))]) * 1e-12
        # Rounding up to whole picoseconds in each of at most 16 groups is all that remains.
        np.testing.assert_allclose(played_s, table.duration_s[:, c], rtol=0.03, atol=100e-12)
        assert (played_s >= np.nan_to_num(op_bounds(ops, chip).bound_s) * (1 - 1e-12)).all()


# Of the rows of the package's tables, those whose engines were farthest apart: short kernels in many groups of waves.
FARTHEST = (
    ("h200-sxm", {"kind": "conv", "sequences": 1, "positions": 1, "channels": 6144, "window": 4, "update": 1}),
    ("h200-sxm", {"kind": "pointwise", "elements": 12_582_912}),
    ("h200-sxm", {"kind": "pointwise", "elements": 8_388_608}),
    ("b200-sxm", {"kind": "gemm", "m": 16384, "n": 3072, "k": 32, "weight_copies": 6}),
    ("l40s", {"kind": "norm", "rows": 8192, "columns": 512, "weight_copies": 1}),
    ("l40s", {"kind": "moe", "tokens": 16, "hidden": 2048, "inter": 24, "experts": 128, "topk": 8, "weight_copies": 1}),
    ("b200-sxm", {"kind": "attention", "batch": 1024, "queries": 1, "keys": 256, "heads": 2, "head_dim": 64}),
)


@pytest.mark.parametrize(("name", "row"), FARTHEST)
def test_engines_agree_where_they_were_farthest_apart(name, row):
    assert_agreed(ops_from_frame(pd.DataFrame([{"dtype": "bfloat16", **row}])), load_chip(name))


@pytest.mark.skipif(package_folder() is None, reason="needs aiconfigurator-core")
@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("op", TABLES)
def test_engines_agree_on_rows_of_measured_tables(name, op):
    chip, tables = load_chip(name), 0
    for dtype, backend in product(TABLES[op].dtypes, silicon_backends(name, op)):
        try:
            ops = silicon_table(chip, op, dtype, backend).ops
        except SimulationError:  # no rows of this type
            continue
        rows = np.random.default_rng(0).choice(len(ops), min(len(ops), 5), replace=False)
        assert_agreed(ops.take(rows), chip)
        tables += 1
    if not tables:
        pytest.skip(f"nobody measured {op} on {name}")


def assert_agreed(ops, chip):
    """Rounding up to whole picoseconds, thrice in each of at most 16 groups of waves, is all that may lie between."""
    table = plan_columns(ops, [chip])
    played_s = np.array([isolated_ps(kernel_work(table.plan(i), chip), chip) for i in range(len(ops))]) * 1e-12
    np.testing.assert_allclose(played_s, table.duration_s[:, 0], rtol=1e-9, atol=60e-12)


@pytest.mark.parametrize("mode", ("graph", "eager"))
def test_engines_agree_on_one_stream(build, mode):
    ops = [build.gemm(512, 512, 512), build.pointwise(100_000), build.rows("softmax", 64, 4096)]
    trace = build.trace(ops, [0, 1, 2, 1] * 25)
    chip = build.chip(launch_s=1e-6, host_dispatch_s=4e-6)
    one, other = (engine.simulate(trace, chip, mode=mode) for engine in (analytic, event))
    assert other.makespan_s == pytest.approx(one.makespan_s, rel=1e-6)
    np.testing.assert_allclose(other.start_s, one.start_s, rtol=1e-6, atol=1e-10)
    assert one.energy_reason == other.energy_reason


def test_same_input_gives_the_same_result(build):
    ops = [build.gemm(512, 512, 512), build.pointwise(3_000_000), build.attention(1, 8, 8, 512, 512, 64, True)]
    trace = build.trace(ops, [0, 1, 2] * 6, [0, 1, 2, 1, 0, 2] * 3)
    assert event.simulate(trace, build.chip(), mode="eager") == event.simulate(trace, build.chip(), mode="eager")


def test_memory_bound_kernels_on_two_streams_share_the_bandwidth(build):
    op = build.pointwise(50_000_000)
    alone = event.simulate(build.trace([op], [0]), build.chip()).makespan_s
    both = event.simulate(build.trace([op], [0, 0], [0, 1]), build.chip())
    assert both.makespan_s == pytest.approx(2 * alone, rel=1e-3)
    assert both.start_s.tolist() == [0, 0]


def test_compute_bound_and_memory_bound_kernels_overlap(build):
    product, copy = build.gemm(6400, 6400, 6400), build.pointwise(300_000_000)
    chip = build.chip()
    product_s, copy_s = plan_ops([product, copy], [chip]).duration_s[:, 0]
    both = event.simulate(build.trace([product, copy], [0, 1], [0, 1]), chip).makespan_s
    assert max(product_s, copy_s) < both < 0.8 * (product_s + copy_s)


def test_streams_never_beat_the_bound_of_the_shared_memory(build):
    ops = [build.pointwise(5_000_000), build.gemm(64, 8192, 8192), build.attention(1, 32, 8, 1, 8192, 128, False)]
    trace = build.trace(ops, [0, 1, 2] * 4, list(range(4)) * 3)
    result = event.simulate(trace, build.chip())
    assert result.makespan_s >= dict(result.busy_s)["hbm"]


def test_a_call_waits_for_what_another_stream_writes(build):
    op = build.pointwise(1_000_000)  # reads two tensors and writes one
    versions = {"reads": np.array([1, 2, 3, 4, 10, 11]), "writes": np.array([10, 11, 12])}
    trace = build.trace([op], [0, 0, 0], [0, 1, 1], **versions)
    result = event.simulate(trace, build.chip())
    assert result.start_s[2] >= max(result.start_s[:2] + result.duration_s[:2])
    chain = {"reads": np.array([1, 2, 10, 4, 11, 11]), "writes": np.array([10, 11, 12])}
    serial = event.simulate(build.trace([op], [0, 0, 0], [0, 1, 0], **chain), build.chip())
    alone_s = event.simulate(build.trace([op], [0]), build.chip()).makespan_s
    assert serial.makespan_s == pytest.approx(3 * alone_s, rel=1e-9)


def test_the_host_waits_while_the_launch_queue_is_full(build):
    """A long kernel, then short ones: with a queue of one call, the host goes on only when the long one ends."""
    ops = [build.pointwise(100_000_000), build.pointwise(1)]
    chip = build.chip()
    long_s = plan_ops(ops, [chip]).duration_s[0, 0]
    trace = build.trace(ops, [0] + [1] * 10)
    dispatch_s = long_s / 100
    shallow, deep = (
        event.simulate(trace, chip, mode="eager", host_dispatch_s=dispatch_s, queue_depth=depth) for depth in (1, 1000)
    )
    assert deep.makespan_s == pytest.approx(dispatch_s + long_s, rel=1e-3)
    # When the long kernel ends, one call is queued and one was dispatched and held back; eight more are to dispatch.
    assert shallow.makespan_s == pytest.approx(dispatch_s + long_s + 8 * dispatch_s, rel=1e-3)


def test_starved_streams_do_not_hide_a_later_overlap(build):
    """The second stream's call is dispatched while the first runs: both must be played against each other."""
    op = build.pointwise(50_000_000)
    alone_s = plan_ops([op], [build.chip()]).duration_s[0, 0]
    dispatch_s = alone_s / 4
    result = event.simulate(build.trace([op], [0, 0], [0, 1]), build.chip(), mode="eager", host_dispatch_s=dispatch_s)
    assert result.start_s == pytest.approx([dispatch_s, 2 * dispatch_s], rel=1e-6)
    assert result.makespan_s == pytest.approx(dispatch_s + 2 * alone_s, rel=1e-3)


def test_queue_depth_must_be_positive(build):
    with pytest.raises(SimulationError, match="queue_depth"):
        event.simulate(build.trace([build.pointwise(1)], [0]), build.chip(), queue_depth=0)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ("graph", "eager"))
def test_steps_grow_with_the_number_of_calls_and_no_faster(build, mode):
    ops = [build.gemm(m, 4096, 4096) for m in range(1, 200)]
    trace = build.trace(ops, np.arange(25_000) % len(ops))
    _, steps = python_calls(lambda: event.simulate(trace, build.chip(launch_s=2e-6), mode=mode))
    assert steps < 100 * 25_000  # 28 and 50 per call as measured
