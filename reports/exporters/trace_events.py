"""Events of the trace-event format as JSON text: slices, counters, flow arrows, and names of tracks.

The format: "Trace Event Format" (Google, 2016), the phases X (complete), C (counter), s and f (flow), M (metadata).
Times are microseconds with three decimals, so whole nanoseconds.
"""

import json
from collections.abc import Iterable, Iterator, Sequence

from profiler.traces import FloatArray, IntArray
from reports.exporters.tracks import Run


def json_text(value: object) -> str:
    """JSON of a name or an object: ASCII only, and nothing that could end an HTML element it is put into.

    >>> json_text("<b>\\x1b[31m")
    '"\\\\u003cb\\\\u003e\\\\u001b[31m"'
    """
    if isinstance(value, str):
        value = value.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate is no text
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def microseconds(nanoseconds: int) -> str:
    """Whole nanoseconds as microseconds.

    >>> microseconds(1234567), microseconds(-1), microseconds(7)
    ('1234.567', '-0.001', '0.007')
    """
    if nanoseconds < 0:
        return f"-{microseconds(-nanoseconds)}"
    return f"{nanoseconds // 1000}.{nanoseconds % 1000:03d}"


def process_name(pid: int, name: str, order: int) -> Iterator[str]:
    """Name of a group of tracks, and where it stands."""
    yield f'{{"ph":"M","name":"process_name","pid":{pid},"tid":0,"args":{{"name":{json_text(name)}}}}}'
    yield f'{{"ph":"M","name":"process_sort_index","pid":{pid},"tid":0,"args":{{"sort_index":{order}}}}}'


def thread_name(pid: int, tid: int, name: str) -> Iterator[str]:
    """Name of a track; tracks stand in the order of their numbers."""
    yield f'{{"ph":"M","name":"thread_name","pid":{pid},"tid":{tid},"args":{{"name":{json_text(name)}}}}}'
    yield f'{{"ph":"M","name":"thread_sort_index","pid":{pid},"tid":{tid},"args":{{"sort_index":{tid}}}}}'


def slice_events(
    pid: int, tids: IntArray, start_ns: IntArray, end_ns: IntArray, heads: Sequence[str], tails: Iterable[str]
) -> Iterator[str]:
    """Complete events.

    Args:
        pid: group of tracks.
        tids: track of each, [slices].
        start_ns: [slices].
        end_ns: [slices].
        heads: JSON text of each one's `"name":...,"cat":...`, [slices].
        tails: JSON text of what stands in each one's `args`, [slices].
    """
    spans = zip(tids.tolist(), start_ns.tolist(), (end_ns - start_ns).tolist(), heads, tails, strict=True)
    for tid, start, duration, head, tail in spans:
        yield (
            f'{{"ph":"X",{head},"pid":{pid},"tid":{tid},"ts":{microseconds(start)},'
            f'"dur":{microseconds(duration)},"args":{{{tail}}}}}'
        )


def run_events(pid: int, tid_of_depth: Sequence[int], category: str, found: Iterable[Run]) -> Iterator[str]:
    """Complete events of runs of phases, steps or modules."""
    names: dict[str, str] = {}
    for run in found:
        name = names.setdefault(run.name, json_text(run.name))
        yield (
            f'{{"ph":"X","name":{name},"cat":"{category}","pid":{pid},"tid":{tid_of_depth[run.depth]},'
            f'"ts":{microseconds(run.start_ns)},"dur":{microseconds(run.end_ns - run.start_ns)},"args":{{}}}}'
        )


def counter_events(pid: int, name: str, series: str, at_ns: IntArray, values: FloatArray) -> Iterator[str]:
    """A counter from each moment on, where it changes, to nine digits.

    Args:
        pid: group of tracks.
        name: of the track.
        series: name of the figure, with its unit.
        at_ns: [values].
        values: finite, [values].
    """
    head = f'{{"ph":"C","name":{json_text(name)},"pid":{pid},"ts":'
    last = ""
    for at, value in zip(at_ns.tolist(), values.tolist(), strict=True):
        if (shown := f"{value:.9g}") != last:
            yield f'{head}{microseconds(at)},"args":{{{json_text(series)}:{shown}}}}}'
        last = shown


def flow_events(
    from_pid: int, from_tids: IntArray, from_ns: IntArray, to_pid: int, to_tids: IntArray, to_ns: IntArray
) -> Iterator[str]:
    """Arrows from a slice to another one that starts no earlier, [arrows] each."""
    ends = zip(from_tids.tolist(), from_ns.tolist(), to_tids.tolist(), to_ns.tolist(), strict=True)
    for number, (from_tid, start, to_tid, end) in enumerate(ends, start=1):
        head = f'"id":{number},"name":"launch","cat":"launch"'
        yield f'{{"ph":"s",{head},"pid":{from_pid},"tid":{from_tid},"ts":{microseconds(start)}}}'
        yield f'{{"ph":"f","bp":"e",{head},"pid":{to_pid},"tid":{to_tid},"ts":{microseconds(end)}}}'
