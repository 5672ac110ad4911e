"""Evaluator: what the simulator says of the same chip, limits, dead combinations, sampling units, power limits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from explorer.evaluator import Evaluator, Job, constants_of, too_large
from explorer.finalists import chip_of, knee, pick_finalists
from explorer.objectives import Goals, geometric_mean
from explorer.package import package_of
from explorer.space_file import load_space
from explorer.technology import load_technology
from explorer.templates.template import load_template
from explorer.workload import workload_from_trace
from profiler.op import Op, Operand
from roofline.chip_families import has_foreign_constants, with_constants_of
from roofline.chipfile import load_chip
from simulator import analytic
from simulator.bands import op_bands
from simulator.op_columns import OpColumns


@pytest.fixture
def trace(build):
    ops = [
        build.gemm(1, 4096, 4096),
        build.gemm(4096, 4096, 4096),
        build.attention(1, 32, 8, 256, 1024, 128, False),
        build.pointwise(1 << 20),
    ]
    return build.trace(ops, 20 * [0, 1, 2, 3, 0, 1])


def evaluator(trace, template="gpu", **changes):
    found = load_template(template) if isinstance(template, str) else template
    job = Job(name="toy", points=(("default", workload_from_trace(trace, units=4, fused=False)),))
    settings = {
        "template": found,
        "technology": load_technology(),
        "jobs": (job,),
        "goals": Goals(),
        "calibration": constants_of(found),
    }
    return Evaluator(**{**settings, **changes})


@pytest.mark.parametrize("template", ["gpu", "systolic", "dataflow"])
@pytest.mark.parametrize("mode", ["graph", "eager"])
def test_figures_are_the_simulators(trace, template, mode):
    """Time and energy of a design in a batch are those of the analytic engine on that design as a chip."""
    evaluate = evaluator(trace, template, goals=Goals(limits=(("max_area_mm2", 1e6),)), mode=mode)
    values = {"clock_ghz": np.array([0.8, 1.1, 1.6])}
    figures = evaluate(values).metrics
    for row in range(3):
        chip = chip_of(evaluate, {name: column[[row]] for name, column in values.items()}, "one")
        alone = analytic.simulate(trace, chip, mode=mode)
        assert figures["toy.seconds_per_unit"][row] * 4 == pytest.approx(
            alone.makespan_s, rel=0.01 if mode == "eager" else 1e-6
        )
        if mode == "graph":
            assert figures["toy.joules_per_unit"][row] * 4 == pytest.approx(alone.energy_j, rel=1e-3)


@pytest.mark.parametrize(
    ("asked", "donor", "launch_s"), [("nvidia-blackwell", "b200-sxm", 2.5e-6), ("l40s", "l40s", 1.6e-6)]
)
def test_designs_take_the_constants_that_the_space_asks_for(trace, asked, donor, launch_s):
    """The chip that a person would write by hand: the design's figures, another chip's constants and launch."""
    found = load_template("gpu", asked)
    assert (found.constants_of, constants_of(found)) == (donor, load_chip(donor).calibration)
    evaluate = evaluator(trace, template=found, calibration=constants_of(found))
    values = {"clock_ghz": np.array([1.1])}
    plain = chip_of(evaluator(trace), values, "one")  # with the constants of H100
    by_hand = with_constants_of(replace(plain, launch_s=launch_s, calibration=()), load_chip(donor))
    seconds = evaluate(values).metrics["toy.seconds_per_unit"][0] * 4
    assert seconds == pytest.approx(analytic.simulate(trace, by_hand).makespan_s, rel=1e-6)
    assert seconds != pytest.approx(analytic.simulate(trace, plain).makespan_s, rel=1e-3)
    chip = chip_of(evaluate, values, "one")
    assert (chip.launch_s, chip.calibration) == (launch_s, by_hand.calibration)
    assert has_foreign_constants(chip, "gemm")


def test_bands_of_designs_are_those_of_chips_that_nothing_was_fitted_to(trace):
    """Whosever constants a design takes, nobody has measured it: the bands of another family's constants."""
    ops = OpColumns.from_ops(trace.ops)
    nobody = replace(load_chip("h100-sxm"), name="unbuilt", family="nobody")
    expected = op_bands(ops, with_constants_of(nobody, load_chip("a100-sxm-80gb")))
    for asked in ("h100-sxm", "nvidia-blackwell"):
        template = load_template("gpu", asked)
        evaluate = evaluator(trace, template=template, calibration=constants_of(template))
        found = op_bands(ops, chip_of(evaluate, {"cores": np.array([132])}, "b200-sxm"))  # whatever its name
        assert found.low_ratio.tolist() == expected.low_ratio.tolist()
        assert found.high_ratio.tolist() == expected.high_ratio.tolist()
        assert all("another family" in words or "no table" in words for words in found.basis)


