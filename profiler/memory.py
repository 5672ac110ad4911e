"""Live bytes by role over time, worked out from the dataflow of a captured trace: no cost while it runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np
import pandas as pd

from profiler.errors import TraceError
from profiler.op import DTYPE_BITS, Operand
from profiler.traces import IntArray, Trace, operand_offsets
from workloads.roles import ROLES

# A storage that plays several roles counts as the last of these.
_RANKING = ("activations", "logits", "kv_cache", "weights")


@dataclass(frozen=True, kw_only=True, eq=False)
class MemoryUse:
    """Bytes that a program holds while each of its calls runs.

    Attributes:
        trace: name of the trace.
        live_bytes: [roles, calls], in the order of `workloads.roles.ROLES`.
        phase: index into `phases` of each call.
        phases: names of the phases.
        start_s: of each call, NaN where not timed.
        storages: number of storages met.
        unknown_storages: number of those whose size nobody knows, which are left out of the bytes.
    """

    trace: str
    live_bytes: IntArray
    phase: IntArray
    phases: tuple[str, ...]
    start_s: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    storages: int
    unknown_storages: int

    @property
    def total_bytes(self) -> IntArray:
        """All roles together, [calls]."""
        total: IntArray = self.live_bytes.sum(axis=0)
        return total

    @property
    def peak_call(self) -> int:
        """The first call at which most bytes are held."""
        return int(self.total_bytes.argmax())

    @property
    def peak_bytes(self) -> int:
        """Most bytes held at one time."""
        return int(self.total_bytes.max())

    @property
    def peak_by_role(self) -> tuple[tuple[str, int], ...]:
        """(role, bytes) at the peak of the whole."""
        return tuple((role, int(count)) for role, count in zip(ROLES, self.live_bytes[:, self.peak_call], strict=True))

    def most_of(self, role: str) -> int:
        """Most bytes of one role held at one time, which may be another time than that of the whole's peak."""
        return int(self.live_bytes[ROLES.index(role)].max())

    def by_phase(self) -> pd.DataFrame:
        """Peak of each phase and what it is made of: phase, calls, peak_bytes, and `<role>_bytes` at that peak."""
        rows = []
        for index in dict.fromkeys(self.phase.tolist()):
            calls = np.flatnonzero(self.phase == index)
            peak = calls[self.total_bytes[calls].argmax()]
            by_role = {f"{role}_bytes": int(self.live_bytes[i, peak]) for i, role in enumerate(ROLES)}
            row = {"phase": self.phases[index], "calls": len(calls), "peak_bytes": int(self.total_bytes[peak])}
            rows.append({**row, **by_role})
        return pd.DataFrame(rows)

    def over_time(self, points: int = 300) -> pd.DataFrame:
        """What is held over the calls, at most `points` of them: of every stretch of calls the one that holds most.

        Columns: call, start_s, phase and `<role>_bytes`.
        """
        count = self.live_bytes.shape[1]
        edges = np.unique(np.linspace(0, count, min(points, count) + 1).astype(np.int64))
        total = self.total_bytes
        chosen = np.array([b + total[b:e].argmax() for b, e in pairwise(edges)], dtype=np.int64)
        by_role = {f"{role}_bytes": self.live_bytes[i, chosen] for i, role in enumerate(ROLES)}
        phases = [self.phases[i] for i in self.phase[chosen]]
        return pd.DataFrame({"call": chosen, "start_s": self.start_s[chosen], "phase": phases, **by_role})


