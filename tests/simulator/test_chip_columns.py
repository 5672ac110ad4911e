"""Calibration constants of chips as columns."""

import numpy as np

from simulator.chip_columns import ChipColumns


def test_the_most_specific_constant_counts(build):
    constants = (("wave_s", 1.0), ("gemm.wave_s", 2.0), ("gemm.float8_e4m3fn.wave_s", 3.0))
    columns = ChipColumns.from_chips([build.chip(calibration=constants), build.chip(calibration=()), build.chip()])
    assert columns.constant("wave_s", "gemm.float8_e4m3fn", "gemm", default=9.0).tolist() == [3.0, 9.0, 9.0]
    assert columns.constant("wave_s", "gemm.bfloat16", "gemm", default=9.0).tolist() == [2.0, 9.0, 9.0]
    assert columns.constant("wave_s", "attention", default=np.array([7.0, 8.0, 9.0])).tolist() == [1.0, 8.0, 9.0]
