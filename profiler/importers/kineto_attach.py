"""Attaches the device kernels of a PyTorch profiler file to the calls that were recorded in the same run.

A kernel belongs to the call during which the host launched it. The two clocks are aligned by ranges that the recording
left in the file.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from profiler.errors import TraceError
from profiler.importers.assembly import LaunchedCall, device_streams, kernel_columns
from profiler.importers.kineto import device_kernels
from profiler.importers.kineto_file import KinetoFile
from profiler.importers.kineto_links import Link, is_graph_launch, link_kernels
from profiler.importers.kineto_nesting import NONE, Nesting
from profiler.importers.kineto_ops import OpBuilder
from profiler.op import Op
from profiler.traces import Calls, FloatArray, IntArray, Trace

_PS_PER_NS = 1000
_S_PER_PS = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockMark:
    """A reading of the host's clock taken inside an annotated range of this name."""

    name: str
    host_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockLine:
    """The file's clock against the host's, as a straight line through two moments.

    Attributes:
        host_ns: the host's clock at both moments.
        file_ps: the file's clock at them.
        uncertainty_s: how far off the line may be there.
    """

    host_ns: tuple[int, int]
    file_ps: tuple[int, int]
    uncertainty_s: float

    def host_s(self, moment_ps: int) -> float:
        """A moment of the file on the host's clock, seconds."""
        host_ps, file_ps = [at * _PS_PER_NS for at in self.host_ns], self.file_ps
        span_ps = file_ps[1] - file_ps[0]
        rate = (host_ps[1] - host_ps[0]) / span_ps if span_ps > 0 else 1.0
        since_ps = moment_ps - file_ps[0]
        return (host_ps[0] + since_ps + round(since_ps * (rate - 1.0))) * _S_PER_PS


