from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from profiler.op import Op
from roofline.chip import Energy
from roofline.chipfile import load_chip
from simulator.analytic import simulate
from simulator.clocks import at_clock
from simulator.eager_kernels import eager_chip
from simulator.energy import OpEnergy, op_energy, static_w
from simulator.op_frame import ops_from_frame
from simulator.plans import plan_columns, plan_ops
from simulator.power_limit import HELD_PART, repeated_j

ENERGY = Energy(
    static_w=100.0,
    matrix_j_per_flop=(("bfloat16", 1e-12),),
    vector_j_per_flop=2e-12,
    memory_j_per_byte=(("l1", 1e-12), ("l2", 5e-12), ("hbm", 50e-12)),
)


def test_energy_of_a_stream_is_its_flops_and_bytes(build):
    energy = op_energy(plan_ops([build.pointwise(1000)], [build.chip(energy=ENERGY)]))
    assert isinstance(energy, OpEnergy)
    # 1,000 FLOPs at 2 pJ; 6,000 bytes at 1 + 5 + 50 pJ.
    assert energy.total_j == pytest.approx([2e-9 + 6000 * 56e-12])


def test_static_energy_grows_with_the_makespan(build):
    trace = build.trace([build.pointwise(1000)], [0] * 10)
    result = simulate(trace, build.chip(energy=ENERGY, launch_s=1e-3))
    assert dict(result.energy_parts_j)["static"] == pytest.approx(100.0 * result.makespan_s)
    assert result.energy_j == pytest.approx(sum(joules for _, joules in result.energy_parts_j))
    assert result.average_power_w == pytest.approx(100.0, rel=1e-3)


def test_causal_attention_pays_only_for_required_flops(build):
    ops = [build.attention(1, 8, 8, 1024, 1024, 64, causal) for causal in (True, False)]
    energy = op_energy(plan_ops(ops, [build.chip(energy=ENERGY)]))
    assert isinstance(energy, OpEnergy)
    causal, full = dict(energy.parts)["matrix"]
    assert causal / full == pytest.approx(0.5, rel=0.01)


def test_missing_constants_are_named_not_zero(build):
    table = plan_ops([build.gemm(64, 64, 64)], [build.chip()])
    assert op_energy(table) == "chip toy has no energy constants"
    untyped = replace(ENERGY, matrix_j_per_flop=())
    assert "bfloat16" in op_energy(plan_ops([build.gemm(64, 64, 64)], [build.chip(energy=untyped)]))
    no_main = replace(ENERGY, memory_j_per_byte=(("l1", 1e-12),))
    assert "hbm" in op_energy(plan_ops([build.gemm(64, 64, 64)], [build.chip(energy=no_main)]))
    no_l1 = replace(ENERGY, memory_j_per_byte=(("l2", 5e-12), ("hbm", 50e-12)))
    energy = op_energy(plan_ops([build.gemm(64, 64, 64)], [build.chip(energy=no_l1)]))
    assert isinstance(energy, OpEnergy)
    assert any("l1" in note for note in energy.notes)


def test_h100_draws_what_it_keeps_of_its_limit_in_large_products_and_less_in_decode(build):
    chip = load_chip("h100-sxm")
    trace = build.trace([build.gemm(8192, 8192, 8192)], [0] * 10)
    product, free = simulate(trace, chip), simulate(trace, replace(chip, tdp_w=None))
    assert product.average_power_w == pytest.approx(690, rel=1e-3)
    assert 1.05 < product.makespan_s / free.makespan_s < 1.25
    assert any("power limit of 700 W" in note for note in product.notes)
    decode = simulate(build.trace([build.gemm(1, 14336, 4096)], [0] * 10), chip).average_power_w
    assert decode is not None
    assert decode < 0.8 * 700


