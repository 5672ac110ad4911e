"""Joules of a FLOP from times alone: long products of random data keep the power limit, and it sets their rate.

Where a board's power is not logged, its limit is known nevertheless, and what it leaves for a FLOP follows from the
rate at which products settle. Of the tables, TensorRT-LLM's and SGLang's have random weights; data of fewer flipping
bits, as vLLM's uninitialized weights, draw less and run faster.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from roofline.chip import Chip, Energy
from simulator.clocks import at_clock, steady_chip
from simulator.errors import SimulationError
from simulator.op_columns import BoolArray, FloatArray
from simulator.plans import PlanTable, plan_columns
from simulator.power_limit import kernel_clocks, sets_its_clock
from simulator.validation.matrix_joules import matrix_joules, two_digits, with_matrix_joules
from simulator.validation.tables import MeasuredTable

RANDOM_DATA = ("trtllm", "sglang")
# Replays of a captured graph of all copies: three to warm up, six that are timed (the package's collector/helper.py).
_REPLAYS = 9
# Bursts of up to 0.03 s run at the rate of full clocks on H100, H200 and B200, and from 0.06 to 0.13 s on at the lower
# one at which they stay (tests/simulator/test_power_limit.py).
SETTLED_S = 0.1
_LEAST_SIZE = 512  # of m, n and k: the matrix units bind
_LEAST_ROWS = 10  # in each half
_WIDEST = (0.05e-12, 5e-12)  # joules a FLOP between which the answer is looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitFit:
    """A chip whose joules a matrix FLOP keep the limit at measured rates.

    Attributes:
        chip: with the constant found, and its source.
        dtype: of the products.
        joules: a FLOP at full clock: the geometric mean of what the tables find.
        found: (library and version, joules) of each table's rows that are not held out.
        rows: rows that the fit saw.
        held_out: rows that it did not.
        before_percent: mean absolute error of their times with the constant that the chip had.
        after_percent: likewise with the one found.
    """

    chip: Chip
    dtype: str
    joules: float
    found: tuple[tuple[str, float], ...]
    rows: int
    held_out: int
    before_percent: float
    after_percent: float


def fit_at_limit(tables: Sequence[MeasuredTable], chip: Chip) -> LimitFit:
    """Fit joules of a matrix FLOP so that settled products take as long as measured, in the median of each table.

    All else stays as the chip has it: static power, busy cores, bytes. Other types keep their proportion.

    Args:
        tables: measured products of one type with random data, by library.
        chip: that they were measured on.

    Raises:
        SimulationError: the chip's clock does not follow from its power, or too few products last long enough.
    """
    own = chip.energy
    if own is None or chip.tdp_w is None or not sets_its_clock(chip):
        raise SimulationError(
            f"chip {chip.name!r}: a fit at the power limit takes [energy], power.tdp_w and [calibration.gemm] with "
            "sustained_clock_ratio of its own"
        )
    settled = [settled_products(table) for table in tables]
    dtype = tables[0].dtype
    matrix_joules(chip, dtype)
    plans = [plan_columns(table.ops, [steady_chip(chip)]) for table in settled]
    values = [_joules(table, plan, chip, own, ~table.held_out) for table, plan in zip(settled, plans, strict=True)]
    joules = two_digits(float(np.exp(np.mean(np.log(values)))))
    fitted = replace(chip, energy=with_matrix_joules(own, dtype, joules))
    held_out = np.concatenate([table.held_out for table in settled])
    errors = [
        np.concatenate([_logs(table, plan, each) for table, plan in zip(settled, plans, strict=True)])[held_out]
        for each in (chip, fitted)
    ]
    before_percent, after_percent = (float(100.0 * np.abs(np.expm1(logs)).mean()) for logs in errors)
    found = tuple((table.backend, value) for table, value in zip(settled, values, strict=True))
    names = " and ".join(
        f"{value * 1e12:.2f} pJ in {table.source}" for table, value in zip(settled, values, strict=True)
    )
    fitted_to, unseen = int((~held_out).sum()), int(held_out.sum())
    source = (
        f"at full clock; what products of random data that are repeated for {SETTLED_S} s and more take, so that they "
        f"keep the power limit at measured rates: fitted by `roofscape fit --power` to {fitted_to} of them ({names}); "
        f"{after_percent:.1f} % mean absolute error of time on the {unseen} held out; other types in proportion"
    )
    kept = tuple(entry for entry in chip.sources if entry[0] != "energy.matrix_j_per_flop")
    return LimitFit(
        chip=replace(fitted, sources=(*kept, ("energy.matrix_j_per_flop", source))),
        dtype=dtype,
        joules=joules,
        found=found,
        rows=fitted_to,
        held_out=unseen,
        before_percent=before_percent,
        after_percent=after_percent,
    )


def settled_s(plans: PlanTable, chip: Chip) -> FloatArray:
    """Seconds of each kernel, [O], repeated until its clock has settled.

    Args:
        plans: of the kernels on `steady_chip(chip)`.
        chip: whose limit it is.
    """
    seconds: FloatArray = at_clock(plans, kernel_clocks(plans, chip)[:, None]).duration_s[:, 0]
    return seconds


def burst_s(table: MeasuredTable) -> FloatArray:
    """Seconds that a collector ran each kernel without a pause, [rows]."""
    copies: FloatArray = np.maximum(table.ops.size("weight_copies")[:, 0], 1.0)
    return _REPLAYS * copies * table.measured_s


def settled_products(table: MeasuredTable) -> MeasuredTable:
    """The rows whose clock had settled and that the matrix units bind.

    Raises:
        SimulationError: there are too few of them for a fit.
    """
    least = np.min([table.ops.size(name)[:, 0] for name in ("m", "n", "k")], axis=0)
    kept = table.take(np.flatnonzero((burst_s(table) >= SETTLED_S) & (least >= _LEAST_SIZE)))
    if min(int(kept.held_out.sum()), int((~kept.held_out).sum())) < _LEAST_ROWS:
        raise SimulationError(f"{table.source}: {len(kept)} products of {SETTLED_S} s and more are too few for a fit")
    return kept


def _joules(table: MeasuredTable, plans: PlanTable, chip: Chip, own: Energy, rows: BoolArray) -> float:
    def median_log(joules: float) -> float:
        changed = replace(chip, energy=with_matrix_joules(own, table.dtype, joules))
        return float(np.median(_logs(table, plans, changed)[rows]))

    if median_log(_WIDEST[0]) > 0 or median_log(_WIDEST[1]) < 0:
        raise SimulationError(f"{table.source}: no joules a FLOP explain these times at the power limit of {chip.name}")
    return float(brentq(median_log, *_WIDEST, xtol=1e-16))


def _logs(table: MeasuredTable, plans: PlanTable, chip: Chip) -> FloatArray:
    """Logarithm of predicted over measured time with a chip's energy constants, [rows]."""
    changed = replace(plans, chips=(replace(plans.chips[0], energy=chip.energy),))
    logs: FloatArray = np.log(settled_s(changed, chip) / table.measured_s)
    return logs
