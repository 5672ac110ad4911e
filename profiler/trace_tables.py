"""The Parquet layout of traces: rows are the calls; ops and provenance are JSON in the file's metadata."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from profiler.energy import readings_from_json, readings_to_json
from profiler.errors import TraceError
from profiler.files import write_atomically
from profiler.op import Op, Operand
from profiler.provenance import Provenance
from profiler.traces import Allocations, Calls, Kernels, Trace, operand_offsets

SCHEMA_VERSION = 2  # 2: hardware counters of kernels
_VERSION_KEY = b"roofscape.schema_version"
TRACE_KEY = b"roofscape.trace"
PART_KEY = b"roofscape.part"  # a stretch of an unfinished recording
_CALL_COLUMNS = ("op", "phase", "step", "module", "stream", "start_s", "duration_s", "energy_j")
# Tensor ids grow steadily, so their differences are small; the Arrow schema would hold the header a second time.
_WRITE_OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "use_dictionary": ["op", "phase", "step", "module", "stream"],
    "column_encoding": {"reads.list.element": "DELTA_BINARY_PACKED", "writes.list.element": "DELTA_BINARY_PACKED"},
    "store_schema": False,
}
_KERNEL_COLUMNS = tuple(column.name for column in fields(Kernels) if column.name != "call")
_ALLOCATION_COLUMNS = tuple(column.name for column in fields(Allocations))


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSizes:
    """How many entries of a trace's tables an earlier file holds already."""

    ops: int = 0
    phases: int = 0
    modules: int = 0


def trace_header(trace: Trace, skip: TableSizes) -> dict[str, Any]:
    """All of a trace but the columns of its calls and kernels, without the first entries of its tables."""
    return {
        "name": trace.name,
        "view": trace.view,
        "phases": trace.phases[skip.phases :],
        "modules": trace.modules[skip.modules :],
        "kernel_names": trace.kernel_names,
        "allocations": {name: getattr(trace.allocations, name).tolist() for name in _ALLOCATION_COLUMNS},
        "energy": readings_to_json(trace.energy),
        "provenance": asdict(trace.provenance),
        "ops": [asdict(op) for op in trace.ops[skip.ops :]],
    }


def call_table(trace: Trace) -> Any:
    """One row per call, its kernels and operands as lists."""
    columns: dict[str, Any] = {name: getattr(trace.calls, name) for name in _CALL_COLUMNS}
    reads_of, writes_of = operand_offsets(trace.ops, trace.calls.op)
    columns["reads"] = _lists(trace.calls.reads, reads_of)
    columns["writes"] = _lists(trace.calls.writes, writes_of)
    columns["replaces"] = _lists(trace.calls.replaces, writes_of)
    return pa.table(columns | _kernel_lists(trace))


def write_table(table: Any, header_key: bytes, header: Mapping[str, Any], path: Path) -> None:
    """Write a table with its header; the file appears whole or not at all.

    Raises:
        TraceError: where the file cannot be written.
    """
    metadata = {_VERSION_KEY: str(SCHEMA_VERSION), header_key: json.dumps(header, allow_nan=False)}

    def write(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, table.schema, **_WRITE_OPTIONS) as writer:
            writer.add_key_value_metadata(metadata)
            writer.write_table(table)

    try:
        write_atomically(path, write)
    except OSError as error:
        raise TraceError(f"cannot write {path}: {error.strerror or error}") from None


