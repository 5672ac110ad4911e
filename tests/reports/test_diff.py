"""`roofscape diff`: what became slower, by how much, how sure; against hand-worked traces and plain resampling."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner
from work import python_calls

from profiler.storage import save_trace
from reports.cli import app
from reports.commands.diff import parse_ratio
from reports.diff_page import build_diff_page
from reports.diff_samples import Stratum
from reports.diff_statistics import Bootstrap, change_of, discoveries
from reports.differences import diff
from reports.errors import ReportError
from reports.formatting import format_change
from reports.html import render
from roofline.chipfile import load_chip
from simulator.analytic import simulate


def with_times(trace, duration_s):
    return replace(trace, calls=replace(trace.calls, duration_s=np.asarray(duration_s, dtype=float)))


def noisy(trace, factors, seed, sigma=0.02):
    """Times of about 1, 2 and 3 us for the three ops, times a factor each, with lognormal noise."""
    generator = np.random.default_rng(seed)
    base = np.array([1e-6, 2e-6, 3e-6]) * factors
    return with_times(trace, base[trace.calls.op] * generator.lognormal(0, sigma, len(trace.calls)))


@pytest.fixture
def decoding_20(decoding):
    """Twenty decode steps of gemm, add and copy."""
    trace = decoding.trace
    calls = trace.calls
    columns = {name: np.tile(getattr(calls, name)[:3], 20) for name in ("op", "phase", "module", "stream")}
    return replace(
        trace,
        calls=replace(
            calls,
            **columns,
            step=np.repeat(np.arange(20), 3),
            start_s=np.arange(60) * 4e-6,
            duration_s=np.full(60, 1e-6),
            energy_j=np.full(60, np.nan),
        ),
    )


def row_of(difference, label):
    (row,) = [row for row in difference.rows if row.label == label]
    return row


def test_the_op_that_became_slower_is_named_with_how_much_and_how_sure(decoding_20):
    before, after = noisy(decoding_20, [1, 1, 1], seed=1), noisy(decoding_20, [1, 1.2, 1], seed=2)
    difference = diff(before, after, by=("kind",))
    add = row_of(difference, "pointwise")
    assert add.verdict == "slower" and add.is_regression
    assert add.ratio == pytest.approx(1.2, rel=0.02)
    assert 1.15 < add.change.low < add.ratio < add.change.high < 1.25
    assert add.change.samples == 20
    assert row_of(difference, "gemm").verdict == row_of(difference, "copy").verdict == "similar"
    assert next(row.label for row in difference.rows if row.level == "group") == "pointwise"
    # 2 of 6 us grew by 20 %: the whole by 6.7 %
    assert row_of(difference, "whole trace").ratio == pytest.approx(1 + 0.4 / 6, rel=0.01)
    reverse = row_of(diff(after, before, by=("kind",)), "pointwise")
    assert reverse.verdict == "faster" and not reverse.is_regression


def test_a_trace_against_itself_has_no_difference(decoding_20):
    trace = noisy(decoding_20, [1, 1, 1], seed=1)
    difference = diff(trace, trace)
    assert not difference.regressions
    assert {row.ratio for row in difference.rows} == {1.0}
    assert {row.difference for row in difference.rows} == {0.0}


def test_a_single_sample_is_not_known_how_sure(decoding_20):
    once = decoding_20.select(decoding_20.calls.step == 0)
    slow = with_times(once, once.calls.duration_s * 3)
    difference = diff(once, slow, by=("kind",))
    assert row_of(difference, "gemm").ratio == pytest.approx(3.0)
    assert {row.verdict for row in difference.rows} == {"slower, not known how sure"}
    assert all("not known how sure (1 sample)" in row.certainty for row in difference.rows)
    assert not difference.regressions


def test_repeated_calls_of_one_op_are_samples_where_no_step_is_numbered(decoding_20):
    calls = replace(decoding_20.calls, step=np.full(60, -1))
    trace = replace(decoding_20, calls=calls)
    difference = diff(noisy(trace, [1, 1, 1], 1), noisy(trace, [1, 1, 1.5], 2), by=("kind",))
    assert row_of(difference, "copy").change.samples == 20 and row_of(difference, "copy").is_regression
    # calls of different ops are no repeats of each other
    assert row_of(difference, "whole trace").change.samples == 1


def test_growth_along_the_steps_is_no_noise(decoding_20):
    """Cost doubles over the steps as attention does over a growing cache: 8 % are seen step by step only."""
    growth = np.repeat(np.linspace(1, 2, 20), 3)
    before, after = (noisy(decoding_20, [f, f, f], seed, 0.01) for f, seed in ((1, 1), (1.08, 2)))
    before, after = (with_times(trace, trace.calls.duration_s * growth) for trace in (before, after))
    paired = row_of(diff(before, after), "whole trace")
    assert paired.change.paired and paired.verdict == "slower"
    shifted = replace(after, calls=replace(after.calls, step=after.calls.step + 1))
    unpaired = row_of(diff(before, shifted), "whole trace")
    assert not unpaired.change.paired and unpaired.verdict == "slower, not sure"


def test_what_is_only_in_one_is_named_with_its_time(decoding_20):
    both = noisy(decoding_20, [1, 1, 1], 1)
    without_copy = both.select(both.calls.op != 2)
    difference = diff(without_copy, both, by=("kind",))
    copy = row_of(difference, "copy")
    assert (copy.verdict, copy.total_a, copy.calls_b) == ("only in B", None, 20)
    assert copy.difference == pytest.approx(copy.total_b)
    # the work that was added shows in the phase: 6 us instead of 3
    assert row_of(difference, "decode").is_regression
    assert row_of(difference, "decode").ratio == pytest.approx(2.0, rel=0.02)


def test_more_steps_are_more_time(decoding_20):
    trace = noisy(decoding_20, [1, 1, 1], 1)
    half = trace.select(trace.calls.step < 10)
    assert row_of(diff(half, trace), "whole trace").ratio == pytest.approx(2.0, rel=0.02)


def test_outlier_of_one_step_is_no_regression(decoding_20):
    before = noisy(decoding_20, [1, 1, 1], 1)
    stalled = before.calls.duration_s.copy()
    stalled[4] *= 100
    assert not diff(before, with_times(before, stalled)).regressions


def test_counted_work_is_exact(decoding, denoising):
    """Nine calls of 3 x 1,124 FLOPs against four of 2 x 1,124."""
    difference = diff(decoding.trace, denoising.trace, basis="FLOPs", by=("kind",))
    assert row_of(difference, "whole trace").ratio == pytest.approx(2 / 3)
    assert row_of(difference, "whole trace").certainty == "exact"
    assert row_of(difference, "gemm").verdict == "less"
    assert row_of(difference, "copy").verdict == "only in A"
    grown = diff(denoising.trace, decoding.trace, basis="bytes", by=("kind",))
    assert row_of(grown, "gemm").is_regression and row_of(grown, "gemm").verdict == "more"


def test_chips_are_compared_by_simulation(decoding):
    chips = [load_chip(name) for name in ("h100-sxm", "a100-sxm-80gb")]
    results = [simulate(decoding.trace, chip) for chip in chips]
    costs = {"cost_a": results[0].duration_s, "cost_b": results[1].duration_s}
    difference = diff(decoding.trace, decoding.trace, basis="simulated", **costs)
    expected = results[1].duration_s.sum() / results[0].duration_s.sum()
    assert row_of(difference, "whole trace").ratio == pytest.approx(expected)


def test_unknown_work_is_left_out_and_said(hostile):
    difference = diff(hostile.trace, hostile.trace, basis="FLOPs", by=("name",))
    unknown = row_of(difference, hostile.trace.ops[1].name)
    assert (unknown.verdict, unknown.total_a) == ("not compared", None)
    assert any("1 of 2 calls of A have no FLOPs figure" in note for note in difference.notes)


def test_work_of_which_a_part_is_unknown_has_no_ratio(hostile, decoding):
    """The unknown calls of `hostile` may be most of its work: what is known of it says nothing beside the other's."""
    assert 0 < len(hostile.trace.unknown_ops) < len(hostile.trace.ops)
    durations = [with_times(trace, np.ones(len(trace.calls))) for trace in (decoding.trace, hostile.trace)]
    whole = diff(*durations).rows[0]
    assert whole.label == "whole trace"
    assert whole.flops_ratio is None
    assert diff(durations[0], durations[0]).rows[0].flops_ratio == 1