def test_joules_of_everything_but_main_memory_fall_with_the_square_of_the_voltage(build):
    table = plan_ops([build.gemm(512, 512, 512)], [build.chip(energy=ENERGY)])
    full, slow = (dict(op_energy(table, clock_ratio=ratio).parts) for ratio in (1.0, 0.8))
    assert slow["hbm"] == full["hbm"]
    for part in ("matrix", "vector", "l1", "l2"):
        assert slow[part] == pytest.approx(0.64 * full[part])
    floor = dict(op_energy(table, clock_ratio=0.5).parts)
    assert floor["matrix"] == pytest.approx(0.36 * full["matrix"])  # voltage stays at 0.6


def test_what_is_drawn_beyond_idle_falls_with_clock_and_voltage(build):
    chip = build.chip(energy=ENERGY)
    assert static_w(chip, 0.5) == 100  # nobody knows what it draws when idle
    assert static_w(replace(chip, idle_w=40.0), 0.8) == pytest.approx(40 + 60 * 0.8**3)
    assert static_w(replace(chip, idle_w=40.0)) == 100


def test_busy_cores_draw_power_while_a_kernel_runs(build):
    energy = replace(ENERGY, core_w=2.0)
    table = plan_ops([build.pointwise(10_000_000)], [build.chip(energy=energy, launch_s=1e-3)])
    parts = op_energy(table)
    assert isinstance(parts, OpEnergy)
    # 60 MB at 1 TB/s on all 100 cores of 2 W, and a hundredth of a stage that is not overlapped; the launch is idle.
    assert dict(parts.parts)["cores"] == pytest.approx([200 * 60e-6], rel=0.02)
    assert "cores" not in dict(op_energy(plan_ops([build.pointwise(1000)], [build.chip(energy=ENERGY)])).parts)


def test_instructions_of_eager_kernels_cost_as_float32_multiply_adds():
    """A million elements at 1.1 clocks of a core each, 256 FLOPs a clock at 0.8 pJ; compiled, next to nothing."""
    chip = load_chip("h100-sxm")
    row = {"kind": "copy", "dtype": "bfloat16", "elements": 10**6, "single_accesses": 10**6, "joins": 1}
    ops = ops_from_frame(pd.DataFrame([row]))
    clocks = dict(chip.calibration)["eager.elementwise.join_clocks"]
    for ratio in (1.0, 0.8):
        eager = at_clock(plan_columns(ops, [eager_chip(chip)]), ratio)
        joules = dict(op_energy(eager, clock_ratio=ratio).parts)["vector"].item()
        assert joules == pytest.approx(1e6 * clocks * 256 * 0.8e-12 * ratio**2, rel=1e-6)
    compiled = op_energy(plan_columns(ops, [chip]))
    assert dict(compiled.parts)["vector"].item() == 0


def test_cores_that_only_issue_draw_about_what_was_measured_on_a_b300():
    """361 to 437 W of float32 multiply-adds at 2.03 GHz (ademeure/QuickRunCUDA b300_clean/16_power_clock.md)."""
    b200, h100 = load_chip("b200-sxm"), load_chip("h100-sxm")
    issued_w = 2.03e9 * 148 * 256 * b200.energy.vector_j_per_flop
    assert 361 < b200.energy.static_w + issued_w < 437
    hopper_w = h100.energy.core_w + 2.03e9 * 256 * h100.energy.vector_j_per_flop  # a core, on another board
    assert (361 - 245) / 148 < hopper_w < (437 - 245) / 148


def test_joules_of_a_kernel_by_itself_keep_the_limit(build):
    chip = load_chip("h100-sxm")
    table = plan_ops([build.gemm(8192, 8192, 8192), build.gemm(1, 14336, 4096)], [chip])
    energy, seconds = op_energy(table), table.duration_s[:, 0]
    assert isinstance(energy, OpEnergy)
    large, small = repeated_j(energy, seconds, chip)
    assert large == pytest.approx(HELD_PART * 700 * seconds[0])
    assert small == pytest.approx(energy.total_j[1] + 228 * seconds[1])
    free = repeated_j(energy, seconds, replace(chip, tdp_w=None))
    assert free[0] > large
    assert free[1] == small