def read_table(path: Path) -> Any:
    """A table that `write_table` wrote, of this schema version.

    Raises:
        TraceError: where the file is missing, no Parquet, or of another schema version.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise TraceError(f"{path}: no such trace file") from None
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TraceError(f"{path}: not a readable Parquet file ({reason})") from None
    metadata = table.schema.metadata or {}
    version = metadata.get(_VERSION_KEY)
    if version is None or not (TRACE_KEY in metadata or PART_KEY in metadata):
        raise TraceError(
            f"{path}: a Parquet file, but not a Roofscape trace (no roofscape.schema_version in its metadata)"
        )
    if version != str(SCHEMA_VERSION).encode():
        raise TraceError(
            f"{path}: trace schema version must be {SCHEMA_VERSION}, got {version.decode(errors='replace')!r}; "
            "capture or import it again with this version"
        )
    return table


def trace_from(table: Any, header: Mapping[str, Any], path: Path) -> Trace:
    """The trace of a table and its header.

    Args:
        table: as `call_table` gives it.
        header: as `trace_header` gives it, with whole tables.
        path: where both were read, for the message.

    Raises:
        TraceError: where they do not fit together.
    """
    with damage_named(path):
        return _trace_from(table, header)


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn what reading a damaged header or column raises into one line that names the file."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, pa.ArrowException) as error:
        raise TraceError(f"{path}: damaged trace ({type(error).__name__}: {error})") from None


def _lists(values: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any]) -> Any:
    """Values split into one list per row; empty lists where the trace has no dataflow."""
    if not len(values):
        offsets = np.zeros_like(offsets)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values, pa.int64()))


def _kernel_lists(trace: Trace) -> dict[str, Any]:
    """Kernel columns as one list per call, in the order of the calls."""
    order = np.argsort(trace.kernels.call, kind="stable")
    counts = np.bincount(trace.kernels.call, minlength=len(trace.calls))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    return {
        f"kernel_{name}": pa.ListArray.from_arrays(offsets, pa.array(getattr(trace.kernels, name)[order]))
        for name in _KERNEL_COLUMNS
    }


def _trace_from(table: Any, header: Mapping[str, Any]) -> Trace:
    def column(name: str) -> Any:
        return table.column(name).to_numpy()

    def flat(name: str) -> Any:
        return table.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False)

    # Files written before these two existed lack them; whoever needs them says so.
    replaces = flat("replaces") if "replaces" in table.schema.names else np.empty(0, dtype=np.int64)
    allocations = header.get("allocations", dict.fromkeys(_ALLOCATION_COLUMNS, ()))
    first_kernels = table.column(f"kernel_{_KERNEL_COLUMNS[0]}").combine_chunks()
    kernel_counts = first_kernels.value_lengths().to_numpy(zero_copy_only=False)
    return Trace(
        name=header["name"],
        view=header["view"],
        phases=tuple(header["phases"]),
        modules=tuple(header["modules"]),
        kernel_names=tuple(header["kernel_names"]),
        energy=readings_from_json(header.get("energy")),
        provenance=_provenance(header["provenance"]),
        ops=tuple(_op(fields_of_op) for fields_of_op in header["ops"]),
        calls=Calls(
            **{name: column(name) for name in _CALL_COLUMNS},
            reads=flat("reads"),
            writes=flat("writes"),
            replaces=replaces,
        ),
        allocations=Allocations(
            **{name: np.array(allocations[name], dtype=np.int64) for name in _ALLOCATION_COLUMNS},
        ),
        kernels=Kernels(
            call=np.repeat(np.arange(len(table), dtype=np.int64), kernel_counts.astype(np.int64)),
            **{name: flat(f"kernel_{name}") for name in _KERNEL_COLUMNS},
        ),
    )


def _provenance(values: Mapping[str, Any]) -> Provenance:
    return Provenance(
        **{
            **values,
            "packages": tuple((name, version) for name, version in values["packages"]),
            "notes": tuple(values["notes"]),
        }
    )


def _op(values: Mapping[str, Any]) -> Op:
    return Op(
        **{
            **values,
            "inputs": tuple(_operand(operand) for operand in values["inputs"]),
            "outputs": tuple(_operand(operand) for operand in values["outputs"]),
            "sizes": tuple((name, size) for name, size in values["sizes"]),
        }
    )


def _operand(values: Mapping[str, Any]) -> Operand:
    return Operand(**{**values, "shape": tuple(values["shape"])})