def test_missing_basis_and_column_are_refused(denoising):
    with pytest.raises(ReportError, match="no call of it has measured figures"):
        diff(denoising.trace, denoising.trace)
    with pytest.raises(ReportError, match="--by must be some of phase, module, op, name, kind, got 'layer'"):
        diff(denoising.trace, denoising.trace, basis="bytes", by=("layer",))


@pytest.mark.parametrize("count", [6, 7, 40, 41])
def test_medians_are_distributed_as_in_plain_resampling(count):
    values = np.random.default_rng(count).lognormal(0, 0.3, count)
    ours = Bootstrap(3).medians(values, 0)
    generator = np.random.default_rng(9)
    plain = np.median(values[generator.integers(0, count, (20_000, count))], axis=1)
    # quantiles of 4,000 draws: their standard error is about a hundredth of the spread in the middle
    spread = plain.std()
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert np.quantile(ours, quantile) == pytest.approx(np.quantile(plain, quantile), abs=0.2 * spread)
    assert ours.std() == pytest.approx(spread, rel=0.1)
    assert (Bootstrap(3).medians(values, 0) == ours).all()
    assert not (Bootstrap(3).medians(values, 1) == ours).all()


def test_intervals_hold_the_truth_as_often_as_they_say():
    """95 % of them; a bootstrap of the median of 20 is known to be a little off, and 300 tries leave 1.3 points."""
    held = []
    bootstrap = Bootstrap(5)
    for seed in range(300):
        generator = np.random.default_rng(seed)
        sides = [
            [Stratum(phase=0, keys=np.arange(20), values=generator.lognormal(0, 0.2, 20), by_step=False)]
            for _ in range(2)
        ]
        change = change_of(*sides, bootstrap)
        held.append(change.low <= 1 <= change.high)
    assert 0.90 <= np.mean(held) <= 0.99


