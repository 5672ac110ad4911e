"""`MeasuredTable`: kernel times that somebody measured, as ops; and the reader of tables of one's own."""

import errno
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
from numpy.typing import NDArray
from pyarrow import csv

from profiler.files import write_atomically
from roofline.chip import Chip
from simulator.errors import SimulationError
from simulator.op_columns import BoolArray, FloatArray, IntArray, OpColumns
from simulator.op_formulas import FRAME_SIZES
from simulator.op_frame import full_type, ops_from_frame
from simulator.size_classes import CLASSES, classes_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeasuredTable:
    """Measured kernels of one op, dtype and backend on one chip.

    Attributes:
        chip: name of the chip that they were measured on.
        op: family of kernels: `gemm`, `attention_prefill`, `attention_decode`, `attention_bidirectional`, ...
        dtype: as asked for, for example `bfloat16`.
        backend: library and version.
        ops: what ran, [rows, 1] columns.
        measured_s: seconds, [rows].
        held_out: rows that no fit has seen, [rows].
        size_class: for example `m 17-64`, [rows].
        dropped: rows left out, since no chip of this kind can have been that fast.
        source: where the table is from.
    """

    chip: str
    op: str
    dtype: str
    backend: str
    ops: OpColumns
    measured_s: FloatArray
    held_out: BoolArray
    size_class: NDArray[np.str_]
    dropped: int = 0
    source: str = ""

    def __len__(self) -> int:
        return len(self.measured_s)

    def take(self, rows: IntArray) -> "MeasuredTable":
        """The rows at these positions."""
        return replace(
            self,
            ops=self.ops.take(rows),
            measured_s=self.measured_s[rows],
            held_out=self.held_out[rows],
            size_class=self.size_class[rows],
        )

    def half(self, *, held_out: bool) -> "MeasuredTable":
        """The rows that were held out, or those that a fit may see."""
        return self.take(np.flatnonzero(self.held_out == held_out))

    def sample(self, rows: int, seed: int) -> "MeasuredTable":
        """At most so many of the rows that fits may see, drawn at random, in their order."""
        drawn = np.random.default_rng(seed).permutation(np.flatnonzero(~self.held_out))[:rows]
        return self.take(np.sort(drawn))


def measured_table(
    frame: pd.DataFrame, *, chip: Chip, op: str, dtype: str, backend: str, keys: Sequence[str], source: str
) -> MeasuredTable:
    """A table from a frame with the columns that `ops_from_frame` reads, and `measured_s`.

    Args:
        frame: one measured kernel a row.
        chip: the chip that was measured; what it cannot have done is dropped.
        op: family of kernels.
        dtype: label of the type.
        backend: library and version.
        keys: columns whose values, joined by commas, decide by their CRC-32 whether a row is held out (odd: it is).
        source: where the table is from.
    """
    frame = frame.reset_index(drop=True)
    ops = ops_from_frame(frame)
    measured_s = frame["measured_s"].to_numpy(dtype=np.float64)
    table = MeasuredTable(
        chip=chip.name,
        op=op,
        dtype=dtype,
        backend=backend,
        ops=ops,
        measured_s=measured_s,
        held_out=held_out_rows(frame, keys),
        size_class=_size_classes(frame, op),
        source=source,
    )
    kept = _is_possible(ops, measured_s, chip)
    return replace(table.take(np.flatnonzero(kept)), dropped=int((~kept).sum()))


def held_out_rows(frame: pd.DataFrame, keys: Sequence[str]) -> BoolArray:
    """Rows whose key columns, joined by commas, have an odd CRC-32; whole numbers have no point, however they are kept.

    >>> held_out_rows(pd.DataFrame({"m": [1, 2], "n": [3.0, 4.0], "k": [5, 6]}), ("m", "n", "k"))
    array([ True, False])
    """
    cells = [_texts(frame[key]) for key in keys]
    texts = (",".join(row) for row in zip(*cells, strict=True))
    return np.fromiter((zlib.crc32(text.encode()) % 2 == 1 for text in texts), dtype=np.bool_, count=len(frame))


def _texts(column: pd.Series) -> list[str]:
    """Cells as text; a column that other rows leave empty keeps its whole numbers as fractions."""
    if column.dtype.kind != "f":
        return list(column.astype(str))
    return [str(int(value)) if value % 1 == 0 else str(value) for value in column.tolist()]


def _is_possible(ops: OpColumns, measured_s: FloatArray, chip: Chip) -> BoolArray:
    """Whether main memory can have delivered what the caches cannot have held."""
    cached = sum(memory.capacity_bytes for memory in chip.memories[:-1] if not memory.per_core)
    from_memory = np.maximum(0.0, ops.moved_bytes[:, 0] - cached)
    possible: BoolArray = from_memory <= measured_s * chip.main_memory.bandwidth_bytes_per_s
    return possible


