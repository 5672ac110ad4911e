"""From a table with one row an op to `OpColumns`: what `predict` reads, and every measured table is turned into.

Each kind has its own size columns; FLOPs and bytes follow from them (`simulator.op_formulas`).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from profiler.op import DTYPE_BITS
from simulator.errors import SimulationError
from simulator.op_columns import CONDITIONS, DTYPES, SIZE_NAMES, FloatArray, OpColumns, kind_code
from simulator.op_formulas import FORMULAS, FRAME_DTYPES, FRAME_OPTIONS, FRAME_SIZES, WIDENING, Rows
from workloads.hints import did_you_mean

# An input that is repeated counts by its share, and so do tokens that are stored; all other sizes are counts.
_FRACTIONS = ("skew", "inputs", "stores_kv")
_MOST = 1e12  # of a size: more than any memory holds of anything
# Short names of types; an 8-bit float is the one with more bits of mantissa, as inference uses it.
_TYPE_NAMES = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "float": "float32"}
_TYPE_NAMES |= {"fp64": "float64", "double": "float64", "fp8": "float8_e4m3fn", "e4m3": "float8_e4m3fn"}
_NAMES = {"pointwise": "add", "collective": "all_reduce"}  # what the column `name` takes where it is empty


def ops_from_frame(frame: pd.DataFrame) -> OpColumns:
    """Columns of the ops that a table describes, one a row.

    Args:
        frame: columns `kind`, `dtype`, the sizes of the kinds that occur, and their options.

    Raises:
        SimulationError: a column is missing, or a value is no number, negative, a fraction of a count, or not known.
    """
    for column in ("kind", "dtype"):
        if column not in frame:
            there = ", ".join(map(str, frame))
            hint = "; names are in small letters" if column in map(str.lower, map(str, frame)) else ""
            hint = "; a CSV file separates its cells by commas" if len(frame.columns) == 1 else hint
            raise SimulationError(f"the table has no column {column!r}; its columns are {there}{hint}")
    names = [str(name) for name in frame]
    for name in sorted(_known_columns().intersection(names)):
        if names.count(name) > 1 or f"{name}.1" in names:  # as pandas names a second one that it reads
            raise SimulationError(f"the table has two columns {name!r}")
    count = len(frame)
    kind, dtype = _codes(frame, "kind", tuple(FRAME_SIZES)), _type_codes(frame, "dtype")
    columns: dict[str, Any] = {name: np.zeros((count, 1)) for name in _AMOUNTS}
    columns |= {"input_element_bytes": np.zeros((count, 1)), "output_element_bytes": np.zeros((count, 1))}
    columns |= {"collective_passes": np.ones((count, 1)), "is_partial": np.zeros((count, 1), dtype=np.bool_)}
    sizes = np.zeros((count, len(SIZE_NAMES)))
    for name in CONDITIONS:
        if name in frame:
            sizes[:, SIZE_NAMES.index(name)] = _numbers(frame, name, np.arange(count), default=0.0)
    for code, kind_name in enumerate(FRAME_SIZES):
        rows = np.flatnonzero(kind == code)
        if len(rows):
            values = _values(frame, kind_name, rows, dtype[rows])
            amounts = FORMULAS[kind_name](values)
            for name, amount in {**values["bytes"], **amounts}.items():
                columns[name][rows, 0] = amount
            for position, name in enumerate(SIZE_NAMES):
                if name in values and name not in CONDITIONS:
                    sizes[rows, position] = values[name]
    kinds = np.array([kind_code(name) for name in FRAME_SIZES], dtype=np.int64)[kind]
    return OpColumns(kind=kinds[:, None], dtype=dtype[:, None], sizes=sizes, **columns)


def mistaken_columns(frame: pd.DataFrame) -> list[str]:
    """Columns that nothing reads, though their names are nearly those of columns that are: most likely misspelled.

    >>> mistaken_columns(pd.DataFrame(columns=["kind", "dtype", "m", "bach", "my notes"]))
    ["column 'bach' is not read; did you mean 'batch'?"]
    """
    known = _known_columns()
    others = [str(column) for column in frame if str(column) not in known]
    hints = {column: did_you_mean(column, known, alike=0.75) for column in others}  # others' columns have names, too
    return [f"column {column!r} is not read; {hint}" for column, hint in hints.items() if hint]


def doubtful_rows(frame: pd.DataFrame) -> list[str]:
    """Rows that mean something else than they seem to.

    >>> sizes = {"batch": 1, "queries": [9], "keys": 5, "heads": 1, "head_dim": 64}
    >>> doubtful_rows(pd.DataFrame({"kind": "attention", "dtype": "bfloat16", "causal": 1, **sizes}))
    ['row 1: a causal mask is aligned at the end, so the first 4 of 9 queries see none of 5 keys']
    """
    if not {"kind", "causal", "queries", "keys"} <= set(frame):
        return []
    queries, keys = (pd.to_numeric(frame[name], errors="coerce") for name in ("queries", "keys"))
    is_causal = pd.to_numeric(frame["causal"].replace({True: 1, False: 0}), errors="coerce") > 0
    blind = np.flatnonzero((frame["kind"] == "attention") & is_causal & (queries > keys))
    if not len(blind):
        return []
    row = int(blind[0])
    first = (
        f"row {row + 1}: a causal mask is aligned at the end, so the first {queries.iloc[row] - keys.iloc[row]:.0f} of "
        f"{queries.iloc[row]:.0f} queries see none of {keys.iloc[row]:.0f} keys"
    )
    return [first + (f"; so it is in {len(blind) - 1:,} more" if len(blind) > 1 else "")]


def _known_columns() -> set[str]:
    """Names of all columns that some kind reads."""
    by_kind = (*FRAME_SIZES.values(), *FRAME_OPTIONS.values(), *FRAME_DTYPES.values())
    return {"kind", "dtype", "name", *CONDITIONS, *(name for names in by_kind for name in names)}


_AMOUNTS = ("read_bytes", "write_bytes", "required_matrix_flops", "matrix_flops", "vector_flops", "special_flops")


def _values(frame: pd.DataFrame, kind: str, rows: Any, dtype: Any) -> Rows:
    """Everything that the formula of a kind may ask for, [rows] each."""
    values: Rows = {}
    for name in FRAME_SIZES[kind]:
        if name not in frame:
            needed = ", ".join(FRAME_SIZES[kind])
            near = next((str(column) for column in frame if str(column).strip().lower() == name), "")
            hint = f"; it has {near!r}, but names are in small letters without spaces" if near else ""
            raise SimulationError(f"the table has no column {name!r}, which {kind} needs (with {needed}){hint}")
        values[name] = _numbers(frame, name, rows, default=None)
    for name, default in FRAME_OPTIONS.get(kind, {}).items():
        values[name] = _numbers(frame, name, rows, default=np.nan if default is None else default)
    widths = np.array([DTYPE_BITS[name] / 8 for name in DTYPES])
    own = widths[dtype]
    values["element_bytes"] = own
    values["output_bytes"] = np.maximum(own, 2.0) if kind in WIDENING else own
    values["second_bytes"] = own
    for column in FRAME_DTYPES.get(kind, ()):
        if column in frame:
            codes = _type_codes(frame.iloc[rows], column, may_be_empty=True)
            key = "output_bytes" if column == "output_dtype" else "second_bytes"
            values[key] = np.where(codes >= 0, widths[codes], values[key])
    if kind == "moe":
        values["weight_element_bytes"] = np.where(values["second_bytes"] == own, 0.0, values["second_bytes"])
    values["name"] = (
        frame["name"].iloc[rows].fillna(_NAMES.get(kind, "")).to_numpy(dtype=str)
        if "name" in frame
        else np.full(len(rows), _NAMES.get(kind, ""))
    )
    values["bytes"] = {
        "input_element_bytes": np.maximum(own, values["second_bytes"]),
        "output_element_bytes": values["output_bytes"],
    }
    return values


def _type_codes(frame: pd.DataFrame, column: str, *, may_be_empty: bool = False) -> Any:
    """Index of each value among the types, which may have short names."""
    return _codes(frame, column, DTYPES, full_name=full_type, may_be_empty=may_be_empty)


def _codes(
    frame: pd.DataFrame,
    column: str,
    known: tuple[str, ...],
    *,
    full_name: Callable[[object], object] = str,
    may_be_empty: bool = False,
) -> Any:
    """Index of each value's full name among the known ones; -1 where it is empty and may be."""
    codes, values = pd.factorize(frame[column], use_na_sentinel=True)
    names = [full_name(value) for value in values]
    unknown = [str(value) for value, name in zip(values, names, strict=True) if name not in known]
    if unknown:
        row = int(np.flatnonzero(codes == list(map(str, values)).index(unknown[0]))[0])
        raise SimulationError(f"{column} must be one of {', '.join(known)}, got {unknown[0]!r} in row {row + 1}")
    if not may_be_empty and (codes < 0).any():
        raise SimulationError(f"{column} is empty in row {int(np.flatnonzero(codes < 0)[0]) + 1}")
    table = np.array([known.index(name) for name in names] + [-1], dtype=np.int64)
    return table[codes]