def test_limits_and_dead_combinations_are_named_and_not_simulated(trace):
    evaluate = evaluator(trace, goals=Goals(limits=(("max_die_mm2", 858.0), ("max_tdp_w", 800.0))))
    result = evaluate({"cores": np.array([100, 400, 101]), "compute_dies": np.array([1, 1, 2])})
    assert result.feasible.tolist() == [True, False, False]
    assert result.reason.tolist() == ["", "die_mm2 above 858", "cores is no multiple of compute_dies"]
    assert np.isnan(result.costs[1:]).all() and result.violation[1] > 0
    assert result.metrics["die_mm2"][1] > 858


def test_main_memory_must_hold_the_workload(trace):
    job = Job(name="toy", points=(("d", workload_from_trace(trace, units=1, fused=False, needed_bytes=50e9)),))
    evaluate = evaluator(trace, jobs=(job,))
    result = evaluate({"stacks": np.array([2, 5])})
    assert result.feasible.tolist() == [False, True]
    assert result.reason[0] == "main memory does not hold the largest workload"
    free = evaluator(trace, jobs=(job,), goals=Goals(holds_models=False))
    assert np.isnan(free({"stacks": np.array([2])}).costs).all()  # it cannot run there, whatever the goals say


def test_more_of_anything_never_makes_it_slower(trace):
    evaluate = evaluator(trace, goals=Goals(limits=(("max_area_mm2", 1e6),)))
    for name, values in (
        ("stacks", [2, 4, 8]),
        ("clock_ghz", [1.0, 1.5, 2.0]),
        ("l2_bytes_per_clock", [2000, 4000, 8000]),
    ):
        seconds = evaluate({name: np.array(values)}).metrics["toy.seconds_per_unit"]
        assert (np.diff(seconds) <= 1e-12).all(), (name, seconds)


def test_sampling_unit_reads_logits_once(build):
    """64 rows of 100,000 logits in 16 bits: a unit of 64 logits a clock and core streams them once."""
    logits = Operand(shape=(64, 100_000), dtype="bfloat16", role="logits", moved_bytes=12_800_000)
    head = Op(
        kind="gemm",
        name="aten::linear",
        dtype="bfloat16",
        inputs=(build.operand(64 * 64), build.operand(100_000 * 64, "bfloat16", "weights")),
        outputs=(logits,),
        sizes=(("batch", 1), ("m", 64), ("n", 100_000), ("k", 64)),
        matrix_flops=2 * 64 * 100_000 * 64,
    )
    topk = Op(
        kind="topk",
        name="aten::topk",
        dtype="bfloat16",
        inputs=(logits,),
        outputs=(build.operand(64 * 8),),
        sizes=(("rows", 64), ("columns", 100_000), ("k", 8)),
        vector_flops=64 * 100_000,
    )
    evaluate = evaluator(build.trace([head, topk], [0, 1]), goals=Goals(limits=(("max_area_mm2", 1e6),)))
    result = evaluate({"sampler_lanes": np.array([0, 64])})
    without, with_unit = result.metrics["toy.seconds_per_unit"] * 4
    part_without, part_with = result.metrics["toy.sampling_part"]
    rest_s = without * (1 - part_without)
    # 132 cores x 64 logits x 1.83 GHz outrun 3.35 TB/s; one launch of 2.5 us
    assert with_unit == pytest.approx(rest_s + 2.5e-6 + 12.8e6 / 3.35e12, rel=0.01)
    assert with_unit * part_with == pytest.approx(2.5e-6 + 12.8e6 / 3.35e12, rel=0.01)