def _size_classes(frame: pd.DataFrame, op: str) -> NDArray[np.str_]:
    column = CLASSES.get(op, ("", ()))[0]
    return classes_of(op, frame[column].to_numpy(dtype=np.float64)) if column in frame else np.full(len(frame), "all")


def own_tables(
    frame: pd.DataFrame, path: str | Path, chip: Chip, *, op: str = "", dtype: str = "", backend: str = ""
) -> list[MeasuredTable]:
    """Measured kernels of one's own, with the columns of `predict` and `measured_s`, as tables.

    Args:
        frame: the rows. A column `op` names the family of each row, else its kind does; `backend` who measured it.
        path: the file that they are from.
        chip: the chip that it was measured on.
        op: take this family only.
        dtype: take this type only.
        backend: take what this one measured only.

    Raises:
        SimulationError: the rows cannot be read, or nothing in them is what was asked for.
    """
    if "measured_s" not in frame:
        raise SimulationError(f"{path}: has no column 'measured_s', the measured seconds of each row")
    measured_s = pd.to_numeric(frame["measured_s"], errors="coerce")
    wrong = ~(np.isfinite(measured_s) & (measured_s > 0))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise SimulationError(
            f"{path}: measured_s must be > 0, got {str(frame['measured_s'].iloc[row])!r} in row {row + 1}"
        )
    for column in ("kind", "dtype"):
        if column not in frame:
            raise SimulationError(f"{path}: has no column {column!r}")
    ops = frame["op"].fillna(frame["kind"]) if "op" in frame else frame["kind"]
    backends = frame["backend"].fillna("own") if "backend" in frame else "own"
    types, dtype = frame["dtype"].map(full_type), str(full_type(dtype))
    frame = frame.assign(measured_s=measured_s, op=ops, backend=backends, dtype=types)
    tables = []
    for (row_op, row_dtype, row_backend), rows in frame.groupby(["op", "dtype", "backend"], sort=True, dropna=False):
        if (op and row_op != op) or (dtype and row_dtype != dtype) or (backend and row_backend != backend):
            continue
        keys = [name for name in FRAME_SIZES.get(str(rows["kind"].iloc[0]), ()) if name in rows]
        tables.append(
            measured_table(
                rows,
                chip=chip,
                op=str(row_op),
                dtype=str(row_dtype),
                backend=str(row_backend),
                keys=keys,
                source=str(path),
            )
        )
    if not tables:
        raise SimulationError(f"{path}: has no rows of {chosen(op, dtype, backend)}")
    return tables


def chosen(op: str, dtype: str, backend: str) -> str:
    """What was asked for of a file, in words of an error; whatever is empty may be anything."""
    return f"op {op or 'any'!r}, dtype {dtype or 'any'!r} and backend {backend or 'any'!r}"


def read_frame(path: str | Path) -> pd.DataFrame:
    """A CSV or Parquet file as a frame, or one line that says why not.

    Raises:
        SimulationError: it cannot be read; one line says why.
    """
    try:
        if str(path).endswith(".parquet"):
            return pd.read_parquet(path)
        frame = pd.read_csv(path, skipinitialspace=True)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        if isinstance(error, FileNotFoundError):  # pyarrow's says the path alone
            reason = os.strerror(errno.ENOENT)
        if uneven := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", reason):
            reason = f"line {uneven[2]} has {uneven[3]} cells, more than the {uneven[1]} columns"
        raise SimulationError(f"cannot read table {path}: {reason}") from None
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes the cells too many for names of rows
        raise SimulationError(f"cannot read table {path}: rows have more cells than the {frame.shape[1]} named columns")
    return frame


def write_frame(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a frame as CSV (`.gz`: compressed) or Parquet, by the file's ending; a failure leaves no partial file.

    Raises:
        SimulationError: it cannot be written.
    """
    target = Path(path)
    try:
        if target.suffix == ".parquet":
            write_atomically(target, lambda temporary: frame.to_parquet(temporary, index=False))
        elif target.suffix == ".gz":
            same_bytes = {"method": "gzip", "mtime": 0}  # else the file holds the time at which it was written
            write_atomically(target, lambda temporary: frame.to_csv(temporary, index=False, compression=same_bytes))
        else:
            write_atomically(target, lambda temporary: _write_csv(frame, temporary))
    except OSError as error:
        raise SimulationError(f"cannot write {target}: {error.strerror or error}") from None


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write what pandas would, ten times as fast where no text needs quotes; whole numbers lose their point."""
    try:
        table = pyarrow.Table.from_pandas(frame, preserve_index=False)
        frame.head(0).to_csv(path, index=False)
        with path.open("ab") as file:
            csv.write_csv(table, file, csv.WriteOptions(include_header=False, quoting_style="none"))
    except (ValueError, pyarrow.ArrowException):  # text to quote, columns of mixed types or of one name
        frame.to_csv(path, index=False)
