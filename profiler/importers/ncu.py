"""Nsight Compute: `ncu --csv` output (long or wide) and `.ncu-rep` reports; measured bytes, FLOPs and time per kernel.

The program's ops are not in such files, so every kernel is a call of kind `unknown`; `join_counters` puts what was
counted onto the kernels of a trace of the same program, whose ops are known.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from profiler.importers.assembly import ForeignKernel, LaunchedCall, Mark, assemble
from profiler.importers.foreign_file import plain_name, read_foreign_text
from profiler.importers.kineto_links import is_collective_kernel
from profiler.importers.ncu_report_file import is_report, read_report
from profiler.importers.ncu_rows import CountedKernel, read_csv
from profiler.importers.nvidia_metrics import clock_hz, kernel_counters, kernel_duration_ps
from profiler.importers.strictness import refuse_unknown
from profiler.importers.unknown_ops import opaque_op
from profiler.provenance import Provenance
from profiler.traces import Trace


def import_ncu(path: Path, *, name: str | None = None, strict: bool = False) -> Trace:
    """Read what Nsight Compute counted.

    Args:
        path: a `.csv` or `.csv.gz` that `ncu --csv` printed, program output and `==PROF==` lines included, or a
            `.ncu-rep` report (which needs the package `ncu-report`).
        name: name of the trace; the file's name where not given.
        strict: raise where the FLOPs or bytes of any op are unknown, as they are in every such file.

    Raises:
        TraceError: where the file is broken or holds no counted kernel.
        UnknownOperationError: in strict mode.
    """
    title = name or plain_name(path, ".csv", ".ncu-rep", ".txt")
    if is_report(path):
        trace = build_counted(title, read_report(path), ())
    else:
        trace = build_counted(title, *read_csv(path, read_foreign_text(path)))
    if strict:
        refuse_unknown(path, trace)
    return trace


def build_counted(name: str, counted: Sequence[CountedKernel], skipped: Sequence[tuple[str, int]]) -> Trace:
    """A trace of counted kernels, with (reason, count) of what was skipped among its notes."""
    kernels = [
        ForeignKernel(
            name=kernel.name,
            category="collective" if is_collective_kernel(kernel.name) else "kernel",
            device=kernel.device,
            stream=kernel.stream,
            duration_ps=kernel_duration_ps(kernel.metrics),
            counters=kernel_counters(kernel.metrics),
        )
        for kernel in counted
    ]
    calls = [
        LaunchedCall(op=opaque_op(kernel.name), kernels=(index,), attribution="unexplained", mark=Mark(kernel.phase))
        for index, kernel in enumerate(counted)
    ]
    clocks = [hertz for kernel in counted if (hertz := clock_hz(kernel.metrics)) is not None]
    names = {kernel.device_name for kernel in counted}
    provenance = Provenance(
        source="import ncu",
        device=names.pop() if len(names) == 1 else "",
        clock_hz=median(clocks) if clocks else None,
        notes=tuple(_notes(counted, kernels, clocks, skipped)),
    )
    return assemble(name, kernels, calls, provenance)


def _notes(
    counted: Sequence[CountedKernel],
    kernels: Sequence[ForeignKernel],
    clocks: Sequence[float],
    skipped: Sequence[tuple[str, int]],
) -> list[str]:
    notes = [
        f"{len(kernels)} kernels were counted one at a time, replayed where one pass was not enough, so there are no "
        "start times, and caches may be colder than in the running program (ncu flushes them unless told not to)."
    ]
    if clocks:
        notes.append(
            f"The multiprocessors ran at {median(clocks) / 1e9:.2f} GHz while counting (ncu locks clocks to base "
            "unless told not to); times in a free run are shorter where compute is the limit."
        )
    untimed = sum(kernel.duration_ps is None for kernel in kernels)
    if untimed:
        notes.append(f"{untimed} kernels have neither a duration nor cycles with their rate, so their time is unknown.")
    uncounted = sum(not kernel.counters for kernel in kernels)
    if uncounted:
        notes.append(f"{uncounted} kernels have none of the metrics for bytes and FLOPs.")
    if not any(kernel.device_name for kernel in counted):
        notes.append("Nsight Compute's output does not name the GPU.")
    return notes + [f"Skipped {count}: {reason}." for reason, count in skipped]
