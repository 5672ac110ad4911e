"""The strategies on spaces that can be enumerated, and what the loop around them promises."""

import numpy as np
import pytest
from explorer_samples import CHIPS, SPHERE, chips, sphere

from explorer.archive import Archive
from explorer.errors import ExplorationError
from explorer.evaluator import Evaluator, Job, constants_of
from explorer.objectives import Goals
from explorer.parameters import Parameter, ParameterSpace
from explorer.pareto import find_bounds, front
from explorer.result import Result
from explorer.search import explore, propose
from explorer.technology import load_technology
from explorer.templates.template import load_template
from explorer.workload import workload_from_trace

SMALL = ParameterSpace(parameters=(Parameter.range("x", 0, 9, steps=10), Parameter.range("y", 0, 9, steps=10)))


def run(space, evaluate, strategy, **options):
    """The archive of a search, and the numbers of what was evaluated, in order."""
    archive, order = Archive(), []
    for batch in explore(space, evaluate, propose(strategy, space, **options)):
        archive.add(batch.index, batch.result)
        order.append(batch.index)
    return archive, np.concatenate(order)


def opposed(designs):
    costs = np.column_stack([designs["x"] + designs["y"], 9 - designs["x"] + designs["y"]]).astype(float)
    return Result(costs=costs, violation=np.zeros(len(costs)))


def test_grid_evaluates_all_and_finds_the_front():
    archive, order = run(SMALL, opposed, "grid", block=7)
    assert order.tolist() == list(range(100))
    assert archive.index.tolist() == [10 * x for x in range(10)]  # y = 0
    assert archive.evaluations == 100


def test_hypervolume_curve_by_hand():
    archive, _ = run(SMALL, opposed, "grid", block=50)
    # costs (x, 9 - x) of x up to 4, then of all: steps of 1/9 under a reference of 1.1
    ends = np.arange(10) / 9
    half = sum(
        min(1.1, ends[x + 1] if x < 4 else 1.1) * 0
        + (1.1 - (1 - ends[x])) * ((ends[x + 1] if x < 4 else 1.1) - ends[x])
        for x in range(5)
    )
    whole = sum((1.1 - (1 - ends[x])) * ((ends[x + 1] if x < 9 else 1.1) - ends[x]) for x in range(10))
    assert archive.hypervolume_curve() == pytest.approx(np.array([[50, half / 1.21], [100, whole / 1.21]]))


@pytest.mark.parametrize(("space", "evaluate", "front_designs"), [(SPHERE, sphere, 100), (CHIPS, chips, None)])
def test_nsga2_finds_98_percent_of_the_hypervolume_with_5_percent_of_the_evaluations(space, evaluate, front_designs):
    pytest.importorskip("pymoo", reason="pymoo comes with roofscape[explore]")
    whole = evaluate(space.decode(np.arange(space.size))).feasible_costs
    bounds = find_bounds(whole)
    best = bounds.normalized_hypervolume(whole)
    if front_designs:
        assert front(whole).sum() == front_designs
    budget = space.size // 20
    for seed in range(3):
        archive, order = run(space, evaluate, "nsga2", designs=budget, seed=seed)
        assert len(order) == len(np.unique(order)) == budget
        assert archive.hypervolume_curve(bounds)[-1, 1] >= 0.98 * best


