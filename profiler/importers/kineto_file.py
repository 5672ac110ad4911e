"""Reads a PyTorch profiler file into checked records with integer times; bad events are counted and skipped."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from profiler.errors import TraceError
from profiler.importers.foreign_file import read_foreign_text
from profiler.importers.nvidia_metrics import kernel_counters, kernel_duration_ps

PICOSECONDS_PER_MICROSECOND = 1_000_000
_LARGEST_NUMBER = 2**31  # of a device or a stream
_LARGEST_MICROSECONDS = 10**17  # the year 5138 counted from 1970; anything above is no time
_DEVICE_CATEGORIES = {
    "kernel": "kernel",
    "gpu_memcpy": "memcpy",
    "memcpy": "memcpy",
    "gpu_memset": "memset",
    "memset": "memset",
    "cuda_profiler_range": "range",
}
_HOST_CATEGORIES = {"cpu_op": "op", "operator": "op", "user_annotation": "annotation", "python_function": "module"}
MODULE_PREFIX = "nn.Module: "
_NO_COUNTERS: Mapping[str, float] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpan:
    """Something that a CPU thread did: an op, a launch, an annotated range or a module's forward."""

    name: str
    thread: str
    start_ps: int
    end_ps: int
    external_id: int | None
    correlation: int | None
    args: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpan:
    """Something that a device did; `category` is one of kernel, memcpy, memset, collective.

    `duration_ps` is None, and `is_range` true, where CUPTI's range profiler counted a kernel: it replays kernels, and
    the profiler then spreads the ranges evenly over its window, so `start_ps` tells their order and nothing else.
    """

    name: str
    category: str
    device: int
    stream: int
    start_ps: int
    duration_ps: int | None
    external_id: int | None
    correlation: int | None
    args: Mapping[str, Any]
    counters: Mapping[str, float] = field(default_factory=dict)
    is_range: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KinetoFile:
    """The events of a file that matter here, the header beside them, and (reason, count) of what was skipped."""

    ops: tuple[HostSpan, ...]
    launches: tuple[HostSpan, ...]
    annotations: tuple[HostSpan, ...]
    modules: tuple[HostSpan, ...]
    kernels: tuple[DeviceSpan, ...]
    header: Mapping[str, Any]
    skipped: tuple[tuple[str, int], ...]


def read_kineto(path: Path, *, may_lack_kernels: bool = False) -> KinetoFile:
    """Read a PyTorch profiler JSON or JSON.gz.

    Args:
        path: the file.
        may_lack_kernels: whether a file without device events will do.

    Raises:
        TraceError: where the file cannot be read, is no JSON, or is no PyTorch profiler trace with device events.
    """
    document = _parse(path, read_foreign_text(path))
    if not isinstance(document, dict) or not isinstance(document.get("traceEvents"), list):
        raise TraceError(f"{path}: not a PyTorch profiler trace: expected a JSON object with a list 'traceEvents'")
    host: dict[str, list[HostSpan]] = {"op": [], "launch": [], "annotation": [], "module": []}
    kernels: list[DeviceSpan] = []
    skipped: Counter[str] = Counter()
    for event in document["traceEvents"]:
        _sort_event(event, host, kernels, skipped)
    if not kernels and not may_lack_kernels:
        raise TraceError(
            f"{path}: holds no device events (kernel, gpu_memcpy, gpu_memset, cuda_profiler_range) among "
            f"{len(document['traceEvents'])} events; record with ProfilerActivity.CUDA"
        )
    kernels.sort(key=lambda kernel: (kernel.start_ps, kernel.device, kernel.stream))
    return KinetoFile(
        ops=tuple(host["op"]),
        launches=tuple(host["launch"]),
        annotations=tuple(host["annotation"]),
        modules=tuple(host["module"]),
        kernels=tuple(kernels),
        header={key: value for key, value in document.items() if key != "traceEvents"},
        skipped=tuple(sorted(skipped.items())),
    )


def get_arg(args: Mapping[str, Any], name: str) -> Any:
    """An argument of an event by name; older files spell names in lower case or capitalize only the first word."""
    if name in args:
        return args[name]
    for spelling in (name.capitalize(), name.lower()):
        if spelling in args:
            return args[spelling]
    return None


