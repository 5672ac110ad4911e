"""Puts the calls of a trace on several streams: independent branches of one, or several batches of the same program."""

from dataclasses import replace

import numpy as np

from profiler.costs.data_movement import is_in_place
from profiler.traces import Calls, IntArray, Kernels, Trace, operand_offsets
from simulator.errors import SimulationError
from simulator.op_columns import FloatArray
from simulator.stream_dependencies import cross_stream_dependencies, last_writers


def spread(trace: Trace, streams: int, duration_s: FloatArray) -> tuple[Trace, dict[int, tuple[int, ...]]]:
    """Spread independent branches of a trace over streams, by list scheduling in program order (Graham, 1966).

    Every call goes where it can start first, and among equals to the stream that made what it reads. A call that
    writes in place waits for all calls before it, since a trace does not tell who still reads what it overwrites.

    Args:
        trace: with dataflow, on one stream.
        streams: how many.
        duration_s: of each call alone, [calls].

    Returns:
        The trace with new streams, and the calls that every call waits for on other streams.

    Raises:
        SimulationError: the trace has no dataflow, or several streams of its own.
    """
    calls = trace.calls
    if len(calls) and not len(calls.writes):
        raise SimulationError(f"trace {trace.name!r}: has no dataflow, so its branches are not known; use one stream")
    if len(np.unique(calls.stream)) > 1:
        raise SimulationError(f"trace {trace.name!r}: has several streams of its own, which stay as they are")
    in_place = [any(is_in_place(name) for name in op.name.split(" + ")) for op in trace.ops]
    placed, barriers = _list_schedule(trace, streams, duration_s.tolist(), in_place)
    moved = replace(trace, calls=replace(calls, stream=placed))
    waits = {call: set(sources) for call, sources in cross_stream_dependencies(moved).items()}
    for call, sources in barriers.items():
        waits.setdefault(call, set()).update(sources)
    return moved, {call: tuple(sorted(sources)) for call, sources in waits.items() if sources}


def _list_schedule(
    trace: Trace, streams: int, duration_s: list[float], in_place: list[bool]
) -> tuple[IntArray, dict[int, list[int]]]:
    """(stream of each call, calls on other streams that calls in place wait for)."""
    producers: dict[int, set[int]] = {}
    for reader, producer in zip(*(found.tolist() for found in last_writers(trace)), strict=True):
        producers.setdefault(reader, set()).add(producer)
    free_s, last = [0.0] * streams, [-1] * streams
    end_s, barriers = [0.0] * len(trace.calls), {}
    placed = np.zeros(len(trace.calls), dtype=np.int64)
    for call, op in enumerate(trace.calls.op.tolist()):
        sources = producers.get(call, set())
        ready_s = max(free_s) if in_place[op] else max((end_s[source] for source in sources), default=0.0)
        stream = min(range(streams), key=lambda s: (max(free_s[s], ready_s), last[s] not in sources, s))
        if in_place[op]:
            barriers[call] = [earlier for s, earlier in enumerate(last) if s != stream and earlier >= 0]
        end_s[call] = free_s[stream] = max(free_s[stream], ready_s) + duration_s[call]
        last[stream], placed[call] = call, stream
    return placed, barriers


def repeat(trace: Trace, batches: int) -> Trace:
    """The trace as that many independent batches of the same program, each on streams of its own, call by call.

    Args:
        trace: of one batch.
        batches: how many there are at once.
    """
    calls, count = trace.calls, len(trace.calls)
    source, batch = np.repeat(np.arange(count), batches), np.tile(np.arange(batches), count)
    versions = 1 + max(int(calls.reads.max(initial=0)), int(calls.writes.max(initial=0)))
    reads_of, writes_of = operand_offsets(trace.ops, calls.op)

    def ids(values: IntArray, offsets: IntArray) -> IntArray:
        if not len(values):
            return values
        lengths = np.diff(offsets)[source]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        moved: IntArray = values[np.repeat(offsets[:-1][source], lengths) + within]
        return moved + versions * np.repeat(batch, lengths)

    missing = np.full(len(source), np.nan)
    columns = {name: getattr(calls, name)[source] for name in ("op", "phase", "step", "module")}
    repeated = Calls(
        **columns,
        stream=calls.stream[source] * batches + batch,
        start_s=missing,
        duration_s=missing,
        energy_j=missing,
        reads=ids(calls.reads, reads_of),
        writes=ids(calls.writes, writes_of),
    )
    return replace(trace, calls=repeated, kernels=Kernels(), kernel_names=())