def align_clocks(file: KinetoFile, begin: Sequence[ClockMark], end: Sequence[ClockMark]) -> ClockLine:
    """The line through the marks set before and after the program.

    Raises:
        TraceError: where the file does not hold the ranges of the marks.
    """
    spans = {span.name: (span.start_ps, span.end_ps) for span in file.annotations}
    offsets = []
    for marks in (begin, end):
        ranges = [(spans[mark.name], mark.host_ns * _PS_PER_NS) for mark in marks if mark.name in spans]
        if not ranges:
            raise TraceError("kernels: the profiler's file lacks the ranges that align its clock with the recording's")
        bounds = [(start_ps - host_ps, end_ps - host_ps) for (start_ps, end_ps), host_ps in ranges]
        low_ps, high_ps = max(low for low, _ in bounds), min(high for _, high in bounds)
        if low_ps > high_ps:  # they contradict each other: the shortest range says most
            low_ps, high_ps = min(bounds, key=lambda bound: bound[1] - bound[0])
        offsets.append(((low_ps + high_ps) // 2, (high_ps - low_ps) / 2 * _S_PER_PS))
    host_ns = (begin[0].host_ns, end[-1].host_ns)
    return ClockLine(
        host_ns=host_ns,
        file_ps=(host_ns[0] * _PS_PER_NS + offsets[0][0], host_ns[1] * _PS_PER_NS + offsets[1][0]),
        uncertainty_s=max(offset[1] for offset in offsets),
    )


def attach_kernels(trace: Trace, file: KinetoFile, line: ClockLine, origin_s: float) -> Trace:
    """The trace with its device kernels; a call's time becomes that of its kernels.

    Kernels that no recorded call launched (replays of graphs, extensions that bypass torch) become calls of kind
    `unknown`, in the place where they were launched. Calls without kernels have no time then: what the host took is not
    the device's.

    Args:
        trace: whose calls carry the host's times, counted from `origin_s`.
        file: the profiler's record of the same run.
        line: its clock against the host's.
        origin_s: the host's clock at the trace's zero.
    """
    if not file.kernels:
        return _noted(trace, "Kernels: the profiler saw none on any device; times of calls are the host's.")
    links = link_kernels(file, Nesting(file.ops))
    launched_s = [
        line.host_s(file.kernels[i].start_ps if link.launch == NONE else file.launches[link.launch].start_ps) - origin_s
        for i, link in enumerate(links)
    ]
    kernels_of: dict[int, list[int]] = {}
    orphans: list[int] = []
    finder = _CallFinder(trace.calls, line.uncertainty_s)
    for index, (link, moment_s) in enumerate(zip(links, launched_s, strict=True)):
        call = finder.find(moment_s) if _is_launched_by_op(file, link) else NONE
        if call == NONE:
            orphans.append(index)
        else:
            kernels_of.setdefault(call, []).append(index)
    merged = _merge(trace, file, kernels_of, orphans, launched_s)
    timed = _with_device_times(trace, file, merged, line, origin_s)
    return _noted(timed, _describe(len(trace.calls), kernels_of, orphans, line))


def _is_launched_by_op(file: KinetoFile, link: Link) -> bool:
    return link.launch != NONE and not is_graph_launch(file.launches[link.launch])


class _CallFinder:
    """Finds the call during which something happened on the host."""

    def __init__(self, calls: Calls, uncertainty_s: float) -> None:
        timed = np.flatnonzero(np.isfinite(calls.start_s))
        self._order = timed[np.argsort(calls.start_s[timed], kind="stable")].tolist()
        self._starts_s: list[float] = calls.start_s[self._order].tolist()
        self._ends_s: list[float] = (calls.start_s + calls.duration_s)[self._order].tolist()
        self._uncertainty_s = uncertainty_s

    def find(self, moment_s: float) -> int:
        """Index of the call, `NONE` where nothing was running."""
        after = bisect_right(self._starts_s, moment_s)
        if after and moment_s <= self._ends_s[after - 1] + self._uncertainty_s:
            return int(self._order[after - 1])
        if after < len(self._order) and self._starts_s[after] - moment_s <= self._uncertainty_s:
            return int(self._order[after])
        return NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A call of the merged trace: the recorded one it was, `NONE` for an orphan, and its op and kernels."""

    recorded: int
    launched: LaunchedCall


def _merge(
    trace: Trace,
    file: KinetoFile,
    kernels_of: dict[int, list[int]],
    orphans: Sequence[int],
    launched_s: Sequence[float],
) -> list[_Entry]:
    """Recorded calls in their order, with each orphan before the first call that began after its launch."""
    builder = OpBuilder(Nesting(file.ops))
    latest_s = np.maximum.accumulate(np.nan_to_num(trace.calls.start_s, nan=-np.inf))
    placed: dict[int, list[_Entry]] = {}
    for index in sorted(orphans, key=lambda orphan: launched_s[orphan]):
        op = builder.build(NONE, [file.kernels[index]])
        entry = _Entry(recorded=NONE, launched=LaunchedCall(op=op, kernels=(index,), attribution="unexplained"))
        placed.setdefault(int(np.searchsorted(latest_s, launched_s[index], side="right")), []).append(entry)
    merged: list[_Entry] = []
    for call in range(len(trace.calls) + 1):
        merged += placed.get(call, [])
        if call < len(trace.calls):
            op, kernels = trace.ops[trace.calls.op[call]], tuple(kernels_of.get(call, ()))
            merged.append(
                _Entry(recorded=call, launched=LaunchedCall(op=op, kernels=kernels, attribution="correlation"))
            )
    return merged


def _with_device_times(
    trace: Trace, file: KinetoFile, merged: Sequence[_Entry], line: ClockLine, origin_s: float
) -> Trace:
    """The trace of the merged calls, timed by their kernels."""
    foreign = device_kernels(file)
    launched = [entry.launched for entry in merged]
    table, names = kernel_columns(foreign, launched, device_streams(foreign), 0)
    start_s = np.array([line.host_s(kernel.start_ps) - origin_s for kernel in file.kernels])
    start_s[[kernel.is_range for kernel in file.kernels]] = np.nan
    table = replace(table, start_s=start_s)
    recorded = np.array([entry.recorded for entry in merged], dtype=np.int64)
    ops: dict[Op, int] = {op: index for index, op in enumerate(trace.ops)}
    op_of = [ops.setdefault(call.op, len(ops)) for call in launched]
    phases, modules = _with_empty(trace.phases), _with_empty(trace.modules)
    old = trace.calls
    reads, replaces, writes = _versions(trace, launched, recorded == NONE)
    calls = Calls(
        op=np.array(op_of, dtype=np.int64),
        phase=_taken(old.phase, recorded, phases.index("")),
        step=_taken(old.step, recorded, -1),
        module=_taken(old.module, recorded, modules.index("")),
        stream=np.array([table.stream[call.kernels[0]] if call.kernels else 0 for call in launched], dtype=np.int64),
        start_s=_of_kernels([start_s[list(call.kernels)] for call in launched], first=True),
        duration_s=_of_kernels([table.duration_s[list(call.kernels)] for call in launched], first=False),
        energy_j=np.full(len(merged), np.nan),
        reads=reads,
        writes=writes,
        replaces=replaces,
    )
    return replace(
        trace, ops=tuple(ops), calls=calls, phases=phases, modules=modules, kernels=table, kernel_names=names
    )


def _versions(
    trace: Trace, launched: Sequence[LaunchedCall], is_orphan: NDArray[np.bool_]
) -> tuple[IntArray, IntArray, IntArray]:
    """`reads`, `replaces` and `writes` of the merged calls; operands of orphans lie in storages nobody recorded."""
    read_by_orphan = np.repeat(is_orphan, [len(call.op.inputs) for call in launched])
    written_by_orphan = np.repeat(is_orphan, [len(call.op.outputs) for call in launched])
    known = (trace.calls.reads, trace.calls.replaces, trace.calls.writes, trace.allocations.version)
    first = 1 + max(int(versions.max(initial=0)) for versions in known)
    columns = []
    for mask, old in zip((read_by_orphan, written_by_orphan, written_by_orphan), known[:3], strict=True):
        column = np.empty(len(mask), dtype=np.int64)
        column[~mask] = old
        column[mask] = np.arange(first, first + int(mask.sum()))
        first += int(mask.sum())
        columns.append(column)
    return columns[0], columns[1], columns[2]


def _taken(column: IntArray, recorded: IntArray, otherwise: int) -> IntArray:
    """A column of the recorded calls in the merged order, with one value for orphans."""
    taken = np.full(len(recorded), otherwise, dtype=np.int64)
    taken[recorded != NONE] = column[recorded[recorded != NONE]]
    return taken


def _with_empty(names: tuple[str, ...]) -> tuple[str, ...]:
    return names if "" in names else (*names, "")


def _of_kernels(values: Sequence[FloatArray], *, first: bool) -> FloatArray:
    """First start or whole time of each call's kernels, NaN where there are none."""
    return np.array([(of.min() if first else of.sum()) if len(of) else np.nan for of in values], dtype=np.float64)


def _describe(calls: int, kernels_of: dict[int, list[int]], orphans: Sequence[int], line: ClockLine) -> str:
    attached = sum(len(kernels) for kernels in kernels_of.values())
    return (
        f"Kernels: {attached} attached to {len(kernels_of)} of {calls} recorded calls by the time of their launch "
        f"(clocks agree to {line.uncertainty_s * 1e6:.1f} us); {len(orphans)} that no recorded call launched are calls "
        "of kind unknown. Times are the device's; calls without a kernel have none."
    )


def _noted(trace: Trace, note: str) -> Trace:
    return replace(trace, provenance=replace(trace.provenance, notes=(*trace.provenance.notes, note)))
