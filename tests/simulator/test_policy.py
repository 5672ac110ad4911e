"""Prefetching, persistent kernels, streams and microbatches: closed forms on a toy chip, and what always holds."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from kernel_alone import isolated_ps

from profiler.op import Op
from simulator import analytic, event
from simulator.errors import SimulationError
from simulator.handover import Handover, alone_ps
from simulator.kernel_process import kernel_work
from simulator.placement import repeat, spread
from simulator.plans import plan_ops
from simulator.policy import Policy

POLICIES = [
    Policy(prefetch=prefetch, persistent=persistent) for prefetch, persistent in product((False, True), repeat=2)
]


def vector_op(build, *, flops=0, read=0, written=0, weights=0, name="aten::add", kind="pointwise"):
    """One op of so many vector FLOPs and bytes; the toy chip does 25.6 TFLOP/s and moves 1 TB/s."""
    inputs = tuple(
        replace(build.operand(size // 2, role=role), moved_bytes=size)
        for size, role in ((read, "activations"), (weights, "weights"))
        if size
    )
    outputs = (replace(build.operand(max(1, written // 2)), moved_bytes=written),) if written else ()
    elements = max(1, flops // 4, (read + written + weights) // 4)
    return Op(
        kind=kind, name=name, dtype="float32", inputs=inputs, outputs=outputs,
        sizes=(("elements", elements),), vector_flops=flops,
    )  # fmt: skip


def toy(build, **changes):
    """No latencies and no overlap lost, so that times are bytes over 1 TB/s or FLOPs over 25.6 TFLOP/s."""
    return build.chip(calibration=(("elementwise.setup_s", changes.pop("setup_s", 0.0)),), **changes)


def seconds(trace, chip, policy=None, **more):
    return event.simulate(trace, chip, policy=policy or Policy(), **more).makespan_s


def test_a_kernel_alone_is_the_sum_of_its_parts(build, shipped_chips):
    ops = [build.gemm(4096, 512, 1024), build.pointwise(3_000_000), build.attention(1, 8, 8, 512, 512, 64, True)]
    for chip in shipped_chips():
        for op in range(len(ops)):
            work = kernel_work(plan_ops(ops, [chip]).plan(op), chip)
            assert alone_ps(work) == isolated_ps(work, chip)


def test_weights_are_loaded_while_the_kernel_before_computes(build):
    """100 us of FLOPs on 1 MB (1 us); then 20 MB of weights (20 us), which fit beside it in 40 MB: nothing is left."""
    chip = toy(build)
    compute = vector_op(build, flops=2_560_000_000, read=500_000, written=500_000)
    stream = vector_op(build, weights=20_000_000)
    trace = build.trace([compute, stream], [0, 1])
    assert seconds(trace, chip) == pytest.approx(120e-6, rel=0.01)
    # The cache, at 5 TB/s, still carries 20 MB to the cores: 4 us.
    assert seconds(trace, chip, Policy(prefetch=True)) == pytest.approx(104e-6, rel=0.01)


def test_no_more_weights_are_loaded_than_there_is_room_or_time_for(build):
    chip = toy(build)
    compute = vector_op(build, flops=2_560_000_000, read=15_000_000, written=15_000_000)
    stream = vector_op(build, weights=20_000_000)
    # Of 40 MB the first kernel's operands take 30: 10 MB are loaded ahead, 10 us remain of 20.
    trace = build.trace([compute, stream], [0, 1])
    saved_s = seconds(trace, chip) - seconds(trace, chip, Policy(prefetch=True))
    assert saved_s == pytest.approx(10e-6, rel=0.02)
    # A kernel that keeps main memory busy leaves no time: 30 us of bytes, 5 us of FLOPs.
    busy = vector_op(build, flops=128_000_000, read=5_000_000, written=5_000_000)
    trace = build.trace([busy, stream], [0, 1])
    saved_s = seconds(trace, chip) - seconds(trace, chip, Policy(prefetch=True))
    assert saved_s == pytest.approx(0.0, abs=0.1e-6)


def test_room_is_shared_by_all_streams_of_a_trace(build):
    """Each of two streams of the trace's own has 20 of 40 MB, of which a kernel's operands take 1."""
    chip = toy(build)
    ops = [vector_op(build, flops=2_560_000_000, read=500_000, written=500_000), vector_op(build, weights=30_000_000)]
    plans = plan_ops(ops, [chip])
    works = [kernel_work(plans.plan(op), chip) for op in range(2)]
    for streams, loaded_s in ((1, 30e-6), (2, 19e-6)):
        handover = Handover(ops, works, [1e6, 30e6], chip, Policy(prefetch=True), streams=streams)
        assert handover.wanted_ps(0, 1) == pytest.approx(loaded_s * 1e12, rel=0.01)
    one = build.trace(ops, [0, 1])
    both = build.trace(ops, [0, 0, 1, 1], stream=[0, 1, 0, 1])
    # Alone all 30 us are hidden but the cache's 6; of both, 11 us of each are left, one behind the other.
    left = [seconds(trace, chip, Policy(prefetch=True)) - each for trace, each in ((one, 100e-6), (both, 200e-6))]
    assert left == pytest.approx([6e-6, 22e-6], rel=0.1)


def test_weights_that_depend_on_routing_are_not_loaded_ahead(build):
    chip = toy(build)
    compute = vector_op(build, flops=2_560_000_000, read=500_000)
    rows = build.indexed("gather", 10_000, 512)
    rows = replace(rows, inputs=(replace(rows.inputs[0], role="weights"), rows.inputs[1]))
    trace = build.trace([compute, rows], [0, 1])
    assert seconds(trace, chip, Policy(prefetch=True)) == seconds(trace, chip)


def test_persistent_kernels_pay_one_launch_and_barriers(build):
    """Ten kernels of 5 us launch and 6 us of bytes; a barrier is written and read at 1 us each."""
    memories = build.memories(latency_s=3e-6)  # the last cache answers in 1 us, main memory in 3 us
    chip = toy(build, setup_s=5e-6, launch_s=5e-6, memories=memories)
    op = vector_op(build, read=3_000_000, written=3_000_000)
    trace = build.trace([op], [0] * 10)
    first_s = 3e-6 - 1e-6  # main memory's first access, beyond that of the cache
    assert seconds(trace, chip) == pytest.approx(10 * (5e-6 + first_s + 6e-6), rel=0.02)
    expected_s = 5e-6 + first_s + 10 * 6e-6 + 9 * 2e-6
    result = event.simulate(trace, chip, policy=Policy(persistent=True))
    assert result.makespan_s == pytest.approx(expected_s, rel=0.02)
    assert dict(result.busy_s)["launch"] == pytest.approx(5e-6 + 9 * 2e-6)


def test_a_step_is_launched_once(build):
    chip = toy(build, setup_s=5e-6, launch_s=5e-6)
    op = vector_op(build, read=3_000_000, written=3_000_000)
    trace = build.trace([op], [0] * 4)
    steps = replace(trace, calls=replace(trace.calls, step=np.array([0, 0, 1, 1])))
    assert seconds(steps, chip, Policy(persistent=True)) == pytest.approx(2 * 5e-6 + 4 * 6e-6, rel=0.01)


def test_fixed_cost_that_is_work_stays(build):
    """A setup of 20 us where a smallest kernel takes 5: 15 us are something else."""
    chip = toy(build, setup_s=20e-6, launch_s=5e-6)
    op = vector_op(build, read=3_000_000, written=3_000_000)
    trace = build.trace([op], [0] * 3)
    assert seconds(trace, chip, Policy(persistent=True)) == pytest.approx(20e-6 + 2 * 15e-6 + 3 * 6e-6, rel=0.01)


def test_persistent_kernels_are_never_dispatched_one_by_one(build):
    with pytest.raises(SimulationError, match="mode must be graph"):
        seconds(build.trace([build.pointwise(1)], [0]), build.chip(), Policy(persistent=True), mode="eager")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"streams": 0}, "streams must be from 1 to 128, got 0"),
        ({"microbatches": 1_000_000}, "microbatches must be from 1 to 128, got 1000000"),
        ({"streams": 2, "microbatches": 2}, "streams and microbatches cannot go together"),
    ],
)
def test_policies_that_no_device_plays_are_refused(options, message):
    with pytest.raises(SimulationError, match=message):
        Policy(**options)


def branches(build):
    """Call 0 makes version 10; calls 1 (FLOPs) and 2 (bytes) read it; call 3 reads what both made."""
    small = vector_op(build, read=1_000_000, written=1_000_000)
    compute = vector_op(build, flops=2_560_000_000, read=500_000, written=500_000)
    stream = vector_op(build, read=50_000_000, written=50_000_000)
    join = replace(small, inputs=(small.inputs[0], small.inputs[0]))
    versions = {"reads": np.array([1, 10, 10, 11, 12]), "writes": np.array([10, 11, 12, 13])}
    return build.trace([small, compute, stream, join], [0, 1, 2, 3], **versions)


def test_branches_of_flops_and_of_bytes_overlap_on_two_streams(build):
    """2 us, then 100 us of FLOPs beside 100 us of bytes, then 3 us.

    The cores do both: 100 MB pass them at 12.8 TB/s, 7.8 us, while main memory's 101 us are hidden.
    """
    chip = toy(build)
    assert seconds(branches(build), chip) == pytest.approx((2 + 100 + 100 + 3) * 1e-6, rel=0.02)
    assert seconds(branches(build), chip, Policy(streams=2)) == pytest.approx((2 + 107.8 + 3) * 1e-6, rel=0.01)


def test_a_chain_stays_on_one_stream(build):
    op = vector_op(build, read=3_000_000, written=3_000_000)
    trace = build.trace([op], [0] * 5, reads=np.arange(1, 6), writes=np.arange(2, 7))
    moved, waits = spread(trace, 2, np.full(5, 6e-6))
    assert moved.calls.stream.tolist() == [0] * 5
    assert waits == {}


def test_what_writes_in_place_waits_for_all_before_it(build):
    op = vector_op(build, read=3_000_000, written=3_000_000)
    in_place = replace(op, name="aten::add_")
    trace = build.trace([op, in_place], [0, 0, 1, 0], reads=np.array([1, 2, 3, 4]), writes=np.array([11, 12, 13, 14]))
    moved, waits = spread(trace, 2, np.full(4, 6e-6))
    assert moved.calls.stream.tolist() == [0, 1, 0, 1]
    assert waits == {2: (1,)}


def test_branches_need_dataflow_and_one_stream(build):
    trace = build.trace([build.pointwise(1)], [0, 0])
    with pytest.raises(SimulationError, match="has no dataflow"):
        seconds(trace, build.chip(), Policy(streams=2))
    flows = {"reads": np.arange(4), "writes": np.array([8, 9])}
    two = build.trace([build.pointwise(1)], [0, 0], [0, 1], **flows)
    with pytest.raises(SimulationError, match="several streams of its own"):
        seconds(two, build.chip(), Policy(streams=2))


def test_batches_are_copies_with_dataflow_of_their_own(build):
    op = vector_op(build, read=3_000_000, written=3_000_000)
    both = repeat(build.trace([op], [0] * 3, reads=np.arange(1, 4), writes=np.arange(2, 5)), 2)
    assert both.calls.stream.tolist() == [0, 1] * 3
    first, second = ((both.calls.reads[b::2].tolist(), both.calls.writes[b::2].tolist()) for b in (0, 1))
    assert first == ([1, 2, 3], [2, 3, 4])
    assert second == ([6, 7, 8], [7, 8, 9])


def test_two_microbatches_overlap_flops_with_bytes(build):
    """A batch takes 100 us of FLOPs, then 100 us of bytes, four times; the second one follows a kernel later.

    So 7 of 9 rounds of 100 us hold a kernel of each, which share the cores (100 MB at 12.8 TB/s: 7.8 us) and main
    memory (1 MB: 1 us).
    """
    chip = toy(build)
    compute = vector_op(build, flops=2_560_000_000, read=500_000, written=500_000)
    stream = vector_op(build, read=50_000_000, written=50_000_000)
    trace = build.trace([compute, stream], [0, 1] * 4, reads=np.arange(1, 9), writes=np.arange(2, 10))
    assert seconds(trace, chip) == pytest.approx(8 * 100e-6, rel=0.02)
    assert seconds(trace, chip, Policy(microbatches=2)) == pytest.approx((2 * 100 + 7 * 107.8) * 1e-6, rel=0.02)


@pytest.mark.parametrize("seed", range(6))
def test_no_policy_is_slower_or_beats_the_bound_of_the_whole_trace(build, seed, shipped_chips):
    rng = np.random.default_rng(seed)
    ops = [
        build.gemm(*(int(2**x) for x in rng.integers(4, 12, 3))),
        build.pointwise(int(10 ** rng.uniform(3, 7))),
        build.attention(1, 8, 2, int(2 ** rng.integers(0, 10)), 1024, 64, False),
        build.rows("norm", int(2 ** rng.integers(0, 10)), 4096),
    ]
    calls = rng.integers(0, len(ops), 30)
    reads = np.concatenate([rng.integers(0, call + 1, len(ops[op].inputs)) for call, op in enumerate(calls)])
    trace = build.trace(ops, calls, reads=reads, writes=np.arange(1, 31))
    for chip in shipped_chips():
        plain_s = seconds(trace, chip)
        twice = event.simulate(trace, chip, policy=Policy(prefetch=True, microbatches=2))
        assert twice.makespan_s >= max(busy for name, busy in twice.busy_s if name not in ("launch", "host")) * (
            1 - 1e-9
        )
        assert plain_s == pytest.approx(analytic.simulate(trace, chip).makespan_s, rel=0.03)
        for policy in (*POLICIES, Policy(streams=2), Policy(prefetch=True, persistent=True, streams=3)):
            result = event.simulate(trace, chip, policy=policy)
            assert result == event.simulate(trace, chip, policy=policy)
            work_s = max(busy for name, busy in result.busy_s if name not in ("launch", "host"))
            assert result.makespan_s >= work_s * (1 - 1e-9)
            if policy.streams == 1:
                assert result.makespan_s <= plain_s * (1 + 1e-9)