def memory_use(trace: Trace) -> MemoryUse:
    """Live bytes during each call of a captured trace.

    A storage lives from the call that makes it to the last call that reads or writes it; what was there before the
    first call lives from the beginning, weights and KV caches among it to the end. Left out: what the program keeps
    without using it again, weights that no call reads, the rounding and caching of the allocator, workspaces inside
    kernels, and the device's own context. So this is the least that a run needs, not what a tool shows for a process.

    Raises:
        TraceError: the trace has no calls, or does not say which storage each write goes to (imported traces, the
            fused view, and files from before that was recorded).
    """
    calls = trace.calls
    if not len(calls):
        raise TraceError(f"trace {trace.name!r}: has no calls, so it holds no memory")
    if not len(calls.replaces):
        raise TraceError(
            f"trace {trace.name!r}: does not say which storages its calls write to, so live memory is unknown; "
            "capture it (imported traces and the fused view lack this) with this version"
        )
    versions = 1 + int(max(calls.writes.max(), calls.reads.max(initial=0), trace.allocations.version.max(initial=0)))
    storage = _storage_of(calls.writes, calls.replaces, versions)
    reads_of, writes_of = operand_offsets(trace.ops, calls.op)
    read_call = np.repeat(np.arange(len(calls)), np.diff(reads_of))
    write_call = np.repeat(np.arange(len(calls)), np.diff(writes_of))
    used = np.concatenate([storage[calls.reads], storage[calls.writes]])
    used_at = np.concatenate([read_call, write_call])
    begin, end = np.full(versions, len(calls)), np.full(versions, -1)
    np.minimum.at(begin, used, used_at)
    np.maximum.at(end, used, used_at)

    rank = np.zeros(versions, dtype=np.int64)
    np.maximum.at(rank, used, np.concatenate([_ranks(trace, "inputs"), _ranks(trace, "outputs")]))
    size = np.full(versions, -1, dtype=np.int64)
    fresh = calls.replaces == 0
    size[calls.writes[fresh]] = _per_operand(trace, "outputs", _tensor_bytes)[fresh]
    size[trace.allocations.version] = trace.allocations.size_bytes

    outside = trace.allocations.version[trace.allocations.is_outside == 1]
    begin[outside] = 0
    stays = outside[rank[outside] >= _RANKING.index("kv_cache")]
    end[stays] = len(calls) - 1
    met = np.flatnonzero(end >= 0)
    met = met[storage[met] == met]
    return MemoryUse(
        trace=trace.name,
        live_bytes=_live(begin[met], end[met], np.maximum(size[met], 0), rank[met], len(calls)),
        phase=calls.phase,
        phases=trace.phases,
        start_s=calls.start_s,
        storages=len(met),
        unknown_storages=int((size[met] < 0).sum()),
    )


def _storage_of(writes: IntArray, replaces: IntArray, versions: int) -> IntArray:
    """The first version in the storage of each version, [versions]."""
    first = np.arange(versions)
    first[writes] = np.where(replaces > 0, replaces, writes)
    while True:  # halves every chain each time
        jumped = first[first]
        if np.array_equal(jumped, first):
            return first.astype(np.int64)
        first = jumped


def _live(begin: IntArray, end: IntArray, size: IntArray, rank: IntArray, calls: int) -> IntArray:
    """Bytes of the storages that live at each call, [roles, calls]."""
    live = np.zeros((len(ROLES), calls + 1), dtype=np.int64)
    for index, role in enumerate(ROLES):
        chosen = rank == _RANKING.index(role)
        np.add.at(live[index], begin[chosen], size[chosen])
        np.subtract.at(live[index], end[chosen] + 1, size[chosen])
    return live.cumsum(axis=1)[:, :calls]


def _ranks(trace: Trace, side: str) -> IntArray:
    return _per_operand(trace, side, lambda operand: _RANKING.index(operand.role))


def _per_operand(trace: Trace, side: str, value: Callable[[Operand], int]) -> IntArray:
    """A figure of every operand of one side of every call, in the order of `Calls.reads` or `Calls.writes`."""
    operands: list[Sequence[Operand]] = [getattr(op, side) for op in trace.ops]
    counts = np.array([len(listed) for listed in operands], dtype=np.int64)
    flat = np.array([value(operand) for listed in operands for operand in listed], dtype=np.int64)
    first_of_op = np.cumsum(counts) - counts
    per_call = counts[trace.calls.op]
    first_of_call = np.cumsum(per_call) - per_call
    within = np.arange(per_call.sum()) - np.repeat(first_of_call, per_call)
    return flat[np.repeat(first_of_op[trace.calls.op], per_call) + within] if len(flat) else flat


def _tensor_bytes(operand: Operand) -> int:
    """Bytes of a whole dense tensor, -1 where the width of its type is unknown."""
    bits = DTYPE_BITS.get(operand.dtype)
    return -1 if bits is None else (prod(operand.shape) * bits + 7) // 8
