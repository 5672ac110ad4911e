"""Fits the energy constants that no datasheet gives to measured board power: of the matrix units, and of busy cores."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares

from roofline.chip import Chip, Energy
from simulator.energy import op_energy
from simulator.errors import SimulationError
from simulator.op_columns import BoolArray, FloatArray
from simulator.plans import plan_columns
from simulator.power_limit import kept_limit_w
from simulator.validation.matrix_joules import matrix_joules, two_digits, with_matrix_joules
from simulator.validation.power_tables import PowerTable

_ROBUST_SCALE_W = 10.0  # beyond it errors count less: a sensor that averages over a second scatters by 100 W
_STATIC_SHARE = 0.01  # of the rows drew no more than the board draws whatever it does
_LEAST_ROWS = 20
_PICO = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerFit:
    """A chip with fitted energy constants.

    Attributes:
        chip: the chip with the constants found, and their source.
        constants: (name, value) found, rounded to what the halves of the table agree on.
        halves: what each half of the rows finds alone: (joules per matrix FLOP, watts per busy core).
        rows: rows that the fit saw.
        left_out: rows that it did not look at.
        median_error_w: of all rows that count, each half predicted with the constants of the other.
        mean_error_percent: likewise.
    """

    chip: Chip
    constants: tuple[tuple[str, float], ...]
    halves: tuple[tuple[float, float], tuple[float, float]]
    rows: int
    left_out: int
    median_error_w: float
    mean_error_percent: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Work:
    """What each kernel did, [rows], and what the board allows."""

    measured_s: FloatArray
    power_w: FloatArray
    given_j: FloatArray  # vector FLOPs and bytes, at the chip's own constants
    matrix_flops: FloatArray
    core_s: FloatArray  # cores that it runs on, times the seconds without its launch
    static_w: float
    limit_w: float

    def predict_w(self, constants: tuple[float, float]) -> FloatArray:
        """Power with these joules per matrix FLOP and watts per busy core, cut off at the limit."""
        joules = self.given_j + self.matrix_flops * constants[0] + self.core_s * constants[1]
        power: FloatArray = np.minimum(self.static_w + joules / self.measured_s, self.limit_w)
        return power

    def fit(self, rows: BoolArray) -> tuple[float, float]:
        """The constants of these rows, by a robust loss of the difference in watts."""

        def residuals(scaled: FloatArray) -> FloatArray:
            wrong: FloatArray = (self.predict_w((scaled[0] * _PICO, scaled[1])) - self.power_w)[rows]
            return wrong

        found = least_squares(residuals, x0=(0.5, 0.1), bounds=(0.0, np.inf), loss="soft_l1", f_scale=_ROBUST_SCALE_W).x
        return float(found[0]) * _PICO, float(found[1])


def fit_power(table: PowerTable, chip: Chip) -> PowerFit:
    """Fit `static_w`, `core_w` and joules per matrix FLOP to measured board power.

    Times are the measured ones; bytes of each level are those of the plans, at the chip's own joules per byte and per
    vector FLOP. Static power is what a hundredth of all rows stays below. Matrix FLOPs of other types keep their
    proportion to those of the table's type. The constants are those of all rows that count; the error is that of each
    half with the constants of the other.

    Args:
        table: measured kernels.
        chip: that they were measured on, with energy constants to take the given ones from.

    Raises:
        SimulationError: too few rows, or a chip without energy constants or without one for the table's type.
    """
    own, counts = chip.energy, table.counts
    if own is None:
        raise SimulationError(
            f"chip {chip.name!r}: has no [energy]; a fit of power takes joules per byte and per vector FLOP as given"
        )
    matrix_joules(chip, table.dtype)
    if min(int((counts & (table.half == half)).sum()) for half in (False, True)) < _LEAST_ROWS:
        raise SimulationError(f"{table.source}: {int(counts.sum())} rows that count are too few for a fit of power")
    work = _work(table, chip, own)
    halves = work.fit(counts & ~table.half), work.fit(counts & table.half)
    power_w = np.where(table.half, work.predict_w(halves[0]), work.predict_w(halves[1]))
    error_w = np.abs(power_w - table.power_w)[counts]
    joules, core_w = map(two_digits, work.fit(counts))
    found = PowerFit(
        chip=chip,
        constants=(("static_w", work.static_w), ("core_w", core_w), (f"matrix_j_per_flop.{table.dtype}", joules)),
        halves=halves,
        rows=int(counts.sum()),
        left_out=int((~counts).sum()),
        median_error_w=float(np.median(error_w)),
        mean_error_percent=float(100.0 * (error_w / table.power_w[counts]).mean()),
    )
    fitted = replace(with_matrix_joules(own, table.dtype, joules), static_w=work.static_w, core_w=core_w)
    return replace(found, chip=replace(chip, energy=fitted, sources=_sources(chip, found, table)))


def _work(table: PowerTable, chip: Chip, own: Energy) -> _Work:
    """Kernels in terms of the constants: energy is a sum, so unit constants give what each is multiplied with."""
    unit = replace(own, core_w=0.0, matrix_j_per_flop=tuple((name, 1.0) for name, _ in own.matrix_j_per_flop))
    plans = plan_columns(table.ops, [replace(chip, energy=unit)])
    energy = op_energy(plans)
    if isinstance(energy, str):
        raise SimulationError(energy)
    parts = dict(energy.parts)
    flops = parts.pop("matrix")
    running_s = np.maximum(table.measured_s - plans.launch_s[:, 0], 0.0)
    limit_w = kept_limit_w(chip)
    return _Work(
        measured_s=table.measured_s,
        power_w=table.power_w,
        given_j=np.sum(list(parts.values()), axis=0),
        matrix_flops=flops,
        core_s=plans.columns.cores_used[:, 0] * running_s,
        static_w=float(f"{np.quantile(table.power_w, _STATIC_SHARE):.3g}"),
        limit_w=np.inf if limit_w is None else limit_w,
    )


def _sources(chip: Chip, found: PowerFit, table: PowerTable) -> tuple[tuple[str, str], ...]:
    fitted = (
        f"fitted by `roofscape fit --power` to {found.rows} kernels of {table.source}; {found.median_error_w:.0f} W "
        f"median and {found.mean_error_percent:.0f} % mean error of each half with the constants of the other"
    )
    new = {
        "energy.static_w": f"1st percentile of the board power of {len(table)} kernels of {table.source}",
        "energy.core_w": fitted,
        "energy.matrix_j_per_flop": f"{fitted}; other types in proportion",
    }
    return (*(entry for entry in chip.sources if entry[0] not in new), *new.items())
