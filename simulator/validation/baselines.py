"""What kernel models are compared with: a datasheet roofline, and one with fitted efficiencies and a constant."""

import numpy as np
from scipy.optimize import least_squares

from roofline.chip import Chip
from simulator.chip_columns import ChipColumns
from simulator.op_columns import FloatArray, IntArray
from simulator.stages import smooth_max
from simulator.validation.tables import MeasuredTable

_START = [3.0, 0.8, 0.8, 3.0]  # us of a launch, efficiencies of computing and memory, sharpness of the maximum


def roofline_times_s(table: MeasuredTable, chip: Chip) -> tuple[FloatArray, FloatArray]:
    """Seconds of every row's required FLOPs and of its bytes at the datasheet's peaks, [rows] each."""
    ops, columns = table.ops, ChipColumns.from_chips([chip])
    flops_per_s = 2.0 * columns.macs[ops.dtype[:, 0], 0] * chip.cores * chip.clock_hz
    compute_s = ops.required_matrix_flops[:, 0] / flops_per_s
    return compute_s, ops.moved_bytes[:, 0] / chip.main_memory.bandwidth_bytes_per_s


def datasheet_roofline_s(table: MeasuredTable, chip: Chip) -> FloatArray:
    """The longer of compute and memory at datasheet peaks, [rows]."""
    return np.maximum(*roofline_times_s(table, chip))


def fitted_roofline_s(table: MeasuredTable, chip: Chip) -> FloatArray:
    """t0 + smooth maximum of both over their efficiencies, four constants fitted to the rows not held out, [rows].

    NaN where those are fewer than the constants.
    """
    compute_s, memory_s = roofline_times_s(table, chip)
    seen = np.flatnonzero(~table.held_out)
    if len(seen) < len(_START):
        return np.full(len(table), np.nan)
    seen = seen[:: max(1, len(seen) // 4000)]

    def predicted(x: FloatArray, rows: IntArray | slice) -> FloatArray:
        compute, memory = compute_s[rows] / x[1], memory_s[rows] / x[2]
        total: FloatArray = 1e-6 * x[0] + smooth_max(compute, memory, x[3])
        return total

    fit = least_squares(
        lambda x: np.log(predicted(x, seen) / table.measured_s[seen]),
        x0=_START,
        bounds=([0.01, 0.05, 0.05, 1.0], [100.0, 1.5, 1.5, 20.0]),
        loss="soft_l1",
        f_scale=0.1,
    )
    return predicted(fit.x, slice(None))
