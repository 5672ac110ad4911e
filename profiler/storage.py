"""Saves and loads traces: a Parquet file each, or the folder of parts that an unfinished recording left."""

import json
from pathlib import Path

from profiler.errors import TraceError
from profiler.trace_parts import has_parts, load_parts, parts_folder
from profiler.trace_tables import (
    TRACE_KEY,
    TableSizes,
    call_table,
    damage_named,
    read_table,
    trace_from,
    trace_header,
    write_table,
)
from profiler.traces import Trace


def save_trace(trace: Trace, path: str | Path) -> None:
    """Write a trace; the file appears whole or not at all.

    Raises:
        TraceError: where the file cannot be written.
    """
    write_table(call_table(trace), TRACE_KEY, trace_header(trace, TableSizes()), Path(path))


def load_trace(path: str | Path) -> Trace:
    """Read a trace that `save_trace` wrote, or what a recording that was cut off left in its folder of parts.

    Raises:
        TraceError: where the file or folder is missing, damaged, no trace, or of another schema version.
    """
    path = Path(path)
    if path.is_dir():
        return load_parts(path)
    if not path.exists() and has_parts(parts_folder(path)):
        raise TraceError(
            f"{path}: no such trace file, but {parts_folder(path)} holds an unfinished recording: read that"
        )
    table = read_table(path)
    header = table.schema.metadata.get(TRACE_KEY)
    if header is None:
        raise TraceError(f"{path}: one part of an unfinished recording; read its whole folder, {path.parent}")
    with damage_named(path):
        fields_of_trace = json.loads(header)
    return trace_from(table, fields_of_trace, path)
