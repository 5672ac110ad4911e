"""AMD rocprof and rocprofv3 CSV: counters per kernel (wide or long), kernel times, and the system's description.

`pmc_perf.csv` is read together with `timestamps.csv` and `sysinfo.csv` beside it. The program's ops are not in such
files, so every kernel is a call of kind `unknown`; `join_counters` puts what was counted onto a trace with ops.
"""

from pathlib import Path

from profiler.importers.amd_counters import kernel_counters, total_instances
from profiler.importers.assembly import ForeignKernel, LaunchedCall, assemble
from profiler.importers.foreign_file import plain_name
from profiler.importers.kineto_links import is_collective_kernel
from profiler.importers.rocprof_rows import Dispatch, RocprofFile, read_rocprof
from profiler.importers.strictness import refuse_unknown
from profiler.importers.unknown_ops import opaque_op
from profiler.provenance import Provenance
from profiler.traces import Trace


def import_rocprof(path: Path, *, name: str | None = None, strict: bool = False) -> Trace:
    """Read what rocprof counted or timed.

    Args:
        path: a `.csv` or `.csv.gz`: rocprof's wide counter file, rocprofv3's `*_counter_collection.csv` or
            `*_kernel_trace.csv`.
        name: name of the trace; the file's name where not given.
        strict: raise where the FLOPs or bytes of any op are unknown, as they are in every such file.

    Raises:
        TraceError: where the file is broken or holds no kernel.
        UnknownOperationError: in strict mode.
    """
    file = read_rocprof(path)
    kernels = [_kernel(dispatch) for dispatch in file.dispatches]
    calls = [
        LaunchedCall(op=opaque_op(kernel.name), kernels=(index,), attribution="unexplained")
        for index, kernel in enumerate(kernels)
    ]
    provenance = Provenance(
        source="import rocprof", device=file.device, packages=file.packages, notes=tuple(_notes(file, kernels))
    )
    trace = assemble(name or plain_name(path, ".csv"), kernels, calls, provenance)
    if strict:
        refuse_unknown(path, trace)
    return trace


def _kernel(dispatch: Dispatch) -> ForeignKernel:
    return ForeignKernel(
        name=dispatch.name,
        category="collective" if is_collective_kernel(dispatch.name) else "kernel",
        device=dispatch.device,
        stream=dispatch.queue,
        start_ps=dispatch.start_ps,
        duration_ps=dispatch.duration_ps,
        counters=kernel_counters(total_instances(dispatch.counters)),
    )


def _notes(file: RocprofFile, kernels: list[ForeignKernel]) -> list[str]:
    notes = [
        f"{len(kernels)} kernels; while counters are read, kernels run one at a time and may run again for each set."
    ]
    untimed = sum(kernel.duration_ps is None for kernel in kernels)
    if untimed:
        reason = "rounded, as a spreadsheet does" if file.has_rounded_times else "missing or make no sense"
        notes.append(f"{untimed} kernels have no known time: their timestamps are {reason}.")
    if any("dram_bytes" in kernel.counters for kernel in kernels):
        notes.append(
            "Bytes beyond the second-level cache are those that crossed to the fabric; an Infinity Cache may have "
            "served part of them. Bytes of the caches are whole lines looked up, an upper limit."
        )
    uncounted = sum(not kernel.counters for kernel in kernels)
    if uncounted:
        notes.append(f"{uncounted} kernels have no complete set of the counters for bytes and FLOPs.")
    if not file.device:
        notes.append("The file does not name the GPU.")
    return notes + [f"Skipped {count}: {reason}." for reason, count in file.skipped]
