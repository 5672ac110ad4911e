"""Equal designs and what a change is worth: hand-worked ratios, the nearest value of a knob, nonsense."""

import numpy as np
import pytest

from explorer.designs import build, judge, read_design
from explorer.equal_designs import compare, match, taken
from explorer.errors import ExplorationError
from explorer.evaluator import Evaluator, Job, constants_of
from explorer.objectives import Goals
from explorer.parameters import Parameter, ParameterSpace
from explorer.technology import load_technology
from explorer.templates.template import load_template
from explorer.workload import workload_from_trace
from explorer.worth import read_change, usual_changes, weigh


@pytest.fixture
def evaluator(build):
    """Two workloads: one streams 4 GB of weights for one row, the other multiplies large matrices."""
    traces = {"stream": build.gemm(1, 32768, 65536), "multiply": build.gemm(16384, 16384, 16384)}
    jobs = tuple(
        Job(
            name=name,
            points=(("default", workload_from_trace(build.trace([op], [0]), units=4, fused=False, needed_bytes=70e9)),),
        )
        for name, op in traces.items()
    )
    return of_template("gpu", jobs)


def of_template(name, jobs=(), **fixed):
    template = load_template(name)
    return Evaluator(
        template=template,
        technology=load_technology(),
        jobs=jobs,
        goals=Goals(),
        fixed=fixed,
        calibration=constants_of(template),
    )


def test_a_design_is_costed_as_the_search_does(evaluator):
    """`judge` of one design is `Evaluator` of the same columns."""
    design = read_design("cores=120, clock_ghz=1.5", evaluator)
    judged = judge(design.hardware, evaluator)
    figures = evaluator({"cores": np.array([120]), "clock_ghz": np.array([1.5])}).metrics
    for w, job in enumerate(("stream", "multiply")):
        assert judged.seconds[w, 0] == figures[f"{job}.seconds_per_unit"][0]
        assert judged.joules[w, 0] == figures[f"{job}.joules_per_unit"][0]
        assert judged.usd_per_million[w, 0] == figures[f"{job}.usd_per_million_units"][0]
    assert (judged.area_mm2[0], judged.tdp_w[0], judged.bill_usd[0]) == tuple(
        figures[name][0] for name in ("area_mm2", "tdp_w", "bill_usd")
    )


@pytest.mark.parametrize("equal", ["area", "power", "bill"])
def test_a_design_equals_itself(evaluator, equal):
    a = read_design("cores=132", evaluator)
    first, second, scaled = match(a, read_design("cores=132", evaluator), evaluator, equal=equal, knob="cores")
    assert scaled.after == 132 and scaled.residual == 0
    judged = compare(first, second, scaled, evaluator).judged
    assert (judged.seconds[:, 0] == judged.seconds[:, 1]).all()


@pytest.mark.parametrize(
    ("equal", "knob"), [("area", "cores"), ("power", "cores"), ("bill", "cores"), ("power", "clock_ghz")]
)
def test_no_step_of_the_knob_comes_nearer(evaluator, equal, knob):
    stacks = 4 if equal == "bill" else 8  # three stacks cost more than a die
    a, b = read_design("cores=132,stacks=5", evaluator), read_design(f"cores=96,stacks={stacks}", evaluator)
    _, second, scaled = match(a, b, evaluator, equal=equal, knob=knob)
    step = 1 if knob == "cores" else 0.01
    around = [{**second.knobs, knob: scaled.after + move * step} for move in (-1, 0, 1)]
    found = taken(build(around, evaluator), evaluator.technology, equal)
    assert found[0] < scaled.reached < found[2]
    assert found[1] == pytest.approx(scaled.reached)
    assert abs(np.log(scaled.reached / scaled.target)) <= abs(np.log(found / scaled.target)).min() + 1e-12
    assert abs(scaled.residual) < 0.02


def test_stacks_buy_streams_time_and_units_buy_products_time(evaluator):
    """Twice the bandwidth streams in half the time; twice the multiply-adds never help a stream."""
    a, b = read_design("stacks=5", evaluator), read_design("stacks=10", evaluator)
    judged = compare(a, b, None, evaluator).judged
    ratio = judged.seconds[:, 1] / judged.seconds[:, 0]
    assert judged.workloads == ("stream", "multiply")
    assert ratio[0] == pytest.approx(0.5, rel=0.05)
    assert ratio[1] == pytest.approx(1.0, rel=0.02)
    assert judged.memory_part[0, 0] == 1.0 and judged.compute_part[1, 0] == 1.0


def test_known_chips_by_name_and_what_no_memory_holds(evaluator):
    judged = compare(read_design("h100-sxm", evaluator), read_design("stacks=4", evaluator), None, evaluator).judged
    assert np.isfinite(judged.seconds[:, 0]).all()  # 80 GB hold 70
    assert np.isnan(judged.seconds[:, 1]).all()  # 64 GB do not
    known = read_design("h100-sxm", evaluator)
    _, _, scaled = match(known, read_design("", evaluator), evaluator, equal="area", knob="cores")
    assert scaled.target == pytest.approx(814, rel=0.15) and 120 <= scaled.after <= 140