@pytest.fixture
def kernel_power(shared_data) -> pd.DataFrame:
    return pd.read_parquet(shared_data("tables/kernel_power_h200.parquet"))


def test_h200_products_match_measured_time_and_power(build, kernel_power):
    """Time constants come from other tables; measured board power is a running mean, noisy by about 100 W."""
    rows = kernel_power[kernel_power["op"] == "gemm"]
    ops = [build.gemm(int(m), int(n), int(k)) for m, n, k in zip(rows["m"], rows["n"], rows["k"], strict=True)]
    table = plan_ops(ops, [load_chip("h200-sxm")])
    seconds = table.duration_s[:, 0]
    error = np.abs(seconds / (rows["latency_ms"].to_numpy() * 1e-3) - 1)
    assert error.mean() < 0.12
    energy = op_energy(table)
    assert isinstance(energy, OpEnergy)
    power_w = np.minimum(energy.total_j / seconds + energy.static_w, HELD_PART * 700.0)
    assert np.median(power_w) == pytest.approx(rows["power_w"].median(), rel=0.12)


@pytest.mark.parametrize(
    ("op", "median_w", "mean_percent"),
    [
        ("gemm", 12, 10),
        ("encoder_attention", 12, 4),
        ("generation_attention", 75, 20),
        ("context_attention", 160, 36),  # on a cache that nothing was written to: comes out too high
    ],
)
def test_h200_kernels_match_measured_power_where_the_sensor_has_settled(
    build, kernel_power, op, median_w, mean_percent
):
    """Every fifth kernel of at least 0.4 ms; what ran before blurs figures below the limit."""
    rows = kernel_power[(kernel_power["op"] == op) & (kernel_power["latency_ms"] >= 0.4)].iloc[::5]
    table = plan_ops([_measured_kernel(build, row) for row in rows.itertuples()], [load_chip("h200-sxm")])
    energy = op_energy(table)
    assert isinstance(energy, OpEnergy)
    power_w = np.minimum(energy.total_j / table.duration_s[:, 0] + energy.static_w, HELD_PART * 700.0)
    error_w = np.abs(power_w - rows["power_w"].to_numpy())
    assert np.median(error_w) < median_w
    assert 100 * (error_w / rows["power_w"]).mean() < mean_percent


def _measured_kernel(build, row) -> Op:
    if row.op == "gemm":
        return build.gemm(int(row.m), int(row.n), int(row.k))
    batch, heads, queries, width = int(row.batch_size), int(row.num_heads), int(row.isl), int(row.head_dim)
    if row.op == "encoder_attention":
        return build.attention(batch, heads, heads, queries, queries, width, False)
    keys = int(row.step) + 1 if row.op == "generation_attention" else queries
    return build.attention(batch, heads, int(row.num_key_value_heads), queries, keys, width, keys == queries > 1)


def test_readings_of_short_kernels_are_low_at_the_same_bandwidth(kernel_power):
    """Why fits leave them out: keys and values stream at 3.4 TB/s and more, and only the kernel's time differs."""
    rows = kernel_power[kernel_power["op"] == "generation_attention"]
    cached = rows["batch_size"] * (rows["step"] + 1.0) * rows["num_key_value_heads"] * rows["head_dim"] * 4.0
    streaming = rows[cached / (rows["latency_ms"] * 1e-3) > 3.4e12]
    ends = [0.12, 0.15, 0.4, 0.6, 2.0]
    medians = streaming.groupby(pd.cut(streaming["latency_ms"], ends), observed=True)["power_w"].median()
    assert medians.is_monotonic_increasing
    assert medians.iloc[0] < 400
    assert 530 < medians.iloc[-2] < medians.iloc[-1] < 600
