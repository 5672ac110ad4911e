import json

import numpy as np
import pytest

from roofline.chip import Energy
from simulator.analytic import simulate

ENERGY = Energy(
    static_w=100.0,
    matrix_j_per_flop=(("bfloat16", 1e-12),),
    vector_j_per_flop=2e-12,
    memory_j_per_byte=(("l1", 1e-12), ("l2", 5e-12), ("hbm", 50e-12)),
)


@pytest.fixture
def result(build):
    ops = [build.gemm(512, 512, 512), build.pointwise(100_000), build.unknown(1000)]
    return simulate(build.trace(ops, [0, 1, 1, 2, 0]), build.chip(energy=ENERGY, launch_s=1e-6))


def test_result_is_equal_when_computed_again(build, result):
    ops = [build.gemm(512, 512, 512), build.pointwise(100_000), build.unknown(1000)]
    trace = build.trace(ops, [0, 1, 1, 2, 0])
    assert simulate(trace, build.chip(energy=ENERGY, launch_s=1e-6)) == result
    assert simulate(trace, build.chip(energy=ENERGY, launch_s=2e-6)) != result
    assert result.provenance.created_utc == ""


def test_frame_has_a_row_per_call_and_the_summary_adds_up(result):
    frame = result.to_frame()
    assert frame["kind"].tolist() == ["gemm", "pointwise", "pointwise", "unknown", "gemm"]
    summary = result.summary()
    assert summary["calls"].sum() == 5
    assert summary["duration_s"].sum() == pytest.approx(result.makespan_s)
    assert summary["bound_s"].sum() == pytest.approx(result.bound_s)
    assert summary["duration_s"].is_monotonic_decreasing
    assert result.summary(by=("name",))["calls"].sum() == 5


def test_utilization_lies_between_zero_and_one(result):
    assert all(0 <= part <= 1 for _, part in result.utilization)
    matrix = dict(result.utilization)["matrix"]
    assert matrix == pytest.approx(2 * 2 * 512**3 / (204.8e12 * result.makespan_s))


def test_a_chip_without_constants_carries_the_band_of_such_chips(result):
    assert 0 < result.low_s < result.makespan_s < result.high_s
    assert result.band_reason == ""
    assert "gemm without constants" in result.band_basis


def test_band_is_missing_with_a_reason_where_nothing_was_validated(build, monkeypatch):
    monkeypatch.setattr("simulator.bands.shipped_bands", tuple)
    result = simulate(build.trace([build.pointwise(10)], [0]), build.chip())
    assert (result.low_s, result.high_s, result.band_basis) == (None, None, ())
    assert "no band yet" in result.band_reason


def test_json_is_valid_and_holds_what_is_unknown_as_null(build, result):
    text = json.dumps(result.to_json(), allow_nan=False)
    assert json.loads(text)["low_s"] == result.low_s
    unknown = simulate(build.trace([build.pointwise(10)], [0]), build.chip())
    assert json.loads(json.dumps(unknown.to_json(), allow_nan=False))["energy_j"] is None
    assert "no energy constants" in unknown.energy_reason
    assert np.isnan(unknown.to_frame()["dynamic_energy_j"]).all()
    assert unknown.average_power_w is None
