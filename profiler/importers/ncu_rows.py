"""Rows of `ncu --csv`: one per kernel and metric (long), or one per kernel (wide, `--page raw`), as counted kernels."""

import csv
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from profiler.errors import TraceError
from profiler.importers.nvidia_metrics import needs_unit

# ncu's own lines among the output; the program's lines are all that does not look like a row.
_CHATTER = "=="
_KERNEL, _METRIC, _UNIT, _VALUE = "Kernel Name", "Metric Name", "Metric Unit", "Metric Value"
_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d{1,40})(?:\.\d{0,40})?(?:[eE][+-]?\d{1,3})?")
_PREFIXES = {"": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BASE_UNITS = ("byte", "second", "hz", "Hz", "inst", "cycle", "sector")
_SHORT_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "%": 1.0, "": 1.0, "B": 1.0, "KB": 1e3, "MB": 1e6}
_LARGEST_NUMBER = 2**31
_DEVICE_NAME = "device__attribute_display_name"


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedKernel:
    """One launch of a kernel that Nsight Compute counted.

    Attributes:
        name: demangled name.
        metrics: metric to value in base units (bytes, seconds, hertz, counts); only known values.
        device: index of the GPU.
        device_name: its name, empty where not recorded.
        stream: that it was launched on.
        phase: NVTX ranges around it, joined by `/`.
    """

    name: str
    metrics: Mapping[str, float]
    device: int = 0
    device_name: str = ""
    stream: int = 0
    phase: str = ""


@dataclass(slots=True)
class _Growing:
    """A kernel while its rows are read."""

    device: int
    stream: int
    metrics: dict[str, float] = field(default_factory=dict)


def read_csv(path: Path, text: str) -> tuple[tuple[CountedKernel, ...], tuple[tuple[str, int], ...]]:
    """Counted kernels in launch order, and (reason, count) of values that were skipped.

    Raises:
        TraceError: where there is no header of `ncu --csv`, or no kernel below it.
    """
    skipped: Counter[str] = Counter()
    try:
        header, rows = _table(path, text)
        kernels = _read_long(header, rows, skipped) if _METRIC in header else _read_wide(header, rows, skipped)
    except csv.Error as error:
        raise TraceError(f"{path}: not readable as CSV: {error}") from None
    if not kernels:
        raise TraceError(f"{path}: holds no counted kernel below its header; did ncu find any kernel to profile?")
    return tuple(kernels), tuple(sorted(skipped.items()))


def parse_value(text: str, unit: str) -> float | None:
    """A metric's value in base units; None where it is no known, finite number.

    Thousands are separated by commas, and ncu scales units unless `--print-units base` was given.

    >>> parse_value("999,845,384.51", "cycle/second"), parse_value("1.5", "Mbyte"), parse_value("2", "usecond")
    (999845384.51, 1500000.0, 2e-06)
    >>> parse_value("nan", "byte"), parse_value("3", "furlong")
    (None, None)
    """
    factor = unit_factor(unit)
    if factor is None or not _NUMBER.fullmatch(text):
        return None
    value = float(text.replace(",", "")) * factor
    return value if math.isfinite(value) else None


def unit_factor(unit: str) -> float | None:
    """What a value in this unit is multiplied by for base units; None where the unit is not known.

    >>> unit_factor("cycle/nsecond"), unit_factor("Ghz"), unit_factor("block")
    (1000000000.0, 1000000000.0, None)
    """
    if unit in _SHORT_UNITS:
        return _SHORT_UNITS[unit]
    above, _, below = unit.partition("/")
    if below:
        top, bottom = unit_factor(above), unit_factor(below)
        return float(f"{top / bottom:.12g}") if top is not None and bottom else None
    for base in _BASE_UNITS:
        if unit.endswith(base) and unit.removesuffix(base) in _PREFIXES:
            return _PREFIXES[unit.removesuffix(base)]
    return None


def _table(path: Path, text: str) -> tuple[list[str], Iterator[list[str]]]:
    """The header, and the rows below it."""
    lines = [line for line in text.replace("\0", "").splitlines(keepends=True) if not line.startswith(_CHATTER)]
    for number, line in enumerate(lines):
        if f'"{_KERNEL}"' in line or f",{_KERNEL}," in line:
            header = next(csv.reader([line]))
            if _KERNEL in header:
                return header, csv.reader(lines[number + 1 :])
    raise TraceError(
        f"{path}: not the output of `ncu --csv`: no header with the column {_KERNEL!r}; run `ncu --csv ... > file.csv`"
    )


def _read_long(header: Sequence[str], rows: Iterable[Sequence[str]], skipped: Counter[str]) -> list[CountedKernel]:
    """One row per kernel and metric; kernels are told apart by process, id and name."""
    growing: dict[tuple[str, str, str], _Growing] = {}
    needed = max(header.index(column) for column in header if column in (_KERNEL, _METRIC, _UNIT, _VALUE))
    for row in rows:
        if not needed < len(row) <= len(header):
            skipped["rows that do not fit the header (the program's output?)"] += 1
            continue
        cells = dict(zip(header, row, strict=False))  # ncu leaves out the columns of rules where a row has none
        key = (cells.get("Process ID", ""), cells.get("ID", ""), cells[_KERNEL])
        kernel = growing.setdefault(key, _Growing(_number(cells.get("Device", "")), _number(cells.get("Stream", ""))))
        _keep(kernel.metrics, cells[_METRIC], cells.get(_VALUE, ""), cells.get(_UNIT, ""), skipped)
    return [
        CountedKernel(name=name, metrics=kernel.metrics, device=kernel.device, stream=kernel.stream)
        for (_, _, name), kernel in growing.items()
        if name
    ]


def _read_wide(header: Sequence[str], rows: Iterable[Sequence[str]], skipped: Counter[str]) -> list[CountedKernel]:
    """One row per kernel and one column per metric; the row below the header holds the units."""
    units: Sequence[str] | None = None
    kernels: list[CountedKernel] = []
    for row in rows:
        if len(row) != len(header):
            skipped["rows that do not fit the header (the program's output?)"] += 1
            continue
        cells = dict(zip(header, row, strict=True))
        if units is None and not cells.get("ID", ""):
            units = row
            continue
        metrics: dict[str, float] = {}
        for column, unit in zip(header, units or [""] * len(header), strict=True):
            if "__" in column and column != _DEVICE_NAME:
                _keep(metrics, column, cells[column], unit, skipped)
        kernels.append(
            CountedKernel(
                name=cells[_KERNEL],
                metrics=metrics,
                device=_number(cells.get("Device", "")),
                device_name=cells.get(_DEVICE_NAME, ""),
                stream=_number(cells.get("Stream", "")),
            )
        )
    return [kernel for kernel in kernels if kernel.name]


def _keep(metrics: dict[str, float], name: str, text: str, unit: str, skipped: Counter[str]) -> None:
    """Keep a metric's value; what is unknown, negative, or differs from a value already read is counted instead."""
    if "__" not in name or not text:
        return
    if not unit and needs_unit(name):
        skipped["times and rates without a unit"] += 1
        return
    value = parse_value(text, unit)
    if value is None:
        if unit_factor(unit) is not None:
            skipped["metric values that are no number"] += 1
    elif value < 0:
        skipped["metric values that are negative"] += 1
    elif metrics.setdefault(name, value) != value:
        skipped["metric values that differ from one already read of the same kernel"] += 1


def _number(text: str) -> int:
    """A device or stream number; 0 for what can be none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 11 and int(text) < _LARGEST_NUMBER else 0
