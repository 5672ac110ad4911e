"""Kernels whose time and board power were measured: tables of one's own, and those of aiconfigurator's collectors."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from simulator.errors import SimulationError
from simulator.op_columns import BoolArray, FloatArray, OpColumns
from simulator.op_frame import ops_from_frame
from simulator.validation.tables import held_out_rows, read_frame

_ATTENTION = {"batch_size": "batch", "num_heads": "heads", "num_key_value_heads": "kv_heads"}
_COLLECTED = ("gemm", "context_attention", "generation_attention", "encoder_attention")
_MEASURED = ("measured_s", "power_w")
# The collectors' loops are short for short kernels, and the sensor averages over a second: streams of keys and values
# at one bandwidth (3.8 TB/s on an H200) read 380 W where a kernel takes 0.14 ms, 490 at 0.28 and 550 from 0.4 ms on.
_SETTLED_MS = 0.4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PowerTable:
    """Measured kernels of one type, each looped for so long that a sensor of board power followed.

    Attributes:
        ops: what ran, [rows, 1] columns.
        measured_s: seconds of one kernel, [rows].
        power_w: mean power of the board meanwhile, [rows].
        dtype: that they computed in.
        counts: rows that a fit looks at, [rows]: not those that the table itself rules out, not the first of a sweep,
            whose reading holds what ran before, and not products of one row, which libraries run on other units.
        half: which of two halves a row is in, by the CRC-32 of its sizes, [rows].
        source: where the table is from.
    """

    ops: OpColumns
    measured_s: FloatArray
    power_w: FloatArray
    dtype: str
    counts: BoolArray
    half: BoolArray
    source: str

    def __len__(self) -> int:
        return len(self.power_w)


def read_power_table(path: str | Path) -> PowerTable:
    """A CSV or Parquet file with the columns of `predict`, `measured_s` and `power_w`, rows in the order they ran in.

    Where a column `sweep` is given, the first row of each run of equal values is left out of fits, and where `counts`
    is, the rows in which it is 0. Files with the columns that aiconfigurator's collectors write (`op`, `latency_ms`,
    `power_w`, sizes) are read as they are: a sweep is what they run at one number of heads, or all products; kernels
    too short for the sensor to settle do not count, nor causal attention, whose cache they leave unfilled.

    Raises:
        SimulationError: the file cannot be read, lacks a column, or holds what cannot be.
    """
    return power_table(read_frame(path).reset_index(drop=True), path)


def power_table(frame: pd.DataFrame, path: str | Path) -> PowerTable:
    """The same of a frame that was read already, numbered from 0.

    Args:
        frame: columns as in the file.
        path: where it is from.

    Raises:
        SimulationError: it lacks a column, or holds what cannot be.
    """
    if "latency_ms" in frame and "measured_s" not in frame:
        frame = _collected(frame, path)
    missing = [name for name in ("kind", "dtype", *_MEASURED) if name not in frame]
    if missing:
        raise SimulationError(f"{path}: has no column {', '.join(map(repr, missing))}")
    for name in _MEASURED:
        numbers = pd.to_numeric(frame[name], errors="coerce")
        wrong = ~(np.isfinite(numbers) & (numbers > 0))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise SimulationError(f"{path}: {name} must be > 0, got {str(frame[name].iloc[row])!r} in row {row + 1}")
        frame[name] = numbers.astype(np.float64)
    dtypes = frame["dtype"].unique()
    if len(dtypes) != 1:
        found = ", ".join(sorted(map(str, dtypes))) or "no row"
        raise SimulationError(f"{path}: a fit of power takes kernels of one dtype, got {found}")
    ops = ops_from_frame(frame)
    counts = ~((frame["kind"] == "gemm") & (frame.get("m", pd.Series(0, index=frame.index)) == 1)).to_numpy()
    if "sweep" in frame:
        counts &= (frame["sweep"] == frame["sweep"].shift()).to_numpy()
    if "counts" in frame:
        counts &= (frame["counts"] != 0).to_numpy()
    keys = [name for name in frame.columns if name not in (*_MEASURED, "sweep", "counts")]
    return PowerTable(
        ops=ops,
        measured_s=frame["measured_s"].to_numpy(),
        power_w=frame["power_w"].to_numpy(),
        dtype=str(dtypes[0]),
        counts=counts,
        half=held_out_rows(frame[keys].astype("string").fillna(""), keys),
        source=Path(path).name,
    )


def _collected(frame: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """The columns of `predict` from those of the collectors; caches are taken to be cold, as for captured programs."""
    if "op" not in frame:
        raise SimulationError(f"{path}: has no column 'op', the collector that each row is from")
    unknown = sorted(set(frame["op"].astype(str)) - set(_COLLECTED))
    if unknown:
        raise SimulationError(f"{path}: op must be one of {', '.join(_COLLECTED)}, got {unknown[0]!r}")
    op, queries, step = frame["op"].astype(str), frame["isl"], frame["step"]
    is_product = op == "gemm"
    made = frame.rename(columns=_ATTENTION)[["dtype", "m", "n", "k", *_ATTENTION.values(), "head_dim", "power_w"]]
    return made.assign(
        kind=np.where(is_product, "gemm", "attention"),
        batch=made["batch"].fillna(1),
        kv_heads=made["kv_heads"].fillna(made["heads"]),
        queries=queries,
        keys=np.where(op == "generation_attention", step.fillna(0) + 1, queries),
        causal=(op == "context_attention").astype(int),
        measured_s=frame["latency_ms"] * 1e-3,
        counts=((frame["latency_ms"] >= _SETTLED_MS) & (op != "context_attention")).astype(int),
        sweep=op + " " + made["heads"].astype("Float64").fillna(0).astype(str),
    )
