"""CSV: one row a call, with what was asked, where it belongs and what was measured or simulated; empty is unknown."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv

from profiler.files import write_atomically
from profiler.traces import Trace
from reports.errors import ReportError
from simulator.result import SimulationResult

SUFFIX = ".csv"

# A spreadsheet takes a cell that begins like this for a formula, and a trace can be a stranger's.
_FORMULA = ("=", "+", "-", "@")


def export_csv(trace: Trace, path: Path, *, simulation: SimulationResult | None = None) -> Path:
    """Write one row a call; a failure leaves no partial file.

    Args:
        trace: what ran.
        path: of the file; compressed where it ends in `.gz`.
        simulation: of this trace, for the columns `simulated_start_s`, `simulated_duration_s` and `bound_s`.

    Returns:
        The path written.

    Raises:
        ReportError: the file cannot be written.
    """
    table = pa.Table.from_pandas(calls_table(trace, simulation), preserve_index=False)
    try:
        write_atomically(path, lambda temporary: _write(table, temporary, compressed=path.suffix == ".gz"))
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror or error}") from None
    return path


def calls_table(trace: Trace, simulation: SimulationResult | None = None) -> pd.DataFrame:
    """`Trace.to_frame` with names that neither a terminal nor a spreadsheet obeys, and simulated columns."""
    frame = trace.to_frame()
    for name in ("kind", "name", "dtype", "phase", "module"):
        column = frame[name].astype("category")
        frame[name] = column.map({value: cell_text(value) for value in column.cat.categories}).astype("str")
    if simulation is not None:
        frame["simulated_start_s"] = simulation.start_s
        frame["simulated_duration_s"] = simulation.duration_s
        frame["bound_s"] = simulation.op_bound_s[simulation.op]
    return frame


def cell_text(text: str) -> str:
    """A name as a cell: control characters replaced, and an apostrophe before what would be a formula.

    >>> cell_text("=HYPERLINK(1)"), cell_text("aten::mm")
    ("'=HYPERLINK(1)", 'aten::mm')
    """
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def _write(table: pa.Table, path: Path, *, compressed: bool) -> None:
    with pa.OSFile(str(path), "wb") as plain:
        if compressed:
            with pa.CompressedOutputStream(plain, "gzip") as packed:
                arrow_csv.write_csv(table, packed)
        else:
            arrow_csv.write_csv(table, plain)
