"""The clock at a power limit: fixed points by hand, what must hold for any limit, and measured kernels that settled."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from reports.cli import app
from roofline.chip import Chip, Energy
from roofline.chipfile import load_chip
from simulator import analytic, event
from simulator.clocks import steady_chip
from simulator.plans import plan_columns, plan_ops
from simulator.power_limit import HELD_PART, kept_limit_w, kernel_clocks, sets_its_clock
from simulator.validation.power_at_limit import RANDOM_DATA, SETTLED_S, burst_s, settled_s
from simulator.validation.silicon import package_folder, silicon_table

NEEDS_TABLES = pytest.mark.skipif(package_folder() is None, reason="aiconfigurator-core is not installed")
_OWN = (("gemm.sustained_clock_ratio", 1.0),)  # with it, a chip's clock follows from its power


def board(build, *, matrix_j=1e-12, hbm_j=0.0, limit_w=None, **changes) -> Chip:
    """The toy chip without static power: a product on it takes 2 mnk / 204.8 TFLOP/s and 1 pJ a FLOP, nothing else."""
    energy = Energy(
        static_w=0.0, matrix_j_per_flop=(("bfloat16", matrix_j),), vector_j_per_flop=0.0,
        memory_j_per_byte=(("l1", 0.0), ("l2", 0.0), ("hbm", hbm_j)),
    )  # fmt: skip
    chip: Chip = build.chip(energy=energy, calibration=_OWN, **changes)
    return replace(chip, tdp_w=limit_w)


def large(build, calls=3):
    return build.trace([build.gemm(8192, 8192, 8192)], [0] * calls)


def test_clock_of_a_run_that_its_cores_bind_is_the_cube_root_of_the_power_left(build):
    """Power goes with clock and voltage squared: half of it is left at 0.5^(1/3) = 0.7937 of the clock."""
    free = analytic.simulate(large(build), board(build))
    chip = board(build, limit_w=0.5 * free.average_power_w / HELD_PART)
    held = analytic.simulate(large(build), chip)
    assert held.average_power_w == pytest.approx(0.5 * free.average_power_w, rel=1e-6)
    assert held.makespan_s == pytest.approx(free.makespan_s / 0.5 ** (1 / 3), rel=0.01)  # operands of the first tiles
    assert held.energy_j == pytest.approx(free.energy_j * 0.5 ** (2 / 3), rel=0.01)


def test_voltage_stays_at_its_floor(build):
    """At 0.6 of the clock 0.216 of the power is left; a tenth of it is left at 0.1 / 0.36 = 0.2778 of the clock."""
    free = analytic.simulate(large(build), board(build))
    held = analytic.simulate(large(build), board(build, limit_w=0.1 * free.average_power_w / HELD_PART))
    assert held.average_power_w == pytest.approx(0.1 * free.average_power_w, rel=1e-6)
    assert held.makespan_s == pytest.approx(free.makespan_s * 0.36 / 0.1, rel=0.01)
    assert held.energy_j == pytest.approx(0.36 * free.energy_j, rel=1e-6)


def test_what_the_lowest_clock_cannot_keep_is_stretched(build):
    """Main memory's joules fall with no clock: 600 MB at 1 nJ a byte are 0.6 J, which 100 W take 6 ms for."""
    chip = board(build, hbm_j=1e-9, limit_w=100.0 / HELD_PART)
    trace = build.trace([build.pointwise(100_000_000)], [0])
    held = analytic.simulate(trace, chip)
    assert held.makespan_s == pytest.approx(6e-3, rel=1e-6)
    assert held.energy_j == pytest.approx(0.6, rel=1e-6)
    assert any("slowed" in note for note in held.notes)


def test_a_stream_keeps_its_time_at_a_lower_clock(build):
    """Cores draw less at a lower clock; as long as main memory is the slower side, the limit costs no time."""
    energy = Energy(
        static_w=0.0, matrix_j_per_flop=(("bfloat16", 0.0),), vector_j_per_flop=1e-9,
        memory_j_per_byte=(("l1", 0.0), ("l2", 0.0), ("hbm", 0.0)),
    )  # fmt: skip
    trace = build.trace([build.pointwise(100_000_000)], [0])
    free = analytic.simulate(trace, replace(board(build), energy=energy))
    limited = replace(board(build), energy=energy, tdp_w=0.64 * free.average_power_w / HELD_PART)
    held = analytic.simulate(trace, limited)
    assert held.makespan_s == pytest.approx(free.makespan_s, rel=1e-3)
    assert held.energy_j == pytest.approx(0.64 * free.energy_j, rel=1e-3)  # 0.8 of the clock


