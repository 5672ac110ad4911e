"""Tracks of a trace's kernels by device and stream, with an arrow from the call that launched each."""

from collections.abc import Iterator

import numpy as np

from profiler.traces import ATTRIBUTIONS, KERNEL_CATEGORIES, IntArray, Trace
from reports.exporters.host_tracks import HostTracks
from reports.exporters.trace_events import flow_events, json_text, process_name, slice_events, thread_name
from reports.exporters.tracks import lanes, spans_of

# As Kineto calls them, so that tools made for its files know a kernel from a copy.
_CATEGORIES = {"kernel": "kernel", "memcpy": "gpu_memcpy", "memset": "gpu_memset", "collective": "kernel"}
_STREAMS_PER_DEVICE = 100_000  # importers keep the streams of several devices apart by this
_LANES = 100


def kernel_events(pid: int, title: str, trace: Trace, host: HostTracks) -> Iterator[str]:
    """JSON text of a group of tracks for the kernels.

    Args:
        pid: number of the group.
        title: its name.
        trace: with kernels.
        host: tracks of its calls, where the arrows begin.
    """
    kernels = trace.kernels
    spans = spans_of(kernels.start_s, kernels.duration_s)
    stream = kernels.stream[spans.index]
    streams = np.unique(stream).tolist()
    tids = np.zeros(len(spans), dtype=np.int64)
    for number, one in enumerate(streams):
        mask = stream == one
        lane = np.minimum(lanes(spans.start_ns[mask], spans.end_ns[mask]), _LANES - 1)
        tids[mask] = 1 + number * _LANES + lane
    yield from process_name(pid, title, pid)
    for tid in np.unique(tids).tolist():
        number, lane = divmod(tid - 1, _LANES)
        name = _stream_name(streams[number])
        yield from thread_name(pid, tid, f"{name}, lane {lane + 1}" if lane else name)
    heads, tails = _texts(trace, spans.index)
    yield from slice_events(pid, tids, spans.start_ns, spans.end_ns, heads, tails)
    yield from _arrows(pid, host, kernels.call[spans.index], tids, spans.start_ns)


def _texts(trace: Trace, index: IntArray) -> tuple[list[str], Iterator[str]]:
    kernels = trace.kernels
    names = [json_text(name) for name in trace.kernel_names]
    ops = [json_text(op.name) for op in trace.ops]
    columns = (kernels.name, kernels.category, kernels.attribution, kernels.stream, kernels.call)
    name, category, attribution, stream, call = (column[index].tolist() for column in columns)
    heads = [
        f'"name":{names[n]},"cat":"{_CATEGORIES[KERNEL_CATEGORIES[c]]}"' for n, c in zip(name, category, strict=True)
    ]
    op = trace.calls.op[kernels.call[index]].tolist()
    tails = (
        f'"External id":{c + 1},"device":{s // _STREAMS_PER_DEVICE},"stream":{s % _STREAMS_PER_DEVICE},'
        f'"op":{ops[o]},"attribution":"{ATTRIBUTIONS[a]}"'
        for c, s, o, a in zip(call, stream, op, attribution, strict=True)
    )
    return heads, tails


def _arrows(pid: int, host: HostTracks, call: IntArray, tids: IntArray, start_ns: IntArray) -> Iterator[str]:
    """From the start of a call's slice to each of its kernels that starts no earlier."""
    position = np.full(len(host.trace.calls), -1, dtype=np.int64)
    position[host.spans.index] = np.arange(len(host.spans))
    where = position[call]
    drawn = where >= 0
    drawn[drawn] &= host.spans.start_ns[where[drawn]] <= start_ns[drawn]
    where = where[drawn]
    yield from flow_events(
        host.pid, host.call_tids[where], host.spans.start_ns[where], pid, tids[drawn], start_ns[drawn]
    )


def _stream_name(stream: int) -> str:
    device, number = divmod(stream, _STREAMS_PER_DEVICE)
    return f"device {device}, stream {number}" if device else f"stream {number}"
