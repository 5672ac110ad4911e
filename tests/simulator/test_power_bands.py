"""Error bands of joules: looked up, combined with those of time, capped by the limit, and covering measured kernels."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from roofline.chipfile import list_chips, load_chip
from simulator import prediction
from simulator.analytic import simulate
from simulator.bands import Band, OpBands, kernel_families, op_bands, shipped_bands
from simulator.clocks import steady_chip
from simulator.op_frame import ops_from_frame
from simulator.plans import plan_columns
from simulator.power_bands import BOARDS_RATIO, off_ratio, power_bands, run_band
from simulator.validation.power_at_limit import settled_s
from simulator.validation.power_ratios import bands_of_power, settled_power_w
from simulator.validation.power_tables import read_power_table
from simulator.validation.silicon import package_folder

GEMM = {"kind": "gemm", "dtype": "bfloat16", "m": 512, "n": 4096, "k": 4096}
ATTENTION = {"kind": "attention", "dtype": "bfloat16", "batch": 1, "heads": 32, "head_dim": 128, "keys": 1024}


def band(op, low, high, chip="h200-sxm"):
    return Band(chip=chip, basis="own", op=op, dtype="*", size_class="all", low_ratio=low, high_ratio=high, rows=100)


BANDS = (
    band("gemm", 0.8, 1.1), band("attention_bidirectional", 0.95, 1.0), band("attention_decode", 0.7, 1.2),
    band("moe", 0.75, 1.6, "b200-sxm"), band("gemm", 0.9, 1.3, "b200-sxm"),
)  # fmt: skip


def ends(row, chip="h200-sxm"):
    found = power_bands(ops_from_frame(pd.DataFrame([row])), load_chip(chip), BANDS)
    return pytest.approx((found.low_ratio.item(), found.high_ratio.item()))


def test_a_chips_own_power_counts_else_that_of_all_chips_and_of_another_board():
    assert ends(GEMM) == (0.8, 1.1)
    assert ends(GEMM, "h100-sxm") == (0.8 / BOARDS_RATIO, 1.3 * BOARDS_RATIO)
    assert ends({**ATTENTION, "queries": 1, "causal": 1}) == (0.7, 1.2)


def test_kinds_without_a_log_take_their_relatives_else_the_widest():
    assert ends({**ATTENTION, "queries": 1024, "causal": 1}) == (0.95, 1.0)  # as without a mask
    assert ends({"kind": "pointwise", "dtype": "bfloat16", "elements": 4096}) == (0.7, 1.2)  # streams, as decoding
    scan = {"kind": "scan", "dtype": "float32", "rows": 64, "columns": 64}
    assert ends(scan) == (0.7 / BOARDS_RATIO, 1.6 * BOARDS_RATIO)
    assert power_bands(ops_from_frame(pd.DataFrame([GEMM])), load_chip("h200-sxm"), ()) is None


def one_band(**changes):
    """Two calls of 3 and 1 J in a run of 5 J, the last of which nothing runs in; power 10 % lower to 20 % higher."""
    given = {
        "op_j": np.array([3.0, 1.0]), "counts": np.ones(2), "total_j": 5.0, "time_ratios": (1.0, 1.0),
        "most_j": math.inf,
        "bands": OpBands(low_ratio=np.full(2, 0.9), high_ratio=np.full(2, 1.2), group=np.zeros(2, int), basis=("x",)),
    }  # fmt: skip
    found = run_band(**(given | changes))
    return pytest.approx((found.low_j, found.high_j))


def test_joules_are_off_by_power_and_time_together():
    assert one_band() == (5 - 0.4, 5 + 0.8)  # of the 4 J that kernels take
    # 8 % and 6 % are 10 % together, 16 and 12 % 20 %.
    assert one_band(time_ratios=(0.94, 1.12)) == (5 - 0.5, 5 + 1.0)


def test_different_kinds_err_independently_and_no_board_draws_more_than_its_limit():
    apart = OpBands(low_ratio=np.array([0.9, 0.6]), high_ratio=np.ones(2), group=np.array([0, 1]), basis=("x", "y"))
    assert one_band(bands=apart) == (5 - 0.5, 5)  # 0.3 and 0.4 J
    assert one_band(most_j=5.2) == (5 - 0.4, 5.2)
    assert one_band(most_j=4.9) == (5 - 0.4, 5)


@pytest.mark.parametrize("name", [name for name in list_chips() if load_chip(name).energy is not None])
@pytest.mark.parametrize("mode", ["graph", "eager"])
def test_every_simulated_energy_has_a_band_around_it(build, name, mode):
    chip = load_chip(name)
    if "bfloat16" not in dict(chip.energy.matrix_j_per_flop):
        pytest.skip(f"{name} has no joules of a bfloat16 FLOP")
    trace = build.trace([build.gemm(4096, 4096, 4096), build.pointwise(10**7), build.gemm(1, 4096, 4096)], [0, 1, 2])
    result = simulate(trace, chip, mode=mode)
    assert 0 < result.energy_low_j < result.energy_j < result.energy_high_j
    printed = result.to_json()
    assert (printed["energy_low_j"], printed["energy_high_j"]) == (result.energy_low_j, result.energy_high_j)
    assert len(printed["energy_band_basis"]) >= 1
    unknown = simulate(trace, replace(chip, energy=None), mode=mode)
    assert unknown.energy_low_j is None
    assert unknown.energy_high_j is None


def test_predicted_rows_have_it_too():
    rows = pd.DataFrame([GEMM, {"kind": "pointwise", "dtype": "bfloat16", "elements": 10**8}])
    found = prediction.predict(rows, load_chip("h200-sxm"))
    assert (found.joules_low < found.joules).all()
    assert (found.joules_high > found.joules).all()
    unknown = prediction.predict(rows, replace(load_chip("h200-sxm"), energy=None))
    assert unknown[["joules", "joules_low", "joules_high"]].isna().all(axis=None)


@pytest.fixture
def h200_log(shared_data) -> Path:
    path: Path = shared_data("tables/kernel_power_h200.parquet")
    return path


def assert_alike(shipped, found):
    """Ends within two percent: constants of time that are fitted again move them a little."""
    assert [(band.op, band.rows) for band in shipped] == [(band.op, band.rows) for band in found]
    for ours, theirs in zip(shipped, found, strict=True):
        assert (ours.low_ratio, ours.high_ratio) == pytest.approx((theirs.low_ratio, theirs.high_ratio), rel=0.02)


def test_shipped_bands_are_those_of_the_logs(h200_log):
    shipped = [band for band in shipped_bands("power_bands.json") if band.chip == "h200-sxm"]
    assert_alike(shipped, bands_of_power(read_power_table(h200_log), load_chip("h200-sxm")))
    assert {band.op for band in shipped} == {"gemm", "attention_decode", "attention_bidirectional"}
    assert all(0.85 < band.coverage < 0.95 for band in shipped)


@pytest.mark.skipif(package_folder() is None, reason="aiconfigurator-core is not installed")
def test_those_of_the_b200_are_of_its_log(benchmark_module):
    chip = load_chip("b200-sxm")
    found = [band for table in benchmark_module("power_bands").b200_logs() for band in bands_of_power(table, chip)]
    assert_alike([band for band in shipped_bands("power_bands.json") if band.chip == chip.name], found)
    assert all(0.85 < band.coverage < 0.95 for band in found)


def test_measured_joules_of_an_h200s_kernels_lie_in_their_bands(h200_log):
    """Power times time of each kernel repeated until it settled, to whose time no constant was fitted.

    Bands of time are those of short bursts; at the limit more can go wrong, so fewer than 90 % lie inside.
    """
    chip, table = load_chip("h200-sxm"), read_power_table(h200_log)
    plans = plan_columns(table.ops, [steady_chip(chip)])
    predicted_w, predicted_s = settled_power_w(table.ops, chip), settled_s(plans, chip)
    power, time = power_bands(table.ops, chip), op_bands(table.ops, chip)
    above = np.minimum(power.high_ratio, np.maximum(1.0, chip.tdp_w / predicted_w)) - 1.0
    ratio = table.power_w * table.measured_s / (predicted_w * predicted_s)
    inside = (ratio >= 1.0 - off_ratio(1.0 - power.low_ratio, 1.0 - time.low_ratio)) & (
        ratio <= 1.0 + off_ratio(above, time.high_ratio - 1.0)
    )
    counts = table.counts & (table.ops.size("head_dim")[:, 0] <= 256)
    for families, chosen in kernel_families(table.ops):
        if (chosen & counts).any():
            assert inside[chosen & counts].mean() > 0.84, families