def test_operating_points_are_chosen_by_the_design(trace, build):
    few = workload_from_trace(build.trace([build.gemm(1, 4096, 4096)], [0]), units=4, fused=False, quality=0.5)
    many = workload_from_trace(build.trace([build.gemm(1, 4096, 4096)], [0] * 10), units=4, fused=False, quality=0.9)
    job = Job(name="toy", points=(("few", few), ("many", many)))
    evaluate = evaluator(trace, jobs=(job,), goals=Goals(objectives=("seconds_per_unit", "quality_loss")))
    result = evaluate({"toy": np.array(["few", "many"])})
    assert result.costs[1, 0] == pytest.approx(10 * result.costs[0, 0], rel=1e-6)
    assert result.costs[:, 1] == pytest.approx([0.5, 0.1])


def test_means_and_finalists_by_hand():
    assert geometric_mean(np.array([[1.0, 8.0], [16.0, 8.0]]), (3.0, 1.0)).tolist() == pytest.approx([2.0, 8.0])
    costs = np.array([[0.0, 10.0], [1.0, 1.0], [10.0, 0.0]])
    assert knee(costs) == 1
    assert pick_finalists([7, 8, 9], costs) == [8, 7, 9]


def test_every_knob_moves_some_figure(build):
    """Whatever a template offers must matter to time, energy, area, power or cost of some workload."""
    logits = Operand(shape=(64, 100_000), dtype="bfloat16", role="logits", moved_bytes=12_800_000)
    head = replace(build.gemm(64, 100_000, 64), outputs=(logits,))
    ops = [head, replace(build.rows("softmax", 64, 100_000), inputs=(logits,)), build.gemm(2048, 2048, 2048)]
    ops += [build.gemm(8, 8192, 8192), build.attention(1, 32, 8, 1, 4096, 128, False), build.pointwise(1 << 24)]
    ops += [build.pointwise(1 << 22, dtype="float64"), build.pointwise(1 << 10)]
    workload = workload_from_trace(build.trace(ops, list(range(len(ops)))), units=1, fused=False)
    other = {"dram": ["hbm3", "hbm4"], "node": ["n7", "n4"], "link_gb_per_s": [100, 900]}
    for name in ("gpu", "systolic", "dataflow"):
        template = load_template(name)
        for mode in ("graph", "eager"):
            evaluate = Evaluator(
                template=template,
                technology=load_technology(),
                jobs=(Job(name="toy", points=(("default", workload),)),),
                goals=Goals(limits=(("max_area_mm2", 1e9),), holds_models=False),
                calibration=constants_of(template),
                mode=mode,
            )
            moved = {}
            for knob in template.knobs:
                default = knob.default
                values = other.get(knob.name, [default, 2 * default if default else 64])
                figures = evaluate({knob.name: np.array(values)}).metrics
                moved[knob.name] = any(
                    column[0] != column[1] for column in figures.values() if np.isfinite(column).all()
                )
            still = {knob for knob, has in moved.items() if not has}
            still -= {"host_dispatch_us"} if mode == "graph" else set()
            assert not still, (name, mode, still)


def test_rows_do_not_depend_on_how_many_are_evaluated_at_once(trace):
    evaluate = evaluator(
        trace, goals=Goals(objectives=("seconds_per_unit", "joules_per_unit", "usd_per_million_units"))
    )
    values = {"cores": np.arange(60, 140), "stacks": np.tile([3, 4, 5, 6], 20)}
    together = evaluate(values).costs
    for size in (1, 7, 33):
        parts = [evaluate({n: c[at : at + size] for n, c in values.items()}).costs for at in range(0, 80, size)]
        np.testing.assert_array_equal(np.concatenate(parts), together)