def test_one_more_stack_is_worth_its_bandwidth(evaluator):
    """A stream takes 5/6 of the time with 6 stacks instead of 5; a product 1/1.2 with 20 % more clock."""
    design = read_design("", evaluator)
    gpu = evaluator.template
    changes = [read_change(text, design.knobs, gpu) for text in ("stacks+1", "clock_ghz*1.2")]
    found = weigh(design, changes, evaluator)
    seconds = found.relative("seconds")
    assert seconds[0, 0] == pytest.approx(5 / 6 - 1, rel=0.05)
    assert seconds[1, 1] == pytest.approx(1 / 1.2 - 1, rel=0.05)
    assert found.relative("area_mm2")[0] > 0 and found.relative("bill_usd")[0] > 0.05
    assert abs(seconds[1, 0]) < 0.02


def test_usual_changes_come_in_whole_parts_and_in_the_steps_of_the_space():
    gpu = load_template("gpu")
    space = ParameterSpace(
        parameters=(
            Parameter(name="l2_mib", values=(16, 50, 96, 200)),
            Parameter(name="sampler_lanes", values=(0, 8, 64)),
            Parameter(name="dram", values=("hbm3", "hbm4", "gddr7")),
            Parameter(name="vector_lanes", values=(64, 128, 256)),
            Parameter(name="ar", values=("a", "b")),
        )
    )
    labels = [change.label for change in usual_changes({"compute_dies": 2.0, "cores": 130.0}, gpu, space)]
    assert labels == [
        "stacks 5 to 6",
        "matrix_macs 2048 to 2456",  # 2457.6 in fours
        "clock_ghz 1.83 to 2.196",
        "cores 130 to 156",
        "l2_mib 50 to 96",
        "sampler_lanes 0 to 8",
        "dram hbm3 to hbm4",
        "dram hbm3 to gddr7",
        "vector_lanes 128 to 256",
    ]
    systolic = [change.label for change in usual_changes({}, load_template("systolic"), space)]
    assert "arrays 4 to 5" in systolic and "cores 2 to 3" in systolic and "scratchpad_mib 128 to 153.6" in systolic
    dataflow = [change.label for change in usual_changes({}, load_template("dataflow"), space)]
    assert "sram_mib 220 to 264" in dataflow and not any(label.startswith("stacks") for label in dataflow)


@pytest.mark.parametrize("template", ["gpu", "systolic", "dataflow"])
def test_usual_changes_of_every_template_can_be_built(template):
    evaluate = of_template(template)
    space = ParameterSpace(parameters=(Parameter(name="clock_ghz", values=(1.0, 2.0)),))
    changes = usual_changes({}, evaluate.template, space)
    assert len(build([{change.knob: change.after} for change in changes], evaluate)) == len(changes) >= 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cores=132,cores=4", "cores is given twice"),
        ("coers=132", "no knob 'coers'; did you mean 'cores'?"),
        ("cores=132, stacks", "'stacks' must be a knob and its value"),
        ("cores=many", "cores must be a finite number above 0, got 'many'"),
        ("cores=0", "above 0, got '0'"),
        ("cores=inf", "finite"),
        ("cores=1.5", "whole number"),
        ("h900", "unknown chip 'h900'"),
        ("dram=hbm9", "hbm9"),
        ("matrix_macs=2049", "matrix_macs is no multiple of matrix_units"),
    ],
)
def test_nonsense_designs_are_refused(text, message):
    with pytest.raises(ExplorationError) as error:
        read_design(text, of_template("gpu"))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("a", "b", "equal", "knob", "message"),
    [
        ("", "h100-sxm", "area", "cores", "is a known chip"),
        ("", "", "weight", "cores", "unknown 'weight'"),
        ("", "", "area", "dram", "is a name and cannot be scaled"),
        ("", "", "area", "clock_ghz", "does not change mm2"),
        ("cores=8", "l2_mib=200", "area", "cores", "the nearest, 1, takes"),
        ("", "", "area", "speed", "no knob 'speed'"),
    ],
)
def test_nonsense_equality_is_refused(a, b, equal, knob, message):
    evaluate = of_template("gpu")
    with pytest.raises(ExplorationError) as error:
        match(read_design(a, evaluate), read_design(b, evaluate), evaluate, equal=equal, knob=knob)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "text", ["stacks", "stacks+", "stacks+x", "stacks*0", "stacks+0.5", "dram+1", "nobody+1", "+1"]
)
def test_nonsense_changes_are_refused(text):
    with pytest.raises(ExplorationError):
        read_change(text, {}, load_template("gpu"))
