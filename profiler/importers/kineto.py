"""PyTorch profiler traces (Kineto, JSON or JSON.gz): kernels attached to the ops that launched them.

Times are the device's, counted from the first device event. A call is one op, the leaf-most that the cost rules know,
with all kernels that it launched; attention is one op. Kernels that nothing explains are calls of kind `unknown`.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from profiler.errors import UnknownOperationError
from profiler.importers.kineto_calls import LaunchedCall, build_calls
from profiler.importers.kineto_file import KinetoFile, read_kineto
from profiler.importers.kineto_links import is_collective_kernel
from profiler.importers.kineto_notes import describe_import, recorded_device, recorded_versions
from profiler.op import Op
from profiler.provenance import Provenance
from profiler.traces import ATTRIBUTIONS, KERNEL_CATEGORIES, Calls, FloatArray, IntArray, Kernels, Trace

_SECONDS_PER_PICOSECOND = 1e-12
# Stream numbers of several devices in one file are kept apart by this much.
_STREAMS_PER_DEVICE = 100_000


def import_kineto(path: Path, *, name: str | None = None, strict: bool = False) -> Trace:
    """Read a PyTorch profiler trace.

    Args:
        path: a `.json` or `.json.gz` file written by `torch.profiler`.
        name: name of the trace; the file's name where not given.
        strict: raise where the FLOPs or bytes of any op or kernel are unknown.

    Raises:
        TraceError: where the file is broken or is no such trace.
        UnknownOperationError: in strict mode, for what is unknown.
    """
    file = read_kineto(path)
    trace = _assemble(name or re.sub(r"\.json(\.gz)?$", "", path.name), file, build_calls(file))
    if strict:
        _refuse_unknown(path, trace)
    return trace


def _refuse_unknown(path: Path, trace: Trace) -> None:
    """Strict mode: every op must have known FLOPs and bytes."""
    unknown = trace.unknown_ops
    if unknown:
        raise UnknownOperationError(
            f"{path}: {len(unknown)} of {len(trace.ops)} ops have unknown FLOPs or bytes, and strict mode is on; "
            f"first: {unknown[0].name[:80]!r}"
        )


def _assemble(name: str, file: KinetoFile, calls: Sequence[LaunchedCall]) -> Trace:
    base_ps = file.kernels[0].start_ps
    op_index: dict[Op, int] = {}
    phases: dict[str, int] = {}
    modules: dict[str, int] = {}
    several_devices = len({kernel.device for kernel in file.kernels}) > 1
    streams = [k.stream + (_STREAMS_PER_DEVICE * k.device if several_devices else 0) for k in file.kernels]
    first = [call.kernels[0] for call in calls]
    busy_ps = [sum(file.kernels[index].duration_ps for index in call.kernels) for call in calls]
    columns = Calls(
        op=_int(op_index.setdefault(call.op, len(op_index)) for call in calls),
        phase=_int(phases.setdefault(call.mark.phase, len(phases)) for call in calls),
        step=_int(call.mark.step for call in calls),
        module=_int(modules.setdefault(call.mark.module, len(modules)) for call in calls),
        stream=_int(streams[index] for index in first),
        start_s=_seconds(file.kernels[index].start_ps - base_ps for index in first),
        duration_s=_seconds(busy_ps),
        energy_j=np.full(len(calls), np.nan),
    )
    kernels, kernel_names = _kernel_columns(file, calls, streams, base_ps)
    return Trace(
        name=name,
        ops=tuple(op_index),
        calls=columns,
        phases=tuple(phases),
        modules=tuple(modules),
        provenance=Provenance(
            source="import kineto",
            device=recorded_device(file),
            packages=recorded_versions(file.header),
            notes=describe_import(file, calls),
        ),
        kernels=kernels,
        kernel_names=kernel_names,
    )


def _kernel_columns(
    file: KinetoFile, calls: Sequence[LaunchedCall], streams: Sequence[int], base_ps: int
) -> tuple[Kernels, tuple[str, ...]]:
    call_of: dict[int, int] = {index: position for position, call in enumerate(calls) for index in call.kernels}
    names: dict[str, int] = {}
    kernels = Kernels(
        call=_int(call_of[index] for index in range(len(file.kernels))),
        name=_int(names.setdefault(kernel.name, len(names)) for kernel in file.kernels),
        category=_int(
            KERNEL_CATEGORIES.index(
                "collective" if kernel.category == "kernel" and is_collective_kernel(kernel.name) else kernel.category
            )
            for kernel in file.kernels
        ),
        attribution=_int(ATTRIBUTIONS.index(calls[call_of[index]].attribution) for index in range(len(file.kernels))),
        stream=_int(streams),
        start_s=_seconds(kernel.start_ps - base_ps for kernel in file.kernels),
        duration_s=_seconds(kernel.duration_ps for kernel in file.kernels),
    )
    return kernels, tuple(names)


def _int(values: Iterable[int]) -> IntArray:
    return np.fromiter(values, dtype=np.int64)


def _seconds(picoseconds: Iterable[int]) -> FloatArray:
    return np.fromiter(picoseconds, dtype=np.float64) * _SECONDS_PER_PICOSECOND
