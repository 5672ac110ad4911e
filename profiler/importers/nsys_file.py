"""Reads the tables of an Nsight Systems SQLite export into the same records as a PyTorch profiler file."""

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from profiler.errors import TraceError
from profiler.importers.foreign_file import read_foreign
from profiler.importers.kineto_file import DeviceSpan, HostSpan, KinetoFile

_KERNELS, _COPIES, _FILLS = (f"CUPTI_ACTIVITY_KIND_{kind}" for kind in ("KERNEL", "MEMCPY", "MEMSET"))
_LAUNCHES, _RANGES = "CUPTI_ACTIVITY_KIND_RUNTIME", "NVTX_EVENTS"
_SQLITE_MAGIC = b"SQLite format 3\0"
_PICOSECONDS_PER_NANOSECOND = 1000
_LONGEST_NS = 10**17  # three years; a longer recording does not exist
_LARGEST_NUMBER = 2**31
_PROCESS_BITS = ~0xFFFFFF  # a global thread id is the global process id plus 24 bits of thread
_PUSH_POP, _START_END = 59, 60  # ENUM_NSYS_EVENT_TYPE: NvtxPushPopRange, NvtxStartEndRange
_OP = re.compile(r"((?:[A-Za-z_]\w*)::\w[\w.]*)(?:, (?:op_id|seq|sizes|input_op_ids) = .*)?", re.DOTALL)
_RANGE_IDS = re.compile(r", (?:op_id|seq|sizes|input_op_ids) = .*", re.DOTALL)  # tell ranges of one name apart
_COPY_KINDS = {1: "HtoD", 2: "DtoH", 8: "DtoD", 9: "HtoH", 10: "PtoP", 11: "HtoD", 12: "DtoH", 13: "DtoD"}
# SQLite steps of one read: a table of a stranger's making may hold expressions that never end.
_MOST_STEPS, _STEPS_PER_CHECK = 2_000_000_000, 1_000_000


def read_nsys(path: Path) -> KinetoFile:
    """The device events of an export, the calls that launched them, and the NVTX ranges around those.

    Raises:
        TraceError: where the file is no SQLite database or no such export, is damaged, or holds no device events.
    """
    raw = read_foreign(path)
    if not raw.startswith(_SQLITE_MAGIC):
        raise TraceError(f"{path}: not a SQLite file; export it with `nsys export --type sqlite report.nsys-rep`")
    try:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.deserialize(_without_log(raw))
            return _Reader(path, connection).read()
    except (sqlite3.Error, OverflowError, MemoryError, UnicodeError) as error:  # SQLite quotes names of any bytes
        reason = str(error) or type(error).__name__
        raise TraceError(f"{path}: damaged SQLite file: {reason.splitlines()[0][:200]}") from None


