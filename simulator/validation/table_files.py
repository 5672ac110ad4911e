"""Files of measured kernels: with the columns of `predict`, or with those that a collector of aiconfigurator writes."""

import logging
from collections import Counter
from pathlib import Path

import pandas as pd

from roofline.chip import Chip
from simulator.errors import NoRowsError, SimulationError
from simulator.validation.silicon import TABLES, rows_of_type, table_kind, table_of_rows
from simulator.validation.tables import MeasuredTable, chosen, own_tables, read_frame

_log = logging.getLogger(__name__)
_COLLECTIVES = frozenset(family for family, kind in TABLES.items() if kind.file == "nccl_perf")
_NAMELESS = "(empty)"
_COLUMNS = frozenset({"framework", "version", "op_name", "latency"})


def file_tables(
    path: str | Path, chip: Chip, *, op: str = "", dtype: str = "", backend: str = ""
) -> list[MeasuredTable]:
    """Tables of a CSV or Parquet file.

    Args:
        path: the file.
        chip: the chip that it was measured on.
        op: take this family only.
        dtype: take this type only.
        backend: take what this one measured only.

    Raises:
        SimulationError: the file cannot be read, or nothing in it is what was asked for.
    """
    frame = read_frame(path)
    tables_of = _package_tables if _has_package_columns(frame) else own_tables
    return tables_of(frame, path, chip, op=op, dtype=dtype, backend=backend)


def _has_package_columns(frame: pd.DataFrame) -> bool:
    """Whether rows have the package's columns, and not those of `predict` with `measured_s`."""
    return _COLUMNS.issubset(frame) and "measured_s" not in frame


def _package_tables(
    frame: pd.DataFrame, path: str | Path, chip: Chip, *, op: str = "", dtype: str = "", backend: str = ""
) -> list[MeasuredTable]:
    """The rows as tables, one a family, type, library and version; warnings count rows that are left out.

    Args:
        frame: rows with the package's columns.
        path: where they are from.
        chip: what was measured; the rows' own name of the device is not looked at.
        op: take this family only, instead of those that the rows name.
        dtype: take this type only.
        backend: take this library only.

    Raises:
        SimulationError: nothing in the file is what was asked for.
    """
    frame = frame.fillna({"framework": "own", "version": "unknown", "op_name": _NAMELESS})
    frame = frame.assign(latency=_latency_ms(frame, path))
    names = frame["op_name"].unique()
    is_named = any(op in _named_families(str(name)) for name in names)
    tables, skipped, unread = [], Counter[str](), Counter[str]()
    for (framework, version, op_name), rows in frame.groupby(["framework", "version", "op_name"]):
        library = "nccl" if op_name in _COLLECTIVES else str(framework).lower()
        if backend and library != backend:
            continue
        families = _families(str(op_name), op, is_named)
        if not families and not op:
            skipped[str(op_name)] += len(rows)
        read = pd.Index([])
        for family in families:
            for each in [dtype] if dtype else table_kind(family).dtypes:
                try:
                    found = rows_of_type(rows, family, each)
                    tables.append(
                        table_of_rows(found, chip, family, each, library, version=str(version), source=str(path))
                    )
                    read = read.union(found[found["measured_s"] > 0].index)
                except KeyError as error:
                    raise SimulationError(f"{path}: has no column {error}, which {family} needs") from None
                except NoRowsError:
                    continue
        if families and not dtype:
            unread[str(op_name)] += len(rows) - len(read)
    if not tables:
        there = ", ".join(sorted(map(str, names))) or "nothing"
        raise SimulationError(f"{path}: has no rows of {chosen(op, dtype, backend)}; op_name is {there}")
    _warn_of(path, skipped, "no model is for their op_name")
    _warn_of(path, unread, "no table holds their type, kernel or time")
    return tables


def _warn_of(path: str | Path, rows: Counter[str], reason: str) -> None:
    """Count rows that are left out, by name."""
    if counts := ", ".join(f"{name} {count:,}" for name, count in sorted(rows.items()) if count):
        _log.warning("%s: rows left out, since %s: %s", path, reason, counts)


def _latency_ms(frame: pd.DataFrame, path: str | Path) -> pd.Series:
    """The column of milliseconds as numbers; the first that is none is an error."""
    latency_ms = pd.to_numeric(frame["latency"], errors="coerce")
    if latency_ms.isna().any():
        row = int(latency_ms.isna().argmax())
        raise SimulationError(
            f"{path}: latency must be milliseconds, got {str(frame['latency'].iloc[row])!r} in row {row + 1}"
        )
    return latency_ms


def _families(op_name: str, op: str, is_named: bool) -> list[str]:
    """Families that rows of this name are: the one asked for, if it is, else all but other views of the same rows.

    Rows of a name that no family has are taken for the family asked for where no other rows in the file are of it.
    """
    named = _named_families(op_name)
    if op:
        return [op] if op in named or not (named or is_named) else []
    return [family for family in named if family != "attention_block" and not TABLES[family].joined]


def _named_families(op_name: str) -> list[str]:
    """Families whose rows have this name."""
    return [family for family, kind in TABLES.items() if op_name in (family, kind.file.removesuffix("_perf"))]
