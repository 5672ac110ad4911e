"""Rows of rocprof's and rocprofv3's CSV files as dispatches of kernels."""

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from profiler.errors import TraceError
from profiler.importers.foreign_file import read_foreign_text

_PICOSECONDS_PER_NANOSECOND = 1000
_LONGEST_NS = 10**18
_LARGEST_NUMBER = 2**31
_NAMES = ("Kernel_Name", "KernelName")
_STARTS, _ENDS = ("Start_Timestamp", "BeginNs"), ("End_Timestamp", "EndNs")
_IDS = ("Dispatch_ID", "Dispatch_Id", "Index")
_DEVICES, _QUEUES = ("GPU_ID", "Agent_Id", "gpu-id"), ("Queue_ID", "Queue_Id", "queue-id")
_COUNTER, _VALUE = "Counter_Name", "Counter_Value"
_COUNTER_NAME = re.compile(r"[A-Z][A-Z0-9]*_\w+(?:\[\d{1,5}\])?|FetchSize|WriteSize")
_DESCRIPTIONS = (*_NAMES, *_STARTS, *_ENDS, *_IDS, *_DEVICES, *_QUEUES, "Correlation_ID", "XCC_Index")
_WHOLE = re.compile(r"\d{1,19}(?:\.0*)?")
_NUMBER = re.compile(r"[+-]?\d{1,40}(?:\.\d{0,40})?(?:[eE][+-]?\d{1,3})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """One launch of a kernel; None for a time that is not known."""

    name: str
    device: int = 0
    queue: int = 0
    start_ps: int | None = None
    duration_ps: int | None = None
    counters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RocprofFile:
    """The dispatches of a file, what the files beside it say of the system, and (reason, count) of what was skipped."""

    dispatches: tuple[Dispatch, ...]
    device: str
    packages: tuple[tuple[str, str], ...]
    has_rounded_times: bool
    skipped: tuple[tuple[str, int], ...]


def read_rocprof(path: Path) -> RocprofFile:
    """Read a file of rocprof or rocprofv3, with the timestamps and the system's description beside it.

    Raises:
        TraceError: where it is no such file, is damaged, or holds no kernel.
    """
    skipped: Counter[str] = Counter()
    rows = list(_table(path, skipped))
    dispatches = _long(rows, skipped) if rows and _COUNTER in rows[0] else [_dispatch(row, skipped) for row in rows]
    dispatches = [dispatch for dispatch in dispatches if dispatch.name]
    if not dispatches:
        raise TraceError(f"{path}: holds no kernel below its header")
    times = _beside(path, "timestamps")
    if times is not None and all(dispatch.duration_ps is None for dispatch in dispatches):
        dispatches = _with_times(dispatches, [_dispatch(row, skipped) for row in _table(times, skipped)])
    system = _beside(path, "sysinfo")
    described = next(_rows_of(system), {}) if system is not None else {}
    rounded = any(_is_rounded(_first(row, _STARTS) or "") for row in rows)
    rocm = described.get("rocm_version", "")
    return RocprofFile(
        dispatches=tuple(dispatches),
        device=described.get("gpu_model", "")[:80],
        packages=(("rocm", rocm[:40]),) if rocm else (),
        has_rounded_times=rounded,
        skipped=tuple(sorted(skipped.items())),
    )


def _rows_of(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV file by column; a column that repeats counts once, rows of another width are left out."""
    text = read_foreign_text(path).replace("\0", "")
    try:
        reader = csv.reader(io.StringIO(text, newline=""))
        header = next(reader, [])
        for row in reader:
            if len(row) == len(header):
                yield dict(zip(header, row, strict=True))
            elif row:
                yield {}
    except csv.Error as error:
        raise TraceError(f"{path}: not readable as CSV: {error}") from None


def _table(path: Path, skipped: Counter[str]) -> Iterator[dict[str, str]]:
    is_known = False
    for row in _rows_of(path):
        if not row:
            skipped["rows with another number of columns than the header"] += 1
            continue
        if not is_known and not any(name in row for name in _NAMES):
            raise TraceError(f"{path}: not a CSV file of rocprof: no column {' or '.join(_NAMES)}")
        is_known = True
        yield row
    if not is_known:
        raise TraceError(f"{path}: not a CSV file of rocprof, or one without kernels")


def _long(rows: Sequence[Mapping[str, str]], skipped: Counter[str]) -> list[Dispatch]:
    """rocprofv3: one row per kernel and counter."""
    found: dict[tuple[str, ...], tuple[Dispatch, dict[str, float]]] = {}
    for row in rows:
        key = tuple(row.get(column, "") for column in ("Process_Id", "Agent_Id", "Dispatch_Id", "Kernel_Name"))
        if key not in found:
            found[key] = (_dispatch(row, skipped), {})
        value = _count(row.get(_VALUE, ""), skipped)
        if value is None:
            continue
        counters = found[key][1]
        if counters.setdefault(row[_COUNTER], value) != value:
            skipped["counter values that differ from one already read of the same kernel"] += 1
    return [replace(dispatch, counters=counters) for dispatch, counters in found.values()]


def _dispatch(row: Mapping[str, str], skipped: Counter[str]) -> Dispatch:
    """A row's kernel: what it is, when it ran, and the counters among its columns."""
    start_ns, end_ns = _time(_first(row, _STARTS)), _time(_first(row, _ENDS))
    if start_ns is not None and end_ns is not None and end_ns < start_ns:
        skipped["times whose end lies before their start"] += 1
        start_ns = end_ns = None
    is_timed = start_ns is not None and end_ns is not None
    counters = {}
    for column, text in row.items():
        if column not in _DESCRIPTIONS and _COUNTER_NAME.fullmatch(column):
            value = _count(text, skipped)
            if value is not None:
                counters[column] = value
    return Dispatch(
        name=(_first(row, _NAMES) or "").removesuffix(" (.kd)").removesuffix(".kd"),
        device=_number(_first(row, _DEVICES)),
        queue=_number(_first(row, _QUEUES)),
        start_ps=start_ns * _PICOSECONDS_PER_NANOSECOND if is_timed and start_ns is not None else None,
        duration_ps=(end_ns - start_ns) * _PICOSECONDS_PER_NANOSECOND
        if start_ns is not None and end_ns is not None
        else None,
        counters=counters,
    )


def _with_times(dispatches: list[Dispatch], timed: list[Dispatch]) -> list[Dispatch]:
    """The dispatches with the times of a run without counters, where both files name the same kernels in order."""
    if [dispatch.name for dispatch in dispatches] != [dispatch.name for dispatch in timed]:
        return dispatches
    return [
        replace(dispatch, start_ps=run.start_ps, duration_ps=run.duration_ps)
        for dispatch, run in zip(dispatches, timed, strict=True)
    ]


def _beside(path: Path, what: str) -> Path | None:
    """The file of this kind beside a `pmc_perf` file."""
    if "pmc_perf" not in path.name:
        return None
    other = path.with_name(path.name.replace("pmc_perf", what))
    return other if other.is_file() else None


def _first(row: Mapping[str, str], columns: Sequence[str]) -> str | None:
    return next((row[column] for column in columns if column in row), None)


def _is_rounded(text: str) -> bool:
    """Whether a time was rounded to so few digits that nanoseconds are lost.

    >>> _is_rounded("8.1097E+14"), _is_rounded("317095766765717")
    (True, False)
    """
    return "E" in text.upper()


def _time(text: str | None) -> int | None:
    """Nanoseconds; None for what is no whole number of them."""
    if text is None or not _WHOLE.fullmatch(text):
        return None
    value = int(text.partition(".")[0])
    return value if value < _LONGEST_NS else None


def _count(text: str, skipped: Counter[str]) -> float | None:
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if math.isfinite(value) and value >= 0:
        return value
    if text:
        skipped["counter values that are negative or no number"] += 1
    return None


def _number(text: str | None) -> int:
    """A device or queue number, `Agent 4` included; 0 for what can be none."""
    digits = (text or "").rpartition(" ")[2]
    is_small = digits.isascii() and digits.isdigit() and len(digits) < 11
    return int(digits) if is_small and int(digits) < _LARGEST_NUMBER else 0