class _Reader:
    """One pass over the tables of an open export."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._skipped: Counter[str] = Counter()
        self._steps = 0
        connection.text_factory = lambda raw: raw.decode("utf-8", errors="replace")
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.set_progress_handler(self._is_too_long, _STEPS_PER_CHECK)
        # Views and virtual tables run code of the file's maker, so only true tables are read.
        self._tables = {
            str(row["name"])
            for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0")
        }
        self._names: dict[int, str] = {}
        self._processes: dict[int, int] = {}

    def read(self) -> KinetoFile:
        """Everything that matters here."""
        if "StringIds" not in self._tables or not self._tables & {_KERNELS, _COPIES, _FILLS}:
            raise TraceError(
                f"{self._path}: not an Nsight Systems export with CUDA events: lacks the tables StringIds and "
                f"{_KERNELS}; record with `nsys profile --trace cuda,nvtx`"
            )
        self._names = {
            key: str(value)
            for key, value in ((_whole(row["id"]), row["value"]) for row in self._rows("StringIds", "id", "value"))
            if key is not None
        }
        kernels = [*self._kernels(), *self._copies(_COPIES, "memcpy"), *self._copies(_FILLS, "memset")]
        if not kernels:
            raise TraceError(f"{self._path}: holds no device events (kernels, copies, fills)")
        kernels.sort(key=lambda kernel: (kernel.start_ps, kernel.device, kernel.stream))
        ops, annotations = self._ranges()
        return KinetoFile(
            ops=tuple(ops),
            launches=tuple(self._launches()),
            annotations=tuple(annotations),
            modules=(),
            kernels=tuple(kernels),
            header={"deviceProperties": self._devices(), "nsys_version": self._version()},
            skipped=tuple(sorted(self._skipped.items())),
        )

    def _is_too_long(self) -> int:
        self._steps += _STEPS_PER_CHECK
        return int(self._steps > _MOST_STEPS)

    def _rows(self, table: str, *columns: str) -> Iterator[sqlite3.Row]:
        """The wanted columns of a table; of an older or newer version those may be missing, and are NULL."""
        if table not in self._tables:
            return
        quoted = table.replace('"', '""')
        present = {str(row["name"]) for row in self._connection.execute(f'PRAGMA table_info("{quoted}")')}
        chosen = ", ".join(f'"{column}"' if column in present else f'NULL AS "{column}"' for column in columns)
        yield from self._connection.execute(f'SELECT {chosen} FROM "{quoted}"')

    def _kernels(self) -> Iterator[DeviceSpan]:
        sizes = ("gridX", "gridY", "gridZ", "blockX", "blockY", "blockZ")
        names = ("demangledName", "shortName", "mangledName")
        columns = ("start", "end", "deviceId", "streamId", "correlationId", "globalPid", "registersPerThread")
        for row in self._rows(_KERNELS, *columns, *names, *sizes):
            keys = [_whole(row[column]) for column in names]
            name = next((self._names[key] for key in keys if key is not None and key in self._names), None)
            args = {"grid": [row[size] for size in sizes], "registers per thread": row["registersPerThread"]}
            yield from self._span(
                row, name or f"kernel {keys[1] or keys[0] or '?'} (name not in StringIds)", "kernel", args
            )

    def _copies(self, table: str, category: str) -> Iterator[DeviceSpan]:
        columns = ("start", "end", "deviceId", "streamId", "correlationId", "globalPid", "bytes", "copyKind")
        for row in self._rows(table, *columns):
            kind = _COPY_KINDS.get(_whole(row["copyKind"]) or 0, "unknown way")
            name = f"Memcpy {kind}" if category == "memcpy" else "Memset (Device)"
            yield from self._span(row, name, category, {"bytes": _whole(row["bytes"])})

    def _span(self, row: sqlite3.Row, name: str, category: str, args: Mapping[str, Any]) -> Iterator[DeviceSpan]:
        """A device event, unless its times make no sense."""
        start_ns, end_ns = _whole(row["start"]), _whole(row["end"])
        fault = _time_fault(start_ns, end_ns)
        if fault or start_ns is None or end_ns is None:
            self._skipped[f"{category}: {fault}"] += 1
            return
        yield DeviceSpan(
            name=name,
            category=category,
            device=_small(row["deviceId"]),
            stream=_small(row["streamId"]),
            start_ps=start_ns * _PICOSECONDS_PER_NANOSECOND,
            duration_ps=(end_ns - start_ns) * _PICOSECONDS_PER_NANOSECOND,
            external_id=None,
            correlation=self._correlation(row["correlationId"], _whole(row["globalPid"])),
            args=args,
        )

    def _correlation(self, value: Any, process: int | None) -> int | None:
        """Correlation ids count per process; this one is unique in the file."""
        number = _whole(value)
        if number is None or not 0 <= number < 2**40:
            return None
        index = self._processes.setdefault(process or 0, len(self._processes))
        return (index << 40) + number

    def _launches(self) -> Iterator[HostSpan]:
        for row in self._rows(_LAUNCHES, "start", "end", "globalTid", "correlationId", "nameId"):
            name = self._names.get(_whole(row["nameId"]) or 0, "")
            yield from self._host(row, name, row["correlationId"])

    def _ranges(self) -> tuple[list[HostSpan], list[HostSpan]]:
        """NVTX ranges that name ops, and all others."""
        ops: list[HostSpan] = []
        others: list[HostSpan] = []
        for row in self._rows(_RANGES, "start", "end", "eventType", "text", "textId", "globalTid"):
            if row["eventType"] not in (_PUSH_POP, _START_END) or row["end"] is None:
                continue  # marks, names of threads and categories, and ranges that the recording cut
            text = row["text"] if isinstance(row["text"], str) else self._names.get(_whole(row["textId"]) or 0)
            if not text:
                continue
            match = _OP.fullmatch(text)
            name = match[1] if match else _RANGE_IDS.sub("", text)
            (ops if match else others).extend(self._host(row, name, None))
        return ops, others

    def _host(self, row: sqlite3.Row, name: str, correlation: Any) -> Iterator[HostSpan]:
        start_ns, end_ns, thread = _whole(row["start"]), _whole(row["end"]), _whole(row["globalTid"])
        fault = _time_fault(start_ns, end_ns)
        if fault or start_ns is None or end_ns is None:
            self._skipped[f"host range: {fault}"] += 1
            return
        process = None if thread is None else thread & _PROCESS_BITS
        yield HostSpan(
            name=name,
            thread=str(thread),
            start_ps=start_ns * _PICOSECONDS_PER_NANOSECOND,
            end_ps=end_ns * _PICOSECONDS_PER_NANOSECOND,
            external_id=None,
            correlation=None if correlation is None else self._correlation(correlation, process),
            args={},
        )

    def _devices(self) -> list[dict[str, Any]]:
        return [{"id": row["id"], "name": row["name"]} for row in self._rows("TARGET_INFO_GPU", "id", "name")]

    def _version(self) -> str:
        for row in self._rows("META_DATA_EXPORT", "name", "value"):
            if row["name"] == "EXPORT_PRODUCT_VERSION" and isinstance(row["value"], str):
                return row["value"][:40]
        return ""


def _without_log(raw: bytes) -> bytes:
    """The database marked as one without a write-ahead log, which a copy in memory cannot have (file format, 1.3)."""
    return raw if raw[18:20] == b"\x01\x01" else raw[:18] + b"\x01\x01" + raw[20:]


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _small(value: Any) -> int:
    """A device or stream number; 0 for what can be none."""
    return value if isinstance(value, int) and abs(value) < _LARGEST_NUMBER else 0


def _time_fault(start_ns: int | None, end_ns: int | None) -> str:
    """What is wrong with an event's times, empty where nothing is."""
    if start_ns is None or end_ns is None:
        return "start or end is missing or no whole number"
    if abs(start_ns) > _LONGEST_NS or abs(end_ns) > _LONGEST_NS:
        return "start or end is out of range"
    return "duration is negative" if end_ns < start_ns else ""
