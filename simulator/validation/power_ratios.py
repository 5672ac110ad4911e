"""Bands of power from logs of boards: measured over predicted power of kernels, each repeated until it had settled."""

import numpy as np

from roofline.chip import Chip
from simulator.bands import COVERAGE, OWN, Band, kernel_families
from simulator.clocks import at_clock, steady_chip
from simulator.energy import op_energy, static_w
from simulator.errors import SimulationError
from simulator.op_columns import BoolArray, FloatArray, OpColumns
from simulator.plans import plan_columns
from simulator.power_limit import kernel_clocks
from simulator.validation.power_tables import PowerTable

_TAILS = (50.0 * (1.0 - COVERAGE), 50.0 * (1.0 + COVERAGE))  # percentiles
_LEAST_ROWS = 40  # in each half; fewer say nothing of a 90 % band
_WIDEST_HEAD = 256  # wider ones run in kernels that no band of time covers, some thirty times slower than all others


def settled_power_w(ops: OpColumns, chip: Chip) -> FloatArray:
    """Mean power of each op repeated until its clock has settled, at the times that the model says, [O].

    Raises:
        SimulationError: the chip has no energy constants for them.
    """
    plans = plan_columns(ops, [steady_chip(chip)])
    ratio = kernel_clocks(plans, chip)
    slower = at_clock(plans, ratio[:, None])
    energy = op_energy(slower, clock_ratio=ratio)
    if isinstance(energy, str):
        raise SimulationError(energy)
    power_w: FloatArray = static_w(chip, ratio) + energy.total_j / slower.duration_s[:, 0]
    return power_w


def bands_of_power(table: PowerTable, chip: Chip) -> list[Band]:
    """One band for each family of kernels in a log, from half of its rows, with the coverage of the other half.

    Rows count that a fit of power would look at, but for wide heads of attention.

    Args:
        table: measured kernels.
        chip: that they were measured on.
    """
    counts = table.counts & (table.ops.size("head_dim")[:, 0] <= _WIDEST_HEAD)
    ratio = table.power_w / settled_power_w(table.ops, chip)
    bands = []
    for families, chosen in kernel_families(table.ops):
        rows = chosen & counts
        if len(families) == 1 and min((rows & table.half).sum(), (rows & ~table.half).sum()) >= _LEAST_ROWS:
            bands.append(_band(chip, families[0], ratio[rows], table.half[rows]))
    return bands


def _band(chip: Chip, family: str, ratio: FloatArray, held_out: BoolArray) -> Band:
    low, high = np.percentile(ratio[~held_out], _TAILS)
    low, high = min(float(low), 1.0), max(float(high), 1.0)
    inside = (ratio[held_out] >= low) & (ratio[held_out] <= high)
    return Band(
        chip=chip.name,
        basis=OWN,
        op=family,
        dtype="*",
        size_class="all",
        low_ratio=round(low, 4),
        high_ratio=round(high, 4),
        rows=int((~held_out).sum()),
        coverage=round(float(inside.mean()), 4),
    )