def as_integer(value: Any) -> int | None:
    """A whole number, also where an older file wrote it as text; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return value
    if isinstance(value, str) and len(value) < 19 and value.isascii() and value.isdigit():
        return int(value)
    return None


def _parse(path: Path, text: str) -> Any:
    """JSON with fractions as `Decimal`: absolute microseconds with nanosecond digits do not fit a 64-bit float."""
    try:
        return json.loads(text, parse_float=Decimal, strict=False)
    except json.JSONDecodeError as error:
        raise TraceError(f"{path}: not valid JSON: {error.msg} at line {error.lineno} column {error.colno}") from error
    except RecursionError as error:
        raise TraceError(f"{path}: not valid JSON: nested too deeply") from error
    except (ValueError, ArithmeticError) as error:
        raise TraceError(f"{path}: not valid JSON: a number is out of range") from error


def _sort_event(event: Any, host: dict[str, list[HostSpan]], kernels: list[DeviceSpan], skipped: Counter[str]) -> None:
    """Put one complete event where it belongs; flows, counters and what describes no work are left out."""
    if not isinstance(event, dict):
        skipped["is not an object"] += 1
        return
    if event.get("ph") != "X":
        return
    category = str(event.get("cat", "")).lower()
    name = event.get("name")
    device_category = _DEVICE_CATEGORIES.get(category)
    host_category = "launch" if category.endswith(("runtime", "driver")) else _HOST_CATEGORIES.get(category)
    if device_category is None and host_category is None:
        return
    if host_category == "module" and not str(name).startswith(MODULE_PREFIX):
        return
    args = event.get("args")
    args = args if isinstance(args, dict) else {}
    start_ps, duration_ps = _picoseconds(event.get("ts")), _picoseconds(event.get("dur"))
    fault = _fault(name, event, start_ps, duration_ps)
    if fault or start_ps is None or duration_ps is None or not isinstance(name, str):
        skipped[f"{category}: {fault}"] += 1
        return
    external_id, correlation = as_integer(get_arg(args, "External id")), as_integer(get_arg(args, "correlation"))
    if device_category is not None:
        stream, device = _stream(args, event)
        is_range = device_category == "range"
        metrics = _metrics(args) if is_range else {}
        kernels.append(
            DeviceSpan(
                name=name,
                category="kernel" if is_range else device_category,
                device=device,
                stream=stream,
                start_ps=start_ps,
                duration_ps=kernel_duration_ps(metrics) if is_range else duration_ps,
                external_id=external_id,
                correlation=correlation,
                args=args,
                counters=kernel_counters(metrics) if is_range else _NO_COUNTERS,
                is_range=is_range,
            )
        )
    elif host_category is not None:
        host[host_category].append(
            HostSpan(
                name=name,
                thread=f"{event.get('pid')}/{event.get('tid')}",
                start_ps=start_ps,
                end_ps=start_ps + duration_ps,
                external_id=external_id,
                correlation=correlation,
                args=args,
            )
        )


def _fault(name: Any, event: dict[str, Any], start_ps: int | None, duration_ps: int | None) -> str:
    """What is wrong with an event, empty where nothing is."""
    if not isinstance(name, str):
        return "has no name"
    if start_ps is None:
        return "ts is missing" if "ts" not in event else "ts is no finite number"
    if duration_ps is None:
        return "dur is missing" if "dur" not in event else "dur is no finite number"
    return "dur is negative" if duration_ps < 0 else ""


def _picoseconds(value: Any) -> int | None:
    """Microseconds as whole picoseconds, exactly; None for what is no time (text, NaN, out of range)."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    if not -_LARGEST_MICROSECONDS < value < _LARGEST_MICROSECONDS:
        return None
    return int(value * PICOSECONDS_PER_MICROSECOND)


def _stream(args: Mapping[str, Any], event: Mapping[str, Any]) -> tuple[int, int]:
    """Stream and device of a device event: named in its arguments, else its rows in the viewer."""
    stream, device = as_integer(get_arg(args, "stream")), as_integer(get_arg(args, "device"))
    if stream is None:
        text = str(event.get("tid"))
        stream = as_integer(text.rpartition(" ")[2])
    return _small(stream), _small(device)


def _small(number: int | None) -> int:
    """A device or stream number; 0 for what can be none."""
    return number if number is not None and abs(number) < _LARGEST_NUMBER else 0


def _metrics(args: Mapping[str, Any]) -> dict[str, float]:
    """Counters among the arguments of a CUPTI range; NaN, negative and infinite ones are unknown."""
    found = {}
    for name, value in args.items():
        if isinstance(value, int | Decimal) and not isinstance(value, bool) and 0 <= value < 2**63 and "__" in name:
            found[name] = float(value)
    return found
