"""Nsight Systems, exported as SQLite: kernels and copies, linked to the NVTX ranges around their launches.

Ranges that PyTorch emits (`aten::mm, op_id = 7`) name ops; all others are phases. Shapes are not in such files, so the
FLOPs and bytes of the ops are unknown.
"""

from pathlib import Path

from profiler.importers.assembly import assemble
from profiler.importers.foreign_file import plain_name
from profiler.importers.kineto import device_kernels
from profiler.importers.kineto_calls import build_calls
from profiler.importers.kineto_notes import describe_import, recorded_device
from profiler.importers.nsys_file import read_nsys
from profiler.importers.strictness import refuse_unknown
from profiler.provenance import Provenance
from profiler.traces import Trace


def import_nsys(path: Path, *, name: str | None = None, strict: bool = False) -> Trace:
    """Read an Nsight Systems export.

    Args:
        path: a `.sqlite` or `.sqlite.gz` file that `nsys export --type sqlite` wrote.
        name: name of the trace; the file's name where not given.
        strict: raise where the FLOPs or bytes of any op or kernel are unknown.

    Raises:
        TraceError: where the file is broken, no such export, or holds no device events.
        UnknownOperationError: in strict mode, for what is unknown.
    """
    file = read_nsys(path)
    calls = build_calls(file)
    device = recorded_device(file)
    version = file.header.get("nsys_version")
    unnamed = () if device else ("The file does not name the GPU (no TARGET_INFO_GPU, or several models).",)
    provenance = Provenance(
        source="import nsys",
        device=device,
        packages=(("nsight-systems", str(version)),) if version else (),
        notes=(*describe_import(file, calls), *unnamed),
    )
    trace = assemble(name or plain_name(path, ".sqlite", ".db"), device_kernels(file), calls, provenance)
    if strict:
        refuse_unknown(path, trace)
    return trace
