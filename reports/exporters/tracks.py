"""Intervals in whole nanoseconds, lanes in which they do not overlap, and the runs of phases, steps and modules."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from profiler.traces import FloatArray, IntArray
from simulator.op_columns import BoolArray

_LONGEST_S = 1e9  # 30 years; what is longer is no time, and would not fit integer nanoseconds


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spans:
    """Intervals of a trace's calls or kernels, those that have a time.

    Attributes:
        index: which call or kernel each is, [spans].
        start_ns: [spans].
        end_ns: [spans], never before the start.
    """

    index: IntArray
    start_ns: IntArray
    end_ns: IntArray

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Neighboring calls of one phase, step or module.

    Attributes:
        name: of the phase, step or module.
        depth: how many runs of the same kind hold it.
        start_ns: first start of its calls.
        end_ns: last end of its calls.
    """

    name: str
    depth: int
    start_ns: int
    end_ns: int


def spans_of(start_s: FloatArray, duration_s: FloatArray) -> Spans:
    """Whole nanoseconds of the intervals that have a time; both ends are rounded, so that neighbors never overlap.

    >>> spans = spans_of(np.array([0.0, np.nan, 2e-9]), np.array([2.4e-9, 1.0, 1e-9]))
    >>> spans.index.tolist(), spans.start_ns.tolist(), spans.end_ns.tolist()
    ([0, 2], [0, 2], [2, 3])
    """
    known = np.isfinite(start_s) & np.isfinite(duration_s) & (duration_s >= 0)
    known[known] &= (np.abs(start_s[known]) < _LONGEST_S) & (duration_s[known] < _LONGEST_S)
    index = np.flatnonzero(known)
    start_ns = np.rint(start_s[index] * 1e9).astype(np.int64)
    end_ns = np.rint((start_s[index] + duration_s[index]) * 1e9).astype(np.int64)
    return Spans(index=index, start_ns=start_ns, end_ns=np.maximum(end_ns, start_ns))


def lanes(start_ns: IntArray, end_ns: IntArray) -> IntArray:
    """The lowest lane in which each interval overlaps no earlier one, [intervals].

    >>> lanes(np.array([0, 5, 10]), np.array([10, 8, 12])).tolist()
    [0, 1, 0]
    """
    found = np.zeros(len(start_ns), dtype=np.int64)
    order = np.lexsort((end_ns, start_ns))
    reached = np.maximum.accumulate(end_ns[order]) if len(order) else end_ns
    if not (start_ns[order][1:] < reached[:-1]).any():
        return found
    running: list[tuple[int, int]] = []  # (end, lane)
    free: list[int] = []
    for i, start, end in zip(order.tolist(), start_ns[order].tolist(), end_ns[order].tolist(), strict=True):
        while running and running[0][0] <= start:
            heapq.heappush(free, heapq.heappop(running)[1])
        lane = heapq.heappop(free) if free else len(running)
        found[i] = lane
        heapq.heappush(running, (end, lane))
    return found


def runs(spans: Spans, codes: Sequence[IntArray], names: Sequence[Sequence[str]]) -> Iterator[Run]:
    """Runs of neighboring calls with equal codes, at each depth; a run of one depth lies inside one of the depth above.

    Args:
        spans: of the calls.
        codes: by depth, the code of each span, [spans]; -1 where it has none at this depth.
        names: by depth, the name of each code.
    """
    if not len(spans):
        return
    changed = np.zeros(len(spans), dtype=np.bool_)
    changed[0] = True
    for depth, (code, name) in enumerate(zip(codes, names, strict=True)):
        changed[1:] |= code[1:] != code[:-1]
        first = np.flatnonzero(changed)
        starts = np.minimum.reduceat(spans.start_ns, first).tolist()
        ends = np.maximum.reduceat(spans.end_ns, first).tolist()
        for which, start, end in zip(code[first].tolist(), starts, ends, strict=True):
            if which >= 0:
                yield Run(name=name[which], depth=depth, start_ns=start, end_ns=end)


def path_codes(index: IntArray, paths: Sequence[str], separator: str) -> tuple[list[IntArray], list[tuple[str, ...]]]:
    """Codes and names for `runs` of calls whose names are paths, such as modules or nested phases.

    Args:
        index: index into the paths, [spans].
        paths: for example `Model.layers.3`.
        separator: between the parts of a path.

    >>> codes, names = path_codes(np.array([0, 1]), ("a.b", "a"), ".")
    >>> [code.tolist() for code in codes], names
    ([[0, 0], [0, -1]], [('a',), ('b',)])
    """
    split = [path.split(separator) if path else [] for path in paths]
    codes: list[IntArray] = []
    names: list[tuple[str, ...]] = []
    for depth in range(max(map(len, split), default=0)):
        table: dict[tuple[str, ...], int] = {}
        of_path = [
            table.setdefault(tuple(parts[: depth + 1]), len(table)) if len(parts) > depth else -1 for parts in split
        ]
        codes.append(np.array(of_path, dtype=np.int64)[index])
        names.append(tuple(prefix[-1] for prefix in table))
    return codes, names


def overlap(found: Sequence[Run]) -> bool:
    """Whether runs of one depth overlap, as calls on several streams can; then one track cannot hold them."""
    by_depth: dict[int, list[Run]] = {}
    for run in found:
        by_depth.setdefault(run.depth, []).append(run)
    return any(bool(_crossing(each).any()) for each in by_depth.values())


def _crossing(found: Sequence[Run]) -> BoolArray:
    start = np.array([run.start_ns for run in found], dtype=np.int64)
    end = np.array([run.end_ns for run in found], dtype=np.int64)
    order = np.lexsort((end, start))
    return np.asarray(start[order][1:] < np.maximum.accumulate(end[order])[:-1])
