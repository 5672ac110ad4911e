import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from profiler.capture import capture
from roofline.chip import Energy
from roofline.chipfile import load_chip
from simulator import analytic, event
from simulator.analytic import simulate
from simulator.energy import OpEnergy, op_energy
from simulator.plans import plan_ops

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


def test_h100_draws_about_its_limit_in_large_products_and_less_in_decode(build):
    chip = replace(load_chip("h100-sxm"), tdp_w=None)  # without the limit that would hold it
    product = simulate(build.trace([build.gemm(8192, 8192, 8192)], [0] * 10), chip).average_power_w
    decode = simulate(build.trace([build.gemm(1, 14336, 4096)], [0] * 10), chip).average_power_w
    assert product is not None
    assert decode is not None
    assert 0.75 * 700 < product < 1.15 * 700
    assert decode < product


@pytest.fixture
def kernel_power() -> pd.DataFrame:
    folder = Path(os.environ.get("ROOFSCAPE_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
    path = folder / "tables" / "kernel_power_h200.parquet"
    if not path.exists():
        pytest.skip(f"measured H200 kernel power not found at {path}; set ROOFSCAPE_SHARED_DATA")
    return pd.read_parquet(path)


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
    power_w = energy.total_j / seconds + energy.static_w
    assert np.median(power_w) == pytest.approx(rows["power_w"].median(), rel=0.12)


def test_power_limit_stretches_the_run_until_it_is_kept() -> None:
    """A 16384-cube product on an H100 held to 400 W: the mean is the limit, the dynamic joules stay."""
    x = torch.empty(16384, 16384, dtype=torch.bfloat16, device="meta")
    with capture(name="product") as recording:
        _ = x @ x
    full = replace(load_chip("h100-sxm"), tdp_w=None)
    free = analytic.simulate(recording.trace, full)
    assert free.average_power_w is not None
    for engine in (analytic, event):
        held = engine.simulate(recording.trace, replace(full, tdp_w=400.0))
        assert held.average_power_w == pytest.approx(400.0, rel=1e-6)
        assert held.makespan_s > free.makespan_s
        assert dict(held.energy_parts_j)["matrix"] == dict(free.energy_parts_j)["matrix"]
        assert any("power limit of 400 W" in note for note in held.notes)
    loose = analytic.simulate(recording.trace, replace(full, tdp_w=5000.0))
    assert loose.makespan_s == free.makespan_s
