"""Reads `.ncu-rep` with NVIDIA's package `ncu-report`, in a process of its own: its native code sees a stranger's file.

`python -m profiler.importers.ncu_report_file FILE` prints the kernels as JSON; `read_report` runs that and checks it.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from profiler.errors import TraceError
from profiler.importers.ncu_rows import CountedKernel, unit_factor
from profiler.importers.nvidia_metrics import needs_unit

_SUFFIX = ".ncu-rep"
_MISSING_PACKAGE = 3
_UNREADABLE = 4
_TIMEOUT_S = 600
_UNNAMED = "(unnamed)"
_DEVICE_NAME = "device__attribute_display_name"


def is_report(path: Path) -> bool:
    """Whether a file is a report rather than CSV, by its name."""
    return path.name.endswith(_SUFFIX)


def read_report(path: Path) -> tuple[CountedKernel, ...]:
    """The counted kernels of a report.

    Raises:
        TraceError: where the package is missing, or the file cannot be read or holds no kernel.
    """
    try:
        with path.open("rb") as handle:
            handle.read(1)
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
    command = [sys.executable, "-m", "profiler.importers.ncu_report_file", str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)}
    try:
        done = subprocess.run(command, capture_output=True, env=environment, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise TraceError(f"{path}: the package ncu-report did not read it within {_TIMEOUT_S} s") from None
    if done.returncode == _MISSING_PACKAGE:
        raise TraceError(
            f"{path}: reading .ncu-rep needs NVIDIA's package ncu-report: pip install 'roofscape[nsight]', or export "
            "with `ncu --import FILE --csv --page raw > file.csv` and import that"
        )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() if done.returncode > 0 else []
        reason = said[-1][:200] if said else f"it ended with {done.returncode}"
        raise TraceError(f"{path}: the package ncu-report cannot read it ({reason})")
    kernels = tuple(_checked(entry) for entry in json.loads(done.stdout))
    if not kernels:
        raise TraceError(f"{path}: holds no counted kernel, or is no Nsight Compute report")
    return kernels


def _checked(entry: dict[str, Any]) -> CountedKernel:
    metrics = {}
    for name, value, unit in entry["metrics"]:
        factor = None if not unit and needs_unit(name) else unit_factor(unit)
        if factor is not None and isinstance(value, int | float) and math.isfinite(value) and value >= 0:
            metrics[name] = value * factor
    return CountedKernel(
        name=entry["name"], metrics=metrics, device_name=entry["device_name"], phase="/".join(entry["ranges"])
    )


def report_entries(report: Any) -> Iterator[dict[str, Any]]:
    """Kernels of an opened report as plain values.

    Args:
        report: what `ncu_report.load_report` returned.
    """
    for range_index in range(report.num_ranges()):
        actions = report.range_by_idx(range_index)
        for index in range(actions.num_actions()):
            action = actions.action_by_idx(index)
            metrics, device_name = [], ""
            for name in action.metric_names():
                metric = action.metric_by_name(name)
                if name == _DEVICE_NAME:
                    device_name = _text(metric.value())
                elif metric is not None and isinstance(value := metric.value(), int | float):
                    metrics.append((_text(name), value if math.isfinite(value) else None, _text(metric.unit())))
            yield {
                "name": _text(action.name()) or _UNNAMED,
                "device_name": device_name,
                "metrics": metrics,
                "ranges": _ranges(action),
            }


def _ranges(action: Any) -> list[str]:
    """Names of the NVTX ranges open around a kernel, outermost first."""
    state = action.nvtx_state()
    if state is None:
        return []
    return [
        _text(name) or _UNNAMED for domain in state.domains() for name in state.domain_by_id(domain).push_pop_ranges()
    ]


def _text(value: Any) -> str:
    """A string of the package, where it gave one, as can be saved: it leaves bytes that are no UTF-8 in it."""
    return "" if value is None else str(value).encode(errors="replace").decode()


def main() -> int:
    """Print the kernels of the report that the command line names."""
    try:
        import ncu_report  # noqa: PLC0415  # optional, and needed in this process only
    except ImportError:
        return _MISSING_PACKAGE
    try:
        entries = list(report_entries(ncu_report.load_report(sys.argv[1])))
    except Exception as error:  # whatever the library raises becomes one line in the parent
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return _UNREADABLE
    sys.stdout.write(json.dumps(entries, allow_nan=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
