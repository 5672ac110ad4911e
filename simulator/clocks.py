"""Kernels at lower clocks: what a power limit leaves of a chip's clock, and what plans take then.

Tables of kernels are measured in bursts of some ten milliseconds that begin at full clocks, so kernel models hold a
term by which the clock falls within a long kernel. A run lasts longer than any regulator takes: its clock is the same
for long and short kernels, and follows from its own power (`simulator.power_limit`). Here that term is taken out, and
plans are stretched to a part of the clock. What is faster than a regulator stays: a B200's products fall to three
quarters of their peak within microseconds, by their own power, and a run's clock slows them only from there on.
"""

from dataclasses import replace

import numpy as np

from roofline.chip import Chip
from simulator.kernels.gemm import KINDS, held_clock_ratio
from simulator.op_columns import FloatArray, kind_code
from simulator.plans import PlanTable, main_loop

# A fitted settling time below this is no regulator's, which take milliseconds: the matrix units hold back at once.
_LEAST_SETTLE_S = 1e-4


def steady_chip(chip: Chip) -> Chip:
    """The chip as a run finds it: its clock is the same throughout, however long a kernel is.

    Args:
        chip: with constants that were fitted to bursts of kernels.
    """
    known = dict(chip.calibration)
    settles = known.get("gemm.clock_settle_s", np.inf) >= _LEAST_SETTLE_S
    steady = tuple((key, _steady_value(key, value, settles=settles)) for key, value in chip.calibration)
    return chip if steady == chip.calibration else replace(chip, calibration=steady)


def _steady_value(key: str, value: float, *, settles: bool) -> float:
    name = key.rpartition(".")[2]
    if name == "sustained_clock_ratio" and settles:
        return 1.0
    return 0.0 if name == "sustained_slowdown" else value


def at_clock(table: PlanTable, ratio: float | FloatArray, held: FloatArray | None = None) -> PlanTable:
    """The same kernels at a part of the chip's clock: cores and their own memories slow down, all else does not.

    Tiles stay, since libraries choose them without looking at the clock. Launches, latencies, shared caches, main
    memory and links keep their time: main memory has a clock of its own, and that of the caches is not known apart.
    Products whose matrix units run at a part of the clock by themselves keep their time down to that part.

    Args:
        table: plans at full clock, [O, C].
        ratio: of the clock, 0-1; one for all, or one for each op and chip, broadcast to [O, C].
        held: `held_ratio` of the table, for who asks for many clocks of one.
    """
    columns, held = table.columns, held_ratio(table) if held is None else held
    matrix_s = columns.matrix_s * held / np.minimum(ratio, held)
    slower = {name: getattr(columns, name) / ratio for name in ("vector_s", "special_s", "epilogue_s")}
    core_s = np.where(columns.matrix_s < columns.core_s, columns.core_s / ratio, matrix_s)
    columns = replace(columns, core_s=core_s, matrix_s=matrix_s, **slower)
    is_core = table.chip_columns.level_is_core[:, None, :]
    level_s = np.where(is_core, table.level_s / ratio, table.level_s)
    memory_s: FloatArray = level_s.max(axis=0)
    exposed_s, main_s = main_loop(columns, memory_s, table.chip_columns)
    return replace(
        table,
        columns=columns,
        level_s=level_s,
        memory_s=memory_s,
        exposed_s=exposed_s,
        duration_s=table.launch_s + columns.prologue_s + main_s + columns.epilogue_s + columns.reduction_s,
    )


def held_ratio(table: PlanTable) -> FloatArray:
    """Part of the full clock that the matrix units run at by themselves in kernels of each op, [O, C]."""
    ratio = np.ones_like(table.columns.core_s)
    rows = np.flatnonzero(np.isin(table.op_columns.kind[:, 0], [kind_code(kind) for kind in KINDS]))
    if len(rows):
        ratio[rows] = held_clock_ratio(table.op_columns.take(rows), table.chip_columns)
    return ratio
