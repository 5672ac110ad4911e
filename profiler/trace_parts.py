"""Parts of a recording that is still running: one Parquet file per stretch of calls, in a folder beside the trace.

Each part holds the calls of its stretch, and of the tables of ops, phases and modules only what came new with it: all
parts up to any of them are a whole trace.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from profiler.errors import TraceError
from profiler.trace_tables import (
    PART_KEY,
    TableSizes,
    call_table,
    damage_named,
    read_table,
    trace_from,
    trace_header,
    write_table,
)
from profiler.traces import Trace

_PATTERN = "part-*.parquet"
_TABLES = ("ops", "phases", "modules")
_ALLOCATIONS = ("version", "size_bytes", "is_outside")


def parts_folder(path: Path) -> Path:
    """Where the parts of a recording lie until it has become the trace file `path`.

    >>> parts_folder(Path("out/run.parquet")).as_posix()
    'out/run.parquet.parts'
    """
    return path.with_name(f"{path.name}.parts")


def part_path(folder: Path, index: int) -> Path:
    """The file of a part, counted from 0."""
    return folder / f"part-{index:06d}.parquet"


def has_parts(folder: Path) -> bool:
    """Whether a folder holds any part of a recording."""
    return next(folder.glob(_PATTERN), None) is not None


def save_part(stretch: Trace, skip: TableSizes, path: Path) -> None:
    """Write a stretch of a recording; the file appears whole or not at all.

    Args:
        stretch: the calls and allocations of this stretch, with all tables so far.
        skip: how much of the tables the parts before hold.
        path: of the part.

    Raises:
        TraceError: where the file cannot be written.
    """
    write_table(call_table(stretch), PART_KEY, trace_header(stretch, skip), path)


def load_parts(folder: Path) -> Trace:
    """The trace of all complete parts in a folder, marked as incomplete.

    Raises:
        TraceError: where there is none, one is missing between others, or one is damaged.
    """
    paths = sorted(folder.glob(_PATTERN))
    if not paths:
        raise TraceError(f"{folder}: a folder without a complete part (part-000000.parquet, ...) of a recording")
    for index, path in enumerate(paths):
        if path.name != part_path(folder, index).name:
            raise TraceError(f"{folder}: {part_path(folder, index).name} is missing, but {path.name} is there")
    parts = [_read_part(path) for path in paths]
    header = _joined_header([header for _, header in parts], paths)
    with damage_named(folder):
        table = pa.concat_tables([table for table, _ in parts])
    trace = trace_from(table, header, folder)
    note = (
        f"incomplete: recording was cut off, or still runs; these are the {len(trace.calls)} calls of its "
        f"{len(paths)} complete parts"
    )
    provenance = replace(trace.provenance, notes=(*trace.provenance.notes, note))
    return replace(trace, provenance=provenance)


def remove_parts(folder: Path) -> None:
    """Remove the parts, and the folder unless it holds anything else."""
    for path in folder.glob(_PATTERN):
        path.unlink()
    with suppress(OSError):
        folder.rmdir()


def _read_part(path: Path) -> tuple[Any, dict[str, Any]]:
    table = read_table(path)
    header = table.schema.metadata.get(PART_KEY)
    if header is None:
        raise TraceError(f"{path}: a whole trace, not a part of a recording")
    with damage_named(path):
        return table, dict(json.loads(header))


def _joined_header(headers: Sequence[dict[str, Any]], paths: Sequence[Path]) -> dict[str, Any]:
    """The header of the last part, with the tables and allocations of all."""
    joined: dict[str, Any] = {name: [] for name in _TABLES}
    allocations: dict[str, list[int]] = {name: [] for name in _ALLOCATIONS}
    for header, path in zip(headers, paths, strict=True):
        with damage_named(path):
            for name in _TABLES:
                joined[name] += header[name]
            for name in _ALLOCATIONS:
                allocations[name] += header["allocations"][name]
    return {**headers[-1], **joined, "allocations": allocations}