@pytest.mark.parametrize("dram", ["hbm3", "gddr7"])
def test_few_hundred_evaluations_do_for_a_small_space(dram):
    """300 of 6,000 chips with one kind of memory."""
    pytest.importorskip("pymoo", reason="pymoo comes with roofscape[explore]")
    small = ParameterSpace(parameters=tuple(p for p in CHIPS.parameters if p.name != "dram"))

    def evaluate(designs):
        return chips({**designs, "dram": np.full(len(designs["cores"]), dram)})

    whole = evaluate(small.decode(np.arange(small.size))).feasible_costs
    bounds = find_bounds(whole)
    for seed in range(3):
        archive, order = run(small, evaluate, "nsga2", designs=small.size // 20, seed=seed)
        assert len(np.unique(order)) == small.size // 20
        assert archive.hypervolume_curve(bounds)[-1, 1] >= 0.98 * bounds.normalized_hypervolume(whole)


def test_the_sphere_is_no_space_that_sampling_solves():
    whole = sphere(SPHERE.decode(np.arange(SPHERE.size))).costs
    bounds = find_bounds(whole)
    archive, _ = run(SPHERE, sphere, "sobol", designs=1000)
    assert archive.hypervolume_curve(bounds)[-1, 1] < 0.8 * bounds.normalized_hypervolume(whole)


def test_the_same_seed_searches_the_same():
    pytest.importorskip("pymoo", reason="pymoo comes with roofscape[explore]")
    first, second, other = (run(CHIPS, chips, "nsga2", designs=200, seed=seed)[1].tolist() for seed in (5, 5, 6))
    assert first == second != other


def test_nsga2_takes_up_a_whole_space_and_stops():
    pytest.importorskip("pymoo", reason="pymoo comes with roofscape[explore]")
    archive, order = run(SMALL, opposed, "nsga2", designs=1000)
    assert sorted(order.tolist()) == list(range(100))
    assert archive.index.tolist() == [10 * x for x in range(10)]


def test_nsga2_gets_out_of_what_is_infeasible_or_has_no_figures():
    pytest.importorskip("pymoo", reason="pymoo comes with roofscape[explore]")

    def evaluate(designs):
        result = sphere(designs)
        outside = np.abs(designs["a"] - 0.5) + np.abs(designs["b"] - 0.5)
        costs = np.where(designs["kind"][:, None] == "huge", np.nan, result.costs)
        return Result(costs=costs, violation=np.where(outside > 0.2, outside, 0))

    archive, _ = run(SPHERE, evaluate, "nsga2", designs=1000, seed=0)
    whole = evaluate(SPHERE.decode(np.arange(SPHERE.size))).feasible_costs
    assert archive.hypervolume_curve(find_bounds(whole))[-1, 1] >= 0.98 * find_bounds(whole).normalized_hypervolume(
        whole
    )


def test_nothing_feasible_is_one_line_with_reasons():
    def evaluate(designs):
        count = len(designs["x"])
        reason = np.where(designs["x"] < 8, "die over 814 mm2", "model does not fit")
        return Result(costs=np.ones((count, 2)), violation=np.ones(count), reason=reason)

    for strategy in ("grid", "nsga2"):
        archive, _ = run(SMALL, evaluate, strategy, designs=100)
        with pytest.raises(ExplorationError) as error:
            archive.require_front()
        assert str(error.value) == (
            "none of 100 designs holds all constraints; most often: die over 814 mm2 (80); model does not fit (20)"
        )


@pytest.mark.parametrize(
    ("strategy", "options", "line"),
    [
        ("anneal", {}, "unknown sampling 'anneal'; known: grid, sobol, nsga2"),
        ("nsga2", {}, "--sampling nsga2 needs the number of designs: --designs N"),
        (
            "grid",
            {"designs": 99},
            "a grid is all 100 designs, its first 99 would be one corner of the space; "
            "use --sampling sobol or nsga2 with --designs 99",
        ),
        ("sobol", {"designs": 0}, "the number of designs must be at least 1, got 0"),
    ],
)
def test_unknown_searches_are_one_line(strategy, options, line):
    with pytest.raises(ExplorationError) as error:
        propose(strategy, SMALL, **options)
    assert str(error.value) == line


def test_an_evaluation_that_loses_rows_is_named():
    def evaluate(designs):
        return Result(costs=np.ones((1, 2)), violation=np.zeros(1))

    with pytest.raises(ExplorationError, match="the evaluation of 100 designs gave 1 rows"):
        list(explore(SMALL, evaluate, propose("grid", SMALL)))


@pytest.mark.slow
def test_nsga2_finds_98_percent_on_a_space_of_real_chips(build):
    """Time, energy and dollars of decoding and of denoising on 9,600 GPU-like designs, simulated, under real limits."""
    pytest.importorskip("pymoo", reason="pymoo comes with roofscape[explore]")
    template = load_template("gpu")
    jobs = []
    for name, rows, keys in (("decode", 1, 1), ("denoise", 512, 512)):
        layer = [build.gemm(rows, 6144, 4096), build.attention(1, 32, 8, keys, 1024, 128, False)]
        layer += [build.gemm(rows, 4096, 4096), build.gemm(rows, 28672, 4096), build.gemm(rows, 4096, 14336)]
        layer += [build.rows("norm", rows, 4096), build.pointwise(rows * 14336)]
        trace = build.trace(layer, list(range(len(layer))) * 32)
        workload = workload_from_trace(trace, name=name, units=rows, needed_bytes=20e9, fused=False)
        jobs.append(Job(name=name, points=(("default", workload),)))
    evaluate = Evaluator(
        template=template,
        technology=load_technology(),
        jobs=tuple(jobs),
        goals=Goals(
            objectives=("seconds_per_unit", "joules_per_unit", "usd_per_million_units"),
            limits=(("max_die_mm2", 858.0), ("max_tdp_w", 1000.0)),
        ),
        calibration=constants_of(template),
    )
    space = ParameterSpace(
        parameters=(
            Parameter.range("cores", 64, 208, step=16),
            Parameter.range("clock_ghz", 1.0, 2.4, steps=8),
            Parameter(name="matrix_macs", values=(1024, 2048, 4096, 8192)),
            Parameter(name="vector_lanes", values=(64, 128)),
            Parameter(name="l2_mib", values=(16, 50, 100)),
            Parameter(name="stacks", values=(3, 4, 5, 6, 8)),
        )
    )
    assert space.size == 9600
    whole = evaluate(space.decode(np.arange(space.size)))
    bounds = find_bounds(whole.feasible_costs)
    best = bounds.normalized_hypervolume(whole.feasible_costs)
    assert (~whole.feasible).sum() > 100 and front(whole.feasible_costs).sum() > 10
    for seed in range(3):
        archive, order = run(space, evaluate, "nsga2", designs=480, seed=seed)
        assert len(np.unique(order)) == 480
        assert archive.hypervolume_curve(bounds)[-1, 1] >= 0.98 * best