def test_unknown_quality_is_not_better_than_a_known_one(build):
    def workload(quality):
        trace = build.trace([build.gemm(8, 64, 64)], [0])
        return workload_from_trace(trace, units=1, fused=False, quality=quality)

    jobs = (
        Job(name="ar", points=(("d", workload(0.9)),)),
        Job(name="denoise", points=(("scored", workload(0.5)), ("unscored", workload(float("nan"))))),
        Job(name="never", points=(("d", workload(float("nan"))),)),
    )
    template = load_template("gpu")
    evaluate = Evaluator(
        template=template,
        technology=load_technology(),
        jobs=jobs,
        goals=Goals(objectives=("quality_loss", "seconds_per_unit")),
    )
    result = evaluate({"denoise": np.array(["scored", "unscored"])})
    assert result.costs[0, 0] == pytest.approx(0.3)
    assert np.isnan(result.costs[1, 0]) and result.feasible.tolist() == [True, False]
    assert "unknown" in result.reason[1]


def test_memory_is_asked_of_the_chosen_operating_point(trace):
    small, large = (workload_from_trace(trace, units=1, fused=False, needed_bytes=needed) for needed in (1e9, 500e9))
    job = Job(name="toy", points=(("small", small), ("large", large)))
    result = evaluator(trace, jobs=(job,))({"toy": np.array(["small", "large"])})
    assert result.feasible.tolist() == [True, False]
    assert result.reason[1] == "main memory does not hold the largest workload"


def test_a_workload_of_weight_0_judges_nothing_and_is_told_where_it_fits(trace):
    small, large = (workload_from_trace(trace, units=1, fused=False, needed_bytes=needed) for needed in (1e9, 70e9))
    judge = Job(name="small", points=(("d", small),))
    beside = Job(name="large", points=(("d", large),), weight=0.0)
    values = {"stacks": np.array([4, 5])}  # 64 and 80 GB
    alone = evaluator(trace, jobs=(judge,))(values)
    both = evaluator(trace, jobs=(judge, beside))(values)
    assert both.costs.tolist() == alone.costs.tolist() and both.feasible.all()
    assert np.isfinite(both.metrics["large.seconds_per_unit"]).tolist() == [False, True]


def test_workloads_that_fit_no_design_within_the_limits_are_named(trace):
    small, large = (workload_from_trace(trace, units=1, fused=False, needed_bytes=needed) for needed in (1e9, 90e9))
    jobs = (Job(name="small", points=(("d", small),)), Job(name="large", points=(("d", large),)))
    values = {"stacks": np.array([4, 5, 6]), "cores": np.array([132, 132, 400])}  # 96 GB on the die that breaks a limit
    for holds in (True, False):
        evaluate = evaluator(trace, jobs=jobs, goals=Goals(holds_models=holds))
        told = too_large(evaluate, evaluate(values))
        assert told.startswith("designs within the limits have 80 GB at most and do not hold large (90 GB); weight = 0")
    fitting = evaluator(trace, jobs=jobs[:1])
    assert too_large(fitting, fitting(values)) == ""


def test_the_space_of_the_study_searches_without_the_one_workload_that_fits_no_design():
    """Captured, dual-cache-b64 holds 224.7 GB at its peak and the next largest, flux-b64, 136.8."""
    asked = load_space(Path(__file__).resolve().parents[2] / "studies" / "denoising-chip" / "space.toml")
    assert [workload.name for workload in asked.workloads if workload.weight == 0] == ["dual-cache-b64"]
    designs = asked.space.decode(np.arange(asked.space.size))
    technology = load_technology()
    knobs = {**{name: np.full(asked.space.size, value) for name, value in asked.fixed.items()}, **designs}
    hardware = asked.template.hardware(asked.template.fill(knobs, asked.space.size), technology)
    excess, _ = asked.goals.violation(package_of(hardware, technology).figures())
    assert 136.8e9 < hardware.dram_bytes[excess <= 0].max() < 224.7e9