def full_type(name: object) -> object:
    """The name of a type in full: without `torch.`, in small letters, and not as a short name."""
    if not isinstance(name, str):
        return name
    short = name.removeprefix("torch.").lower()
    return _TYPE_NAMES.get(short, short)


def _numbers(frame: pd.DataFrame, column: str, rows: Any, *, default: float | None) -> FloatArray:
    """A column as numbers >= 0; empty cells take the default, which must be there where None is given."""
    if column not in frame:
        return np.full(len(rows), 0.0 if default is None else default)
    cells = frame[column].iloc[rows]
    numbers = pd.to_numeric(cells.replace({True: 1, False: 0}), errors="coerce").to_numpy(dtype=np.float64)
    is_empty = cells.isna().to_numpy()
    least = 0.0 if default is not None else 1.0
    wrong = ~is_empty & ~(np.isfinite(numbers) & (numbers >= least)) | (is_empty & (default is None))
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        cell = cells.iloc[first]
        got = "nothing" if is_empty[first] else repr(cell) if isinstance(cell, str) else str(cell)
        raise SimulationError(f"{column} must be a number >= {least:g}, got {got} in row {int(rows[first]) + 1}")
    broken = np.zeros(len(rows), dtype=np.bool_) if column in _FRACTIONS else ~is_empty & (numbers % 1 != 0)
    if broken.any() or (numbers[~is_empty] > _MOST).any():
        first = int(np.flatnonzero(broken | (~is_empty & (numbers > _MOST)))[0])
        what = "a number" if column in _FRACTIONS else "a whole number"
        where = f"got {numbers[first]:g} in row {int(rows[first]) + 1}"
        raise SimulationError(f"{column} must be {what} of at most {_MOST:g}, {where}")
    return np.where(is_empty, 0.0 if default is None else default, numbers)