@pytest.mark.parametrize("name", ["h100-sxm", "a100-sxm-80gb", "b200-sxm"])
@pytest.mark.parametrize("mode", ["graph", "eager"])
def test_more_power_is_never_slower_and_nothing_jumps(build, name, mode):
    chip = load_chip(name)
    ops = [build.gemm(4096, 4096, 4096), build.attention(4, 16, 16, 2048, 2048, 128, False), build.pointwise(10**7)]
    trace = build.trace(ops, [0, 1, 2, 2, 1, 0] * 3)
    free = analytic.simulate(trace, replace(chip, tdp_w=None), mode=mode)
    before = np.inf
    limits = sorted([*np.linspace(0.3, 1.2, 31), 0.9999, 1.0, 1.0001])
    for part in limits:
        held = analytic.simulate(trace, replace(chip, tdp_w=part * free.average_power_w / HELD_PART), mode=mode)
        assert held.average_power_w <= part * free.average_power_w * (1 + 1e-6)
        assert free.makespan_s * (1 - 1e-9) <= held.makespan_s <= before * (1 + 1e-9)
        assert (held.op_duration_s >= held.op_bound_s * (1 - 1e-12)).all()
        if part == 0.9999:
            assert held.makespan_s == pytest.approx(free.makespan_s, rel=1e-3)
        if part >= 1.0:
            assert held.makespan_s == pytest.approx(free.makespan_s, rel=1e-9)
        before = held.makespan_s


@pytest.mark.parametrize("limit_w", [300.0, 400.0, 550.0, 700.0, 2000.0])
def test_both_engines_find_the_same_clock(build, limit_w):
    chip = replace(load_chip("h100-sxm"), tdp_w=limit_w)
    trace = build.trace([build.gemm(8192, 8192, 8192), build.pointwise(10**8)], [0, 1] * 5)
    closed, played = (engine.simulate(trace, chip) for engine in (analytic, event))
    assert played.makespan_s == pytest.approx(closed.makespan_s, rel=1e-6)
    assert played.energy_j == pytest.approx(closed.energy_j, rel=1e-6)
    kept_w = min(HELD_PART * limit_w, closed.average_power_w)
    assert played.average_power_w == pytest.approx(kept_w, rel=1e-5)


def test_kernels_by_themselves_keep_the_limit(build):
    chip = load_chip("h100-sxm")
    ops = [build.gemm(8192, 8192, 8192), build.gemm(1, 4096, 4096)]
    product, row = kernel_clocks(plan_ops(ops, [steady_chip(chip)]), chip)
    assert 0.8 < product < 0.95
    assert row == 1


def test_chips_with_constants_of_others_are_stretched_as_they_were(build):
    """What an imagined board's regulator does is not known: joules stay, and the limit itself is kept."""
    own = board(build, limit_w=100.0)
    foreign = replace(own, sources=(("calibration.gemm", "constants of another chip"),))
    assert sets_its_clock(own)
    assert not sets_its_clock(foreign)
    assert (kept_limit_w(own), kept_limit_w(foreign)) == (pytest.approx(98.6), 100)
    free = analytic.simulate(large(build), replace(foreign, tdp_w=None))
    held = analytic.simulate(large(build), foreign)
    assert held.energy_j == free.energy_j
    assert held.makespan_s == pytest.approx(free.energy_j / 100)


@NEEDS_TABLES
@pytest.mark.parametrize("chip", ["h100-sxm", "h200-sxm", "b200-sxm", "l40s"])
@pytest.mark.parametrize("backend", RANDOM_DATA)
def test_clocks_fall_within_a_tenth_of_a_second_not_within_a_kernel(chip, backend):
    """TFLOP/s of large products go with the length of the burst, by library, whose graphs hold one product or six."""
    table = silicon_table(load_chip(chip), "gemm", "bfloat16", backend)
    sizes = np.array([table.ops.size(name)[:, 0] for name in ("m", "n", "k")])
    rate = 2e-12 * sizes.prod(axis=0) / table.measured_s
    is_large = (sizes[:2].min(axis=0) >= 4096) & (sizes[2] >= 3072)
    bursts = burst_s(table)
    short = np.median(rate[is_large & (bursts > 0.01) & (bursts < 0.03)])
    settled = np.median(rate[is_large & (bursts > 0.1) & (bursts < 0.4)])
    longest = np.median(rate[is_large & (bursts > 0.4)])
    assert settled < 0.94 * short
    assert longest == pytest.approx(settled, rel=0.1)


@NEEDS_TABLES
@pytest.mark.parametrize("backend", RANDOM_DATA)
def test_power_log_of_the_h200_predicts_the_rate_at_which_products_settle(backend):
    """Two independent figures: watts below the limit (one table), rates at the limit (others).

    Two digits of joules leave 1 % of the rate open, and what part of the limit boards keep, 0.986, some more.
    """
    chip = load_chip("h200-sxm")
    table = silicon_table(chip, "gemm", "bfloat16", backend)
    least = np.min([table.ops.size(name)[:, 0] for name in ("m", "n", "k")], axis=0)
    table = table.take(np.flatnonzero((burst_s(table) > SETTLED_S) & (least >= 512)))
    plans = plan_columns(table.ops, [steady_chip(chip)])
    error = 100 * (np.median(settled_s(plans, chip) / table.measured_s) - 1)
    assert abs(error) < 2
    assert 100 * (np.median(plans.duration_s[:, 0] / table.measured_s) - 1) < -15  # at full clocks