def test_noise_in_many_groups_is_not_taken_for_regressions(decoding):
    """200 groups without a change, 10 steps each, 10 % noise: 5 % of runs may name one."""
    steps, groups = 10, 200
    trace = replace(
        decoding.trace,
        ops=decoding.trace.ops[:1],
        modules=tuple(f"m{i}" for i in range(groups)),
        calls=replace(
            decoding.trace.calls,
            op=np.zeros(steps * groups, dtype=np.int64),
            phase=np.zeros(steps * groups, dtype=np.int64),
            module=np.tile(np.arange(groups), steps),
            step=np.repeat(np.arange(steps), groups),
            stream=np.zeros(steps * groups, dtype=np.int64),
            start_s=np.zeros(steps * groups),
            energy_j=np.zeros(steps * groups),
        ),
    )
    found = []
    for seed in range(4):
        before, after = (noisy(trace, [1, 1, 1], 2 * seed + side, 0.1) for side in (0, 1))
        difference = diff(before, after, by=("module",), least_share=0.0)
        found.append(len(difference.regressions))
        assert sum("not sure" in row.verdict for row in difference.rows) > 5
    assert sum(found) <= 4


def test_false_discovery_rate_on_hand_worked_values():
    """Benjamini and Hochberg's own example (1995, section 3.2): the four smallest of fifteen."""
    p_values = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719]
    p_values += [0.6528, 0.7590, 1.0]
    assert discoveries(p_values) == [True] * 4 + [False] * 11
    assert discoveries([]) == []


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def files(decoding_20, tmp_path):
    save_trace(noisy(decoding_20, [1, 1, 1], 1), tmp_path / "a.parquet")
    save_trace(noisy(decoding_20, [1.3, 1, 1], 2), tmp_path / "b.parquet")
    return tmp_path / "a.parquet", tmp_path / "b.parquet"


def test_exit_code_tells_ci(files):
    a, b = files
    assert run("diff", a, a).exit_code == 0
    assert run("diff", b, a).exit_code == 0
    assert run("diff", a, b).exit_code == 1
    assert run("diff", a, b, "--threshold", "50%").exit_code == 0
    assert run("diff", a, b, "--counted").exit_code == 0
    assert run("diff", a, a, "--chip", "h100-sxm", "--chip", "a100-sxm-80gb").exit_code == 1
    assert isinstance(run("diff", a, b, "--threshold", "lots").exception, ReportError)


def test_json_and_table_tell_the_same(files, tmp_path):
    result = run("diff", *files, "--by", "kind", "--json", "-o", tmp_path / "d.html")
    (comparison,) = json.loads(result.stdout)["comparisons"]
    gemm = next(row for row in comparison["rows"] if row["kind"] == "gemm")
    assert comparison["basis"] == "measured" and comparison["regressions"] >= 1
    assert gemm["verdict"] == "slower" and gemm["is_regression"] is True
    assert gemm["low"] < gemm["ratio"] < gemm["high"]
    assert f"gemm {format_change(gemm['ratio'])}" in (tmp_path / "d.html").read_text(encoding="utf-8").replace(
        "\u00a0", " "
    )
    table = run("diff", *files, "--by", "kind").stdout
    assert "Surely worse by more than 5 %" in table and "gemm" in table


def test_hostile_names_stay_text(hostile, decoding):
    page = render((build_diff_page([diff(hostile.trace, decoding.trace, by=("phase", "name"))]),), title="x")
    assert "<script>alert" not in page and "<i>phase" not in page
    assert "&lt;i&gt;phase" in page


@pytest.mark.parametrize("text", ["", "5%%", "-1", "nan", "inf", "1000%", "5 percent"])
def test_broken_ratios_are_refused(text):
    with pytest.raises(ReportError, match=r"--threshold must be a ratio such as 5% or 0.05"):
        parse_ratio("--threshold", text)


@pytest.mark.slow
def test_300_000_calls_are_compared_without_a_step_for_each(decoding_20):
    times = 5_000
    calls = decoding_20.calls
    columns = ("op", "phase", "stream", "start_s", "duration_s", "energy_j")
    big = replace(
        decoding_20,
        modules=tuple(f"layers.{i}" for i in range(300)),
        calls=replace(
            calls,
            **{name: np.tile(getattr(calls, name), times) for name in columns},
            step=np.repeat(np.arange(1_000), 300),
            module=np.tile(np.arange(300), 1_000),
        ),
    )
    before, after = noisy(big, [1, 1, 1], 1), noisy(big, [1, 1.1, 1], 2)
    difference, steps = python_calls(lambda: diff(before, after, least_share=0.0))
    assert steps < 1_000_000  # of each call none
    assert len(difference.regressions) >= 100
