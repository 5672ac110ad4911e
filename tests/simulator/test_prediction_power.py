"""Rows of `predict` on a chip that nobody measured keep its power limit, as a run of the simulator does."""

import pandas as pd
import pytest

from roofline.chip import Energy, Memory
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
    assert row.low_s <= row.predicted_s <= row.high_s


def test_copy_within_the_limit_is_left_alone(build):
    """4 GB at 1 TB/s are 4 ms and 1,100 W, which a limit of 1,200 W does not touch."""
    free, held = (
        predict(COPY, build.chip(memories=(MEMORY,), energy=ENERGY, tdp_w=limit_w)).iloc[0]
        for limit_w in (None, 1200.0)
    )
    assert held.predicted_s == free.predicted_s == pytest.approx(0.004, rel=0.01)
    assert held.bound_by == "hbm"
