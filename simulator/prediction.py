"""Predicts a table of ops on a chip: seconds with their error band, what binds, and joules; distinct rows once."""

from dataclasses import fields

import numpy as np
import pandas as pd

from roofline.chip import Chip
from simulator.bands import OpBands, op_bands
from simulator.conditions import Conditions, with_conditions
from simulator.energy import lacking_constants, op_energy
from simulator.op_columns import FloatArray, IntArray, OpColumns
from simulator.op_frame import full_type, ops_from_frame
from simulator.plans import PlanTable, plan_columns
from simulator.power_bands import off_ratio, power_bands
from simulator.power_limit import repeated_j, repeated_stretch

_CHUNK_ROWS = 20_000  # keeps the candidates of one evaluation in memory


def predict(frame: pd.DataFrame, chip: Chip, *, conditions: Conditions = "benchmark") -> pd.DataFrame:
    """The frame with what every row takes on a chip.

    Args:
        frame: one op a row, columns as `ops_from_frame` reads them; other columns are kept.
        chip: what the ops run on.
        conditions: of cells that give none of their own: as benchmarks measure kernels, under which the error bands
            were found, or as a program runs them (`simulator.conditions`).

    Returns:
        The frame and `predicted_s, low_s, high_s, bound_by, bound_s, joules, joules_low, joules_high`; bands are NaN
        where nothing is validated, joules where the chip has no energy constants, or none for the type.
    """
    ops = ops_from_frame(with_conditions(frame, chip, conditions))
    first, row_of = _distinct(ops)
    starts = range(0, len(first), _CHUNK_ROWS)
    parts = [_predicted(plan_columns(ops.take(first[start : start + _CHUNK_ROWS]), [chip]), chip) for start in starts]
    distinct = pd.concat(parts) if parts else pd.DataFrame(columns=list(_COLUMNS))
    columns = {name: distinct[name].to_numpy()[row_of] for name in _COLUMNS}
    return frame.assign(**columns)


def _distinct(ops: OpColumns) -> tuple[IntArray, IntArray]:
    """Position of the first of each set of equal ops, and which set every op is in, [O]."""
    columns = [column for field in fields(OpColumns) for column in np.atleast_2d(getattr(ops, field.name).T)]
    varying = pd.DataFrame({i: column for i, column in enumerate(columns) if (column != column[:1]).any()})
    if varying.shape[1] == 0:
        return np.arange(min(1, len(ops))), np.zeros(len(ops), dtype=np.int64)
    sets = np.asarray(varying.groupby(list(varying.columns), sort=False).ngroup(), dtype=np.int64)
    # They are numbered as they appear.
    return np.unique(sets, return_index=True)[1], sets


_COLUMNS = ("predicted_s", "low_s", "high_s", "bound_by", "bound_s", "joules", "joules_low", "joules_high")


def _predicted(table: PlanTable, chip: Chip) -> pd.DataFrame:
    duration_s = table.duration_s[:, 0]
    bands = op_bands(table.op_columns, chip)
    energy = op_energy(table, may_lack_types=True)
    joules, slower = np.full(len(duration_s), np.nan), np.ones(len(duration_s))
    if not isinstance(energy, str):
        slower = repeated_stretch(energy, duration_s, chip)
        duration_s = duration_s * slower
        joules = repeated_j(energy, duration_s, chip)
    joules_low, joules_high = _joules_ends(table.op_columns, chip, joules, duration_s, bands)
    return pd.DataFrame(
        {
            "predicted_s": duration_s,
            "low_s": np.nan if bands is None else duration_s * bands.low_ratio,
            "high_s": np.nan if bands is None else duration_s * bands.high_ratio,
            "bound_by": np.where(slower > 1.0, "power", bound_by(table, chip)).astype(object),
            "bound_s": table.bound_s[:, 0],
            "joules": joules,
            "joules_low": joules_low,
            "joules_high": joules_high,
        }
    )


def energy_gap(predicted: pd.DataFrame, chip: Chip) -> str:
    """Why rows have no joules, empty where all have.

    Args:
        predicted: what `predict` returned.
        chip: what it was predicted on.
    """
    lacking = predicted["joules"].isna()
    if not lacking.any():
        return ""
    if gap := lacking_constants(chip):
        return f"joules are unknown: {gap}"
    types = ", ".join(sorted({str(full_type(each)) for each in predicted["dtype"][lacking]}))
    return (
        f"joules of {int(lacking.sum()):,} rows are unknown: chip {chip.name} has no energy per FLOP of its matrix "
        f"units of {types}"
    )


def _joules_ends(
    ops: OpColumns, chip: Chip, joules: FloatArray, duration_s: FloatArray, time: OpBands | None
) -> tuple[FloatArray, FloatArray]:
    """Ends of the 90 % band of each kernel's joules, [O] both; NaN where nothing is validated."""
    power = power_bands(ops, chip)
    if time is None or power is None:
        return np.full(len(joules), np.nan), np.full(len(joules), np.nan)
    most_j = np.inf if chip.tdp_w is None else chip.tdp_w * duration_s
    above = np.minimum(power.high_ratio, np.maximum(1.0, most_j / joules)) - 1.0
    low: FloatArray = joules * np.maximum(0.0, 1.0 - off_ratio(1.0 - power.low_ratio, 1.0 - time.low_ratio))
    high: FloatArray = joules * (1.0 + off_ratio(above, time.high_ratio - 1.0))
    return low, high


def bound_by(table: PlanTable, chip: Chip) -> list[str]:
    """The longest part of each kernel, [O]: a unit, a memory, `link`, `launch`, or `latency` of waves and passes."""
    plans = table.columns
    units = np.stack([plans.matrix_s[:, 0], plans.vector_s[:, 0], plans.special_s[:, 0]])
    levels = table.level_s[:, :, 0]
    core_s = plans.core_s[:, 0]
    # A main loop that no unit fills waits for operands or for the steps before: latency.
    is_unit_bound = units.max(axis=0) > 0.5 * core_s
    exposed_s = plans.prologue_s[:, 0] + plans.epilogue_s[:, 0] + plans.reduction_s[:, 0]
    latency_s = np.maximum(exposed_s, np.where(is_unit_bound, 0.0, core_s))
    rows = [*units, *levels, plans.link_s[:, 0], table.launch_s[:, 0], latency_s]
    names = ["matrix", "vector", "special", *(memory.name for memory in reversed(chip.memories))]
    names += [""] * (len(levels) - len(chip.memories)) + ["link", "launch", "latency"]
    return [names[i] for i in np.argmax(np.stack(rows), axis=0)]
