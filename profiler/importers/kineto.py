"""PyTorch profiler traces (Kineto, JSON or JSON.gz): kernels attached to the ops that launched them.

Times are the device's, counted from the first device event. A call is one op, the leaf-most that the cost rules know,
with all kernels that it launched; attention is one op. Kernels that nothing explains are calls of kind `unknown`. A
folder of files, one per rank of a distributed run, becomes one trace.
"""

from collections.abc import Sequence
from pathlib import Path

from profiler.importers.assembly import STREAMS_PER_DEVICE, ForeignKernel, LaunchedCall, assemble
from profiler.importers.foreign_file import plain_name
from profiler.importers.kineto_calls import build_calls
from profiler.importers.kineto_file import KinetoFile, read_kineto
from profiler.importers.kineto_links import is_collective_kernel
from profiler.importers.kineto_notes import describe_import, recorded_device, recorded_versions
from profiler.importers.kineto_ranks import RankFile, join_ranks, read_ranks
from profiler.importers.strictness import refuse_unknown
from profiler.provenance import Provenance
from profiler.traces import Trace


def import_kineto(path: Path, *, name: str | None = None, strict: bool = False) -> Trace:
    """Read a PyTorch profiler trace.

    Args:
        path: a `.json` or `.json.gz` file written by `torch.profiler`, or a folder with one per rank.
        name: name of the trace; the file's name where not given.
        strict: raise where the FLOPs or bytes of any op or kernel are unknown.

    Raises:
        TraceError: where the file is broken or is no such trace.
        UnknownOperationError: in strict mode, for what is unknown.
    """
    title = name or plain_name(path, ".json")
    if path.is_dir():
        trace = _join(title, read_ranks(path))
    else:
        file = read_kineto(path)
        calls = build_calls(file)
        trace = assemble(title, device_kernels(file), calls, _provenance(file, describe_import(file, calls)))
    if strict:
        refuse_unknown(path, trace)
    return trace


def device_kernels(file: KinetoFile, *, base_ps: int = 0, rank: int = 0) -> list[ForeignKernel]:
    """The device events of a file as kernels; of the second rank and later, streams move up by rank.

    Args:
        file: whose events.
        base_ps: what its times count from.
        rank: of a distributed run.
    """
    return [
        ForeignKernel(
            name=kernel.name,
            category="collective"
            if kernel.category == "kernel" and is_collective_kernel(kernel.name)
            else kernel.category,
            device=kernel.device,
            stream=kernel.stream + STREAMS_PER_DEVICE * rank,
            start_ps=None if kernel.is_range else kernel.start_ps + base_ps,
            duration_ps=kernel.duration_ps,
            counters=kernel.counters,
        )
        for kernel in file.kernels
    ]


def _join(name: str, ranks: Sequence[RankFile]) -> Trace:
    """One trace of several ranks: each rank is the outermost phase of its calls, and keeps streams of its own."""
    kernels: list[ForeignKernel] = []
    calls: list[LaunchedCall] = []
    notes: list[str] = []
    for each in ranks:
        own = build_calls(each.file)
        notes += [f"Rank {each.rank}: {note}" for note in describe_import(each.file, own)]
        calls += join_ranks(own, each.rank, len(kernels))
        kernels += device_kernels(each.file, base_ps=each.base_ps, rank=each.rank)
    calls.sort(key=lambda call: kernels[call.kernels[0]].start_ps or 0)
    devices = {recorded_device(each.file) for each in ranks}
    provenance = Provenance(
        source="import kineto",
        device=devices.pop() if len(devices) == 1 else "",
        packages=recorded_versions(ranks[0].file.header),
        notes=(
            f"{len(ranks)} ranks in one trace: each is the outermost phase of its calls, and stream numbers are "
            f"{STREAMS_PER_DEVICE} x rank + stream. Clocks of different hosts agree only as well as the hosts keep "
            "them, so waits between ranks are uncertain.",
            *notes,
        ),
    )
    return assemble(name, kernels, calls, provenance)


def _provenance(file: KinetoFile, notes: tuple[str, ...]) -> Provenance:
    return Provenance(
        source="import kineto",
        device=recorded_device(file),
        packages=recorded_versions(file.header),
        notes=notes,
    )