@NEEDS_TABLES
@pytest.mark.parametrize("chip", ["h100-sxm", "h200-sxm"])
def test_causal_attention_settles_at_the_clock_that_constants_of_products_say(chip):
    """No energy constant was fitted to attention; nine replays of more than 11 ms each."""
    loaded = load_chip(chip)
    table = silicon_table(loaded, "attention_prefill", "bfloat16", "vllm")
    table = table.take(np.flatnonzero(9 * table.measured_s > SETTLED_S))
    plans = plan_columns(table.ops, [steady_chip(loaded)])
    assert len(table) > 200
    assert 100 * (np.median(settled_s(plans, loaded) / table.measured_s) - 1) == pytest.approx(0, abs=2.5)
    assert 100 * (np.median(plans.duration_s[:, 0] / table.measured_s) - 1) < -7  # at full clocks


@pytest.mark.parametrize(
    ("limit_w", "rate", "off_percent"), [(1100.0, (1492, 1496, 1487, 1503), 6), (600.0, (836, 839, 831, 829), 11)]
)
def test_products_of_a_b300_settle_near_where_the_joules_of_a_b200_say(build, limit_w, rate, off_percent):
    """cuBLAS, 8,192 x n x 8,192 of random bfloat16, under two power limits: the same cores, and no constant is from it.

    ademeure/QuickRunCUDA@0bb48c3 b300_clean/CUBLAS_REAL_VALIDATION.md; its clock settles at 1,250 to 1,290 MHz of 1,100
    W. With 0.53 pJ a FLOP, as if what products lose at once were no clock, rates under 600 W come out 28 % too high.
    """
    chip = replace(load_chip("b200-sxm"), tdp_w=limit_w)
    columns = (8192, 16384, 28672, 32768)
    plans = plan_ops([build.gemm(8192, n, 8192) for n in columns], [steady_chip(chip)])
    predicted = 2e-12 * 8192**2 * np.array(columns) / settled_s(plans, chip)
    assert np.abs(100 * (predicted / np.array(rate) - 1)).max() < off_percent
    if limit_w == 1100:
        assert 1250e6 < (kernel_clocks(plans, chip) * chip.clock_hz).mean() < 1.05 * 1290e6


@NEEDS_TABLES
@pytest.mark.parametrize("chip", ["h100-sxm", "a100-sxm-80gb", "b200-sxm", "l40s"])
def test_shipped_joules_at_the_limit_are_those_that_the_command_finds(chip, tmp_path):
    output = tmp_path / "chip.toml"
    done = CliRunner().invoke(app, ["fit", "--power", "--chip", chip, "-o", str(output), "--json"])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    shipped = load_chip(chip).energy
    assert shipped is not None
    joules = dict(shipped.matrix_j_per_flop)["bfloat16"]
    assert printed["after_percent"] < (6 if chip == "l40s" else 4.5)
    if chip == "h100-sxm":  # the mean of two boards of one die
        same_die = load_chip("h200-sxm").energy
        assert same_die is not None
        pooled = np.sqrt(printed["joules"] * dict(same_die.matrix_j_per_flop)["bfloat16"])
        assert joules == pytest.approx(pooled, abs=0.005e-12)
    else:
        assert printed["joules"] == pytest.approx(joules, rel=1e-6)
        assert load_chip(str(output)).energy == shipped


def test_boards_settle_a_little_below_their_limit(shared_data):
    path = shared_data("tables/kernel_power_h200.parquet")
    table = pd.read_parquet(path)
    long = table[(table["op"] == "encoder_attention") & (table["latency_ms"] >= 1)]
    assert len(long) == 1875
    assert long["power_w"].median() / 700 == pytest.approx(HELD_PART, abs=0.0015)


@NEEDS_TABLES
@pytest.mark.parametrize(
    ("file", "part"), [("attention/vllm/0.22.0/context_attention", 0.982), ("moe/vllm/0.22.0/moe", 0.994)]
)
def test_a_b200_settles_likewise(file, part):
    """Of kernels of 1 ms and more that draw over 96 % of the limit, half read more than this."""
    table = pd.read_parquet(package_folder() / "b200_sxm" / f"{file}_perf.parquet")
    at_limit = table[(table["latency"] >= 1) & (table["power"] > 960)]["power"] / 1000
    assert len(at_limit) > 1000
    assert at_limit.median() == pytest.approx(part, abs=0.01)
    assert pytest.approx(part, abs=0.01) == HELD_PART


@NEEDS_TABLES
def test_streams_of_a_b200_read_as_different_as_its_page_says(benchmark_module):
    """Layers of experts that main memory binds read the limit; decoding that streams faster does not, but with 8 bits.

    So one constant a byte cannot say both (docs/energy.md, constants at the limit).
    """
    module = benchmark_module("stream_joules")
    chip, (table, found) = load_chip("b200-sxm"), module.streamed_experts()
    for half in (found & table.half, found & ~table.half):
        assert np.median(table.power_w[half]) == pytest.approx(HELD_PART * chip.tdp_w, abs=2)
        assert 1.8 < np.median(module.joules_per_byte(table, chip)[half]) / 56.2e-12 < 2
    watts = module.decoding_w()
    assert np.percentile(watts["fp8"], 25) > 950
    assert np.percentile(watts["bfloat16"], 75) < 800
