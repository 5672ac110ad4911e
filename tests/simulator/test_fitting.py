"""Fits: constants that made a table are found again, from far away, and only from the rows not held out."""

import numpy as np
import pandas as pd
import pytest

from simulator.kernels.constants import Constant
from simulator.validation import fitting
from simulator.validation.scores import predict_s, score, score_few_rows, scores_by_class
from simulator.validation.tables import measured_table

CONSTANTS = (
    Constant(name="memory_efficiency", low=0.3, high=1.0, start=0.9, unit="", meaning="part of the bandwidth"),
    Constant(name="launch_s", low=1e-7, high=1e-4, start=1e-5, unit="s", meaning="fixed cost"),
)


@pytest.fixture
def made(build, monkeypatch):
    """A chip, and rows that a model with efficiency 0.5 and 3 us of launch would measure on it."""
    chip = build.chip()

    def model(table, chip):
        found = dict(chip.calibration)
        bandwidth = found.get("made.memory_efficiency", 1.0) * chip.main_memory.bandwidth_bytes_per_s
        return found.get("made.launch_s", 0.0) + table.ops.moved_bytes[:, 0] / bandwidth

    monkeypatch.setattr(fitting, "predict_s", model)
    n = np.unique(np.geomspace(100, 1e6, 300).astype(int))
    frame = pd.DataFrame({"kind": "gemm", "dtype": "bfloat16", "m": 8, "n": n, "k": 512})
    moved = 2.0 * (8 * 512 + n * 512 + 8 * n)
    frame["measured_s"] = 3e-6 + moved / (0.5 * chip.main_memory.bandwidth_bytes_per_s)
    table = measured_table(frame, chip=chip, op="gemm", dtype="bfloat16", backend="made", keys=("n",), source="made")
    return chip, table


def test_constants_that_made_a_table_are_found(made):
    chip, table = made
    found = fitting.fit(table, chip, CONSTANTS, scope="made")
    assert dict(found.constants) == pytest.approx({"memory_efficiency": 0.5, "launch_s": 3e-6}, rel=0.02)
    assert found.after.mape_percent < 1.0 < found.before.mape_percent
    assert found.after.rows == int(table.held_out.sum())
    assert dict(found.chip.calibration)["made.launch_s"] == dict(found.constants)["launch_s"]
    assert "held out" in dict(found.chip.sources)["calibration.made"]


def test_what_the_rows_do_not_tell_stays_where_it_was(made):
    chip, table = made
    idle = Constant(name="idle_s", low=1e-7, high=1e-4, start=1e-5, unit="s", meaning="no row depends on it")
    moved = fitting.with_constants(chip, "made", (*CONSTANTS, idle), np.array([0.8, 2e-6, 7e-6]))
    found = dict(fitting.fit(table, moved, (*CONSTANTS, idle), scope="made", rows=60, stay_near=True).constants)
    assert found == pytest.approx({"memory_efficiency": 0.5, "launch_s": 3e-6, "idle_s": 7e-6}, rel=0.03)


def test_a_fit_leaves_out_what_the_section_of_the_chip_leaves_out(made):
    chip, table = made
    extra = Constant(name="extra_s", low=1e-7, high=1e-4, start=1e-5, unit="s", meaning="left out", default=0.0)
    listed = fitting.with_constants(chip, "made", CONSTANTS, np.array([0.8, 2e-6]))
    found = fitting.fit(table, listed, (*CONSTANTS, extra), scope="made")
    assert [name for name, _ in found.constants] == ["memory_efficiency", "launch_s"]
    # A chip without the section, and one whose constants came from another chip, may need it.
    for each, stays in ((chip, False), (listed, True)):
        found = fitting.fit(table, each, (*CONSTANTS, extra), scope="made", stay_near=stays)
        assert "extra_s" in dict(found.constants)


def test_a_fit_does_not_look_at_rows_held_out(made):
    chip, table = made
    spoiled = table.take(np.arange(len(table)))
    spoiled.measured_s[table.held_out] *= 100.0
    assert fitting.fit(spoiled, chip, CONSTANTS, scope="made").constants == (
        fitting.fit(table, chip, CONSTANTS, scope="made").constants
    )


def test_errors_are_those_worked_out_by_hand(build):
    frame = pd.DataFrame({"kind": "gemm", "dtype": "bfloat16", "m": [8, 8, 8, 100], "n": [1, 2, 3, 4], "k": 64})
    frame["measured_s"] = [1.0, 2.0, 4.0, 1.0]
    table = measured_table(
        frame, chip=build.chip(), op="gemm", dtype="bfloat16", backend="hand", keys=("n",), source="hand"
    )
    whole, small, large = scores_by_class(table, np.array([1.1, 1.0, 4.0, 2.0]))
    # errors +10, -50, 0, +100 percent
    assert (whole.mape_percent, whole.median_percent, whole.bias_percent) == pytest.approx((40.0, 30.0, 15.0))
    assert (small.size_class, small.rows, small.mape_percent) == ("m 1-16", 3, pytest.approx(20.0))
    assert (large.size_class, large.rows, large.p90_percent) == ("m 65-256", 1, pytest.approx(100.0))
    assert score(table, predict_s(table, build.chip())).rows == 4


def test_products_of_few_rows_have_an_error_of_their_own(build):
    frame = pd.DataFrame({"kind": "gemm", "dtype": "bfloat16", "m": [8, 512, 513], "n": [1, 2, 3], "k": 64})
    frame["measured_s"] = [1.0, 2.0, 4.0]
    table = measured_table(
        frame, chip=build.chip(), op="gemm", dtype="bfloat16", backend="hand", keys=("n",), source="hand"
    )
    (few,) = score_few_rows(table, np.array([1.1, 1.4, 9.0]))  # +10 and -30 percent; 513 rows are not few
    assert (few.size_class, few.rows, few.mape_percent, few.bias_percent) == (
        "m <=512",
        2,
        pytest.approx(20.0),
        pytest.approx(-10.0),
    )
    assert score_few_rows(table.take(np.array([2])), np.array([9.0])) == []
