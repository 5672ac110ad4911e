"""The sampling unit in the event engine: what it does by hand, and the closed form of the same designs."""

import numpy as np
import pytest

from explorer.evaluate import run_costs
from explorer.evaluator import Evaluator, constants_of
from explorer.finalists import chip_of
from explorer.objectives import Goals
from explorer.package import package_of
from explorer.sampling_unit import play_with_unit
from explorer.technology import load_technology
from explorer.templates.template import load_template
from explorer.workload import workload_from_trace
from profiler.op import Op, Operand
from simulator import event

ROWS, VOCABULARY = 64, 100_000
LOGITS = ROWS * VOCABULARY


@pytest.fixture(scope="module")
def evaluator():
    template = load_template("gpu")
    return Evaluator(
        template=template,
        technology=load_technology(),
        jobs=(),
        goals=Goals(limits=(("max_area_mm2", 1e6),)),
        calibration=constants_of(template),
    )


@pytest.fixture(scope="module")
def steps(build):
    """Three times: a product that writes logits, top-k of them, and a norm that sees none."""
    logits = Operand(shape=(ROWS, VOCABULARY), dtype="bfloat16", role="logits", moved_bytes=2 * LOGITS)
    head = Op(
        kind="gemm",
        name="aten::linear",
        dtype="bfloat16",
        inputs=(build.operand(ROWS * 64), build.operand(VOCABULARY * 64, "bfloat16", "weights")),
        outputs=(logits,),
        sizes=(("batch", 1), ("m", ROWS), ("n", VOCABULARY), ("k", 64)),
        matrix_flops=2 * LOGITS * 64,
    )
    topk = Op(
        kind="topk",
        name="aten::topk",
        dtype="bfloat16",
        inputs=(logits,),
        outputs=(build.operand(ROWS * 8),),
        sizes=(("rows", ROWS), ("columns", VOCABULARY), ("k", 8)),
        vector_flops=LOGITS,
    )
    return build.trace([head, topk, build.rows("norm", ROWS, 64)], [0, 1, 2] * 3)


def parts(evaluator, lanes):
    """(chip, logits per second, main memory's bytes per second) of the default design with a unit of so many lanes."""
    values = {"sampler_lanes": np.array([lanes])}
    hardware = evaluator.template.hardware(evaluator.knobs(values, 1), evaluator.technology)
    rate = float(lanes * hardware.cores[0] * hardware.clock_hz[0])
    return chip_of(evaluator, values, "toy"), rate, float(hardware.dram_bytes_per_s[0])


def test_a_pass_is_one_launch_and_one_stream_of_the_logits(evaluator, steps):
    chip, rate, bytes_per_s = parts(evaluator, 64)
    plain = event.simulate(steps, chip)
    played = play_with_unit(steps, chip, logits_per_s=rate)
    names = [played.op_names[op] for op in played.op]
    assert names == ["aten::linear", "sampling unit", "aten::norm"] * 3
    unit_s = 2.5e-6 + 2 * LOGITS / bytes_per_s  # 132 x 64 logits a clock outrun the memory
    assert played.duration_s[1::3] == pytest.approx(unit_s, rel=1e-6)
    head_s, norm_s = plain.duration_s[0], plain.duration_s[2]
    assert played.makespan_s == pytest.approx(3 * (head_s + unit_s + norm_s), rel=1e-6)
    assert played.makespan_s < plain.makespan_s
    per_byte = dict(chip.energy.memory_j_per_byte)["dram"]
    unit_j = 2 * LOGITS * per_byte + 2 * LOGITS * chip.energy.vector_j_per_flop
    assert played.op_energy_j[-1] == pytest.approx(unit_j, rel=1e-9)
    assert played.low_s < played.makespan_s < played.high_s


def test_few_lanes_take_their_time_and_slow_ones_are_not_used(evaluator, steps):
    chip, rate, bytes_per_s = parts(evaluator, 4)
    played = play_with_unit(steps, chip, logits_per_s=rate)
    assert LOGITS / rate > 2 * LOGITS / bytes_per_s
    assert played.duration_s[1] == pytest.approx(2.5e-6 + LOGITS / rate, rel=1e-6)
    for rate in (0.0, 1e9):  # no unit; one that takes 6.4 ms a pass
        assert play_with_unit(steps, chip, logits_per_s=rate).makespan_s == event.simulate(steps, chip).makespan_s


@pytest.mark.parametrize("lanes", [0, 4, 64])
def test_both_engines_agree_on_a_design_with_a_unit(evaluator, steps, lanes):
    chip, rate, _ = parts(evaluator, lanes)
    values = {"sampler_lanes": np.array([lanes])}
    hardware = evaluator.template.hardware(evaluator.knobs(values, 1), evaluator.technology)
    power = package_of(hardware, evaluator.technology).power
    workload = workload_from_trace(steps, units=1, fused=False)
    closed = run_costs([workload], hardware, power, calibration=evaluator.calibration)
    played = play_with_unit(steps, chip, logits_per_s=rate)
    assert played.makespan_s == pytest.approx(float(closed.run_s[0, 0]), rel=1e-6)
    assert played.energy_j == pytest.approx(float(closed.run_j[0, 0]), rel=1e-6)


def test_the_host_issues_the_unit_as_it_issues_kernels(evaluator, steps):
    chip, rate, _ = parts(evaluator, 64)
    eager, graph = (play_with_unit(steps, chip, logits_per_s=rate, mode=mode) for mode in ("eager", "graph"))
    assert len(eager.op) == 9 and eager.start_s[0] == pytest.approx(chip.host_dispatch_s)
    assert eager.start_s[1] >= 2 * chip.host_dispatch_s
    assert eager.duration_s[1] == pytest.approx(graph.duration_s[1])


def test_waits_between_streams_follow_the_calls(evaluator, build, steps):
    """A product on another stream that waits for the second top-k waits for the unit's second pass instead."""
    head, topk, _ = steps.ops
    late = build.gemm(64, 64, 64)
    trace = build.trace(
        [head, topk, late],
        [0, 1, 0, 1, 2],
        stream=[0, 0, 0, 0, 1],
        # versions: weights and inputs 1, 2; logits 3, 5; chosen 4, 6; the last reads what was chosen second
        reads=np.array([1, 2, 3, 1, 2, 5, 6, 2]),
        writes=np.array([3, 4, 5, 6, 7]),
    )
    chip, rate, _ = parts(evaluator, 64)
    played = play_with_unit(trace, chip, logits_per_s=rate)
    assert [played.op_names[op] for op in played.op] == ["aten::linear", "sampling unit"] * 2 + ["aten::mm"]
    assert played.start_s[4] == pytest.approx(played.start_s[3] + played.duration_s[3], abs=1e-11)
