"""Chrome and Perfetto trace-event JSON: phases, steps, modules, operations, kernels, counters and arrows on tracks."""

import gzip
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np

from profiler.files import write_atomically
from profiler.traces import Trace
from reports.errors import ReportError
from reports.exporters.device_tracks import kernel_events
from reports.exporters.host_tracks import HostTracks
from reports.exporters.trace_events import json_text
from reports.exporters.tracks import spans_of
from simulator.result import SimulationResult

SUFFIX = ".json"

_CALLS_PID, _KERNELS_PID, _SIMULATED_PID = 1, 2, 3
_CHUNK = 10_000  # events that are written at a time


def export_perfetto(trace: Trace, path: Path, *, simulation: SimulationResult | None = None) -> Path:
    """Write a timeline for Perfetto (ui.perfetto.dev), chrome://tracing and what else reads trace-event JSON.

    Args:
        trace: what ran; its measured times are one group of tracks, its kernels another.
        path: of the file; compressed where it ends in `.gz`.
        simulation: of this trace: a group of tracks of its own, whose name says that it is predicted.

    Returns:
        The path written.

    Raises:
        ReportError: there is no time to show, or the file cannot be written.
    """
    if not trace.is_measured and not len(trace.kernels) and simulation is None:
        raise ReportError(
            f"trace {trace.name!r}: nothing of it was measured, so it has no timeline; give --chip to simulate one"
        )
    try:
        write_atomically(path, lambda temporary: _write(trace, simulation, temporary, path.suffix == ".gz"))
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror or error}") from None
    return path


def trace_events(trace: Trace, simulation: SimulationResult | None = None) -> Iterator[str]:
    """JSON text of every event."""
    device = trace.provenance.device or "a device without a name"
    if trace.is_measured:
        calls = trace.calls
        measured = HostTracks(
            pid=_CALLS_PID,
            title=f"{trace.name}: operations, measured on {device}",
            category="cpu_op",
            trace=trace,
            spans=spans_of(calls.start_s, calls.duration_s),
            energy_j=calls.energy_j,
        )
        yield from measured.events()
        if len(trace.kernels):
            yield from kernel_events(_KERNELS_PID, f"{trace.name}: kernels, measured on {device}", trace, measured)
    if simulation is not None:
        how = f"simulated on {simulation.chip} (predicted: {simulation.engine} engine, {simulation.mode} mode)"
        dynamic_j = np.full(len(trace.calls), np.nan)
        if simulation.op_energy_j is not None:
            dynamic_j = simulation.op_energy_j[simulation.op]
        yield from HostTracks(
            pid=_SIMULATED_PID,
            title=f"{trace.name}: {how}",
            category="simulated",
            trace=trace,
            spans=spans_of(simulation.start_s, simulation.duration_s),
            energy_j=dynamic_j,
            power_name="dynamic power (predicted)",
        ).events()


def _head(trace: Trace, simulation: SimulationResult | None) -> str:
    unmeasured = int((~np.isfinite(trace.calls.duration_s)).sum())
    about = {
        "trace": trace.name,
        "measured_on": trace.provenance.device if trace.is_measured else None,
        "source": trace.provenance.source,
        "simulated_on": simulation.chip if simulation else None,
        "calls": len(trace.calls),
        "calls_without_measured_time": unmeasured,
        "calls_with_unknown_flops_or_bytes": int(trace.call_counts[_unknown(trace)].sum()),
        "notes": [*trace.provenance.notes, *(simulation.notes if simulation else ())],
    }
    return f'{{"displayTimeUnit":"ns","otherData":{json_text(about)},\n"traceEvents":[\n'


def _unknown(trace: Trace) -> list[int]:
    return [i for i, op in enumerate(trace.ops) if None in (op.flops, op.read_bytes(), op.write_bytes())]


def _write(trace: Trace, simulation: SimulationResult | None, path: Path, compressed: bool) -> None:
    texts = chain((_head(trace, simulation),), _separated(trace_events(trace, simulation)), ("\n]}\n",))
    with path.open("wb") as plain:
        if compressed:
            with gzip.GzipFile(filename="", mode="wb", fileobj=plain, compresslevel=3, mtime=0) as packed:
                packed.writelines(text.encode("ascii") for text in texts)
        else:
            plain.writelines(text.encode("ascii") for text in texts)


def _separated(events: Iterable[str]) -> Iterator[str]:
    """Events with commas between them, many at a time."""
    source = iter(events)
    separator = ""
    while chunk := list(islice(source, _CHUNK)):
        yield separator + ",\n".join(chunk)
        separator = ",\n"
