"""Which calls must wait for a call on another stream, from the tensor versions that they read and write."""

import numpy as np

from profiler.traces import IntArray, Trace, operand_offsets


def cross_stream_dependencies(trace: Trace) -> dict[int, tuple[int, ...]]:
    """Calls that read what an earlier call on another stream wrote, with the last such call of each stream.

    Order within a stream is kept anyway. Without recorded tensor versions, or with one stream, there are none.

    Args:
        trace: the trace.

    Returns:
        Waiting call to the calls that it waits for, ascending.
    """
    calls = trace.calls
    if not len(calls.reads) or not len(calls.writes) or len(np.unique(calls.stream)) < 2:
        return {}
    reader, producer = last_writers(trace)
    crosses = calls.stream[producer] != calls.stream[reader]
    latest: dict[int, dict[int, int]] = {}
    for call, source in zip(reader[crosses].tolist(), producer[crosses].tolist(), strict=True):
        of_stream = latest.setdefault(call, {})
        stream = int(calls.stream[source])
        of_stream[stream] = max(of_stream.get(stream, -1), source)
    return {call: tuple(sorted(of_stream.values())) for call, of_stream in latest.items()}


def last_writers(trace: Trace) -> tuple[IntArray, IntArray]:
    """(reading call, call that last wrote what it reads before), one entry an operand that the trace itself wrote."""
    calls = trace.calls
    reads_of, writes_of = operand_offsets(trace.ops, calls.op)
    reader = np.repeat(np.arange(len(calls)), np.diff(reads_of))
    writer = np.repeat(np.arange(len(calls)), np.diff(writes_of))
    # Sorted by version and then by call, the entry before (version read, reader) is the last write before that read.
    order = np.lexsort((writer, calls.writes))
    versions, writers = calls.writes[order], writer[order]
    written = np.sort(calls.writes * len(calls) + writer)
    position = np.searchsorted(written, calls.reads * len(calls) + reader, side="left") - 1
    is_found = (position >= 0) & (versions[np.maximum(position, 0)] == calls.reads)
    producer = writers[np.maximum(position, 0)]
    return reader[is_found], producer[is_found]
