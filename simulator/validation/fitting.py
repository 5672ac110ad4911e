"""Fits the constants of a kernel model to measured kernels; a chip file carries them, with error and provenance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares

from roofline.chip import Chip
from simulator.errors import SimulationError
from simulator.kernels.constants import Constant
from simulator.op_columns import FloatArray
from simulator.validation.scores import Score, predict_s, score
from simulator.validation.tables import MeasuredTable

_ROBUST_SCALE = 0.1  # log errors beyond 10 % count less: outliers of a table must not steer the fit
_KEEP = 0.3  # residual of a constant moved across its whole range, where a fit is to stay near its start
_ENOUGH = 3e-4  # of the loss, which a further step must save: less than 0.01 % of mean error
_STEP = 0.02  # of finite differences: plans jump from tile to tile, so a small step sees only noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A fitted chip and how far it is from the rows that it has not seen.

    Attributes:
        chip: the chip with the constants found, and their source.
        scope: which part of its calibration was fitted.
        constants: (name, value) found.
        before: error on the held-out rows with the constants that the chip had.
        after: error on the held-out rows now.
        rows: rows that the fit saw.
    """

    chip: Chip
    scope: str
    constants: tuple[tuple[str, float], ...]
    before: Score
    after: Score
    rows: int


def fit(
    table: MeasuredTable,
    chip: Chip,
    constants: Sequence[Constant],
    *,
    scope: str,
    rows: int = 2000,
    seed: int = 0,
    stay_near: bool = False,
) -> Fit:
    """Fit constants of one scope to the rows of a table that are not held out.

    Minimizes a robust loss of ln(predicted / measured) within the bounds of each constant, from the chip's own values
    and from the constants' starts; the better counts.

    Args:
        table: measured kernels.
        chip: where to start, and what the table was measured on.
        constants: what may move; one that matters under a condition only stays away where no row has it, and one that
            the chip's own section of this scope leaves out keeps its default, unless the fit is to stay near.
        scope: section of the calibration that holds them, for example `gemm`.
        rows: how many rows the fit looks at, drawn at random.
        seed: of that draw.
        stay_near: fit from the chip's own values only, and leave constants that the rows do not tell where they are:
            for few rows, with constants that came from another chip.

    Raises:
        SimulationError: there are fewer than two rows for each constant.
    """
    seen = int((~table.held_out).sum())
    constants = [c for c in constants if not c.condition or bool((table.ops.size(c.condition) > 0).any())]
    if not stay_near:
        constants = _listed(chip, scope, constants)
    if seen < 2 * len(constants):
        raise SimulationError(
            f"{table.op} table of {table.backend}: {seen} rows are too few to fit {len(constants)} constants"
        )
    sample = table.sample(rows, seed)
    best = _best_values(sample, chip, constants, scope=scope, stay_near=stay_near)
    rounded = np.array([float(f"{value:.4g}") for value in best])
    held_out = table.half(held_out=True)
    fitted = with_constants(chip, scope, constants, rounded)
    before, after = (score(held_out, predict_s(held_out, each)) for each in (chip, fitted))
    source = (
        f"fitted by `roofscape fit` to {len(sample)} of {seen} rows of {table.source} ({table.backend}) whose "
        f"keys have an even CRC-32; {after.mape_percent:.1f} % mean absolute error on the {after.rows} rows held out"
    )
    sources = tuple(entry for entry in fitted.sources if entry[0] != f"calibration.{scope}")
    return Fit(
        chip=replace(fitted, sources=(*sources, (f"calibration.{scope}", source))),
        scope=scope,
        constants=tuple((c.name, float(v)) for c, v in zip(constants, rounded, strict=True)),
        before=before,
        after=after,
        rows=len(sample),
    )


def _listed(chip: Chip, scope: str, constants: Sequence[Constant]) -> list[Constant]:
    """The constants that a chip's section holds, and those without a default; all where it has no such section."""
    held = {name.removeprefix(f"{scope}.") for name, _ in chip.calibration if name.startswith(f"{scope}.")}
    listed = [constant for constant in constants if constant.name in held]
    return [c for c in constants if c in listed or c.default is None] if listed else list(constants)


def _best_values(
    sample: MeasuredTable, chip: Chip, constants: Sequence[Constant], *, scope: str, stay_near: bool
) -> FloatArray:
    """The values that predict a sample best, one a constant, searched from one or both starts of `fit`."""
    own = dict(chip.calibration)
    starts = [
        [own.get(f"{scope}.{constant.name}", own.get(constant.name, constant.start)) for constant in constants],
        [constant.start for constant in constants],
    ]
    first = unit_positions(starts[0], constants)

    def residuals(values: FloatArray) -> FloatArray:
        logs: FloatArray = np.log(predict_s(sample, with_constants(chip, scope, constants, values)) / sample.measured_s)
        return np.append(logs, _KEEP * (unit_positions(values, constants) - first)) if stay_near else logs

    return search(residuals, constants, starts[:1] if stay_near else starts)


def search(
    residuals: Callable[[FloatArray], FloatArray],
    constants: Sequence[Constant],
    starts: Sequence[Sequence[float]],
    *,
    evaluations: int = 40,
) -> FloatArray:
    """Values of constants, within their bounds, with the least robust loss of some residuals: the best of all starts.

    Args:
        residuals: of values, ln(predicted / measured) of every row.
        constants: what may move.
        starts: values to search from, one list for each search.
        evaluations: at most so many of each search, derivatives not counted.
    """
    low, high = _bounds(constants)
    fits = [
        least_squares(
            lambda unit: residuals(_from_unit(unit, low, high)),
            x0=unit_positions(start, constants),
            bounds=(0.0, 1.0),
            loss="soft_l1",
            f_scale=_ROBUST_SCALE,
            diff_step=_STEP,
            max_nfev=evaluations,
            ftol=_ENOUGH,
        )
        for start in dict.fromkeys(map(tuple, starts))
    ]
    return _from_unit(min(fits, key=lambda found: float(found.cost)).x, low, high)


def unit_positions(values: Sequence[float] | FloatArray, constants: Sequence[Constant]) -> FloatArray:
    """Where values lie between the bounds of their constants, from 0 to 1."""
    low, high = _bounds(constants)
    return _to_unit(np.clip(np.array(values, dtype=np.float64), low, high), low, high)


def _bounds(constants: Sequence[Constant]) -> tuple[FloatArray, FloatArray]:
    return np.array([c.low for c in constants]), np.array([c.high for c in constants])


def with_constants(chip: Chip, scope: str, constants: Sequence[Constant], values: FloatArray) -> Chip:
    """The chip with these constants in this scope of its calibration."""
    names = [f"{scope}.{constant.name}" for constant in constants]
    kept = tuple(entry for entry in chip.calibration if entry[0] not in names)
    return replace(chip, calibration=kept + tuple(zip(names, map(float, values), strict=True)))


def _to_unit(values: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """Constants as positions 0-1 between their bounds: by ratio where the lower one is above zero."""
    ratio = low > 0
    safe_low, safe_high = np.where(ratio, low, 1.0), np.where(ratio, high, 2.0)
    by_ratio = np.log(np.where(ratio, values, 1.0) / safe_low) / np.log(safe_high / safe_low)
    return np.clip(np.where(ratio, by_ratio, (values - low) / (high - low)), 1e-6, 1.0 - 1e-6)


def _from_unit(unit: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    ratio = low > 0
    safe_low, safe_high = np.where(ratio, low, 1.0), np.where(ratio, high, 2.0)
    values: FloatArray = np.where(ratio, safe_low * np.power(safe_high / safe_low, unit), low + unit * (high - low))
    return values
