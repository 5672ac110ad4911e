"""Rows of `predict` on a chip that nobody measured keep its power limit, as a run of the simulator does."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from roofline.chip import Energy, Memory
from simulator import prediction
from simulator.bands import OpBands
from simulator.prediction import predict

MEMORY = Memory(name="hbm", capacity_bytes=8e10, bandwidth_bytes_per_s=1e12, latency_s=5e-7)
ENERGY = Energy(
    static_w=100,
    matrix_j_per_flop=(("bfloat16", 1e-12),),
    vector_j_per_flop=1e-20,
    memory_j_per_byte=(("hbm", 1e-9),),
)
COPY = pd.DataFrame([{"kind": "copy", "dtype": "bfloat16", "elements": 1_000_000_000}])


def test_copy_above_the_limit_takes_as_long_as_its_watts_allow(build):
    """4 GB at 1 nJ a byte are 4 J; 500 W leave 400 beside 100 static, so 10 ms and 5 J, not the 4 ms of 1 TB/s."""
    row = predict(COPY, build.chip(memories=(MEMORY,), energy=ENERGY, tdp_w=500.0)).iloc[0]
    assert row.predicted_s == pytest.approx(0.01, rel=1e-6)
    assert row.joules == pytest.approx(5.0, rel=1e-6)
    assert row.bound_by == "power"
    assert row.bound_s == pytest.approx(0.004, rel=1e-6)  # the roofline's, whatever power allows
    assert row.low_s <= row.predicted_s <= row.high_s
    # 1,000 W take 4 J in 4.44 ms: a ninth longer is held by power, too.
    slightly = predict(COPY, build.chip(memories=(MEMORY,), energy=ENERGY, tdp_w=1000.0)).iloc[0]
    assert (slightly.predicted_s, slightly.bound_by) == (pytest.approx(4 / 900, rel=1e-6), "power")


def test_copy_within_the_limit_is_left_alone(build):
    """4 GB at 1 TB/s are 4 ms and 1,100 W, which a limit of 1,200 W does not touch."""
    free, held = (
        predict(COPY, build.chip(memories=(MEMORY,), energy=ENERGY, tdp_w=limit_w)).iloc[0]
        for limit_w in (None, 1200.0)
    )
    assert held.predicted_s == free.predicted_s == pytest.approx(0.004, rel=0.01)
    assert held.bound_by == "hbm"


def bands_of(low, high):
    one = {"low_ratio": np.array([low]), "high_ratio": np.array([high]), "group": np.zeros(1, dtype=np.int64)}
    return lambda *_: OpBands(**one, basis=("",))


@pytest.mark.parametrize(
    ("static_w", "limit_w", "joules", "most"),
    [
        (100.0, None, 4.4, np.inf),  # 4 J of bytes and 100 W for 4 ms
        (100.0, 1200.0, 4.4, 4.8),  # 1,200 W for 4 ms
        (100.0, 500.0, 5.0, 5.0),  # held to the limit, for 10 ms: no board draws more
        (600.0, 500.0, 6.4, 6.4),  # static power above the limit, which nothing can keep
    ],
)
def test_joules_are_off_by_what_power_and_time_are(build, monkeypatch, static_w, limit_w, joules, most):
    """Power from 0.8 to 1.3 of the predicted and time from 0.9 to 1.1; above, a limit may leave less than 0.3."""
    monkeypatch.setattr(prediction, "op_bands", bands_of(0.9, 1.1))
    monkeypatch.setattr(prediction, "power_bands", bands_of(0.8, 1.3))
    energy, memory = replace(ENERGY, static_w=static_w), replace(MEMORY, latency_s=0.0)
    row = predict(COPY, build.chip(memories=(memory,), energy=energy, tdp_w=limit_w)).iloc[0]
    assert row.joules == pytest.approx(joules, rel=1e-6)
    assert row.joules_low == pytest.approx(joules * (1 - np.hypot(0.2, 0.1)), rel=1e-6)
    above = min(0.3, most / joules - 1)
    assert row.joules_high == pytest.approx(joules * (1 + np.hypot(above, 0.1)), rel=1e-6)


def test_joules_are_never_below_nothing(build, monkeypatch):
    """Power down to 0.1 and time down to 0.2 of the predicted are off by 1.2 together."""
    monkeypatch.setattr(prediction, "op_bands", bands_of(0.2, 1.1))
    monkeypatch.setattr(prediction, "power_bands", bands_of(0.1, 1.3))
    assert predict(COPY, build.chip(memories=(MEMORY,), energy=ENERGY)).iloc[0].joules_low == 0
