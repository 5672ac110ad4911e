"""Puts the counters of a second run onto the kernels of the first, launch by launch, where both launched the same."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from profiler.counter_join import bare_name
from profiler.errors import TraceError
from profiler.traces import COUNTERS, KERNEL_CATEGORIES, Kernels, Trace

_COPIES = [KERNEL_CATEGORIES.index("memcpy"), KERNEL_CATEGORIES.index("memset")]
_RUN = 4  # launches in a row that agree, as fewer may by chance
_MOST_DIFFERENCES = 2000  # memory and time grow with its square
_SHOWN_NAMES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchMatch:
    """How well the kernels of two runs of a program agree.

    Attributes:
        matched: kernels that both runs launched, in the same order.
        ours: kernels of the run that has ops and times, copies left out.
        theirs: kernels of the run that was counted.
        unmatched_names: (bare name, how many) of our kernels without counters, the most frequent first.
    """

    matched: int
    ours: int
    theirs: int
    unmatched_names: tuple[tuple[str, int], ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether every kernel of both runs found its other."""
        return self.matched == self.ours == self.theirs

    def note(self) -> str:
        """One or two sentences for the provenance of a trace.

        >>> LaunchMatch(matched=9, ours=9, theirs=9).note()
        'Hardware counters of 9 of 9 kernels come from a second run, under Nsight Compute, in launch order.'
        """
        text = (
            f"Hardware counters of {self.matched} of {self.ours} kernels come from a second run, under Nsight Compute, "
            "in launch order."
        )
        if self.is_whole:
            return text
        text += (
            f" The runs did not launch the same kernels: {self.ours - self.matched} of this run were not counted, and "
            f"{self.theirs - self.matched} of {self.theirs} counted ones have no place in it"
        )
        named = ", ".join(f"{name[:40]} ({count}x)" for name, count in self.unmatched_names[:_SHOWN_NAMES])
        rest = len(self.unmatched_names) - _SHOWN_NAMES
        return (
            f"{text}; without counters: {named}{f' and {rest} more names' if rest > 0 else ''}."
            if named
            else f"{text}."
        )


def join_launches(trace: Trace, counted: Trace) -> tuple[Trace, LaunchMatch]:
    """A trace with the counters of another, kernel by kernel in launch order; times and all else stay its own.

    `counter_join.join_counters` pairs kernels of equal name, whatever ran between them; this compares the two sequences
    of launches. Where a loop ran a round more in one run, nothing tells which round that was.

    Args:
        trace: of a run with kernels attached to its calls, which are in launch order.
        counted: of a run of the same program under Nsight Compute.

    Raises:
        TraceError: where either has no kernels, or none agree.
    """
    if not len(trace.kernels):
        raise TraceError(f"trace {trace.name!r}: holds no kernels, so nothing tells what the counters belong to")
    order = np.lexsort((np.nan_to_num(trace.kernels.start_s), trace.kernels.call))
    ours = order[~np.isin(trace.kernels.category[order], _COPIES)]
    names = _launched_names(trace, ours.tolist())
    counted_names = _launched_names(counted, range(len(counted.kernels)))
    to, origin = align_launches(names, counted_names)
    if not to:
        raise TraceError(
            f"trace {trace.name!r}: none of its {len(names)} kernels are among the {len(counted_names)} that were "
            "counted, in order; does the program do the same each time it runs?"
        )
    columns = {column.name: getattr(trace.kernels, column.name) for column in fields(Kernels)}
    for counter in COUNTERS:
        values = columns[counter].copy()
        values[ours[to]] = getattr(counted.kernels, counter)[origin]
        columns[counter] = values
    matched = set(to)
    missed = Counter(name for index, name in enumerate(names) if index not in matched)
    match = LaunchMatch(
        matched=len(to), ours=len(names), theirs=len(counted_names), unmatched_names=tuple(missed.most_common())
    )
    notes = (*trace.provenance.notes, *counted.provenance.notes, match.note())
    provenance = replace(trace.provenance, notes=notes)
    return replace(trace, kernels=Kernels(**columns), provenance=provenance), match


def align_launches(ours: Sequence[str], theirs: Sequence[str]) -> tuple[list[int], list[int]]:
    """Indices of the launches that agree, in both sequences: as many as can be, in the order of both.

    Between the common beginning and the common end, fewer than 4 launches in a row that agree prove nothing and are
    left out; so is everything there where the sequences differ in more than 2,000 launches.

    >>> align_launches(["a", "b", "c"], ["a", "x", "b", "c"])
    ([0, 1, 2], [0, 2, 3])
    """
    shorter = min(len(ours), len(theirs))
    head = next((i for i in range(shorter) if ours[i] != theirs[i]), shorter)
    tail = next((i for i in range(shorter - head) if ours[-1 - i] != theirs[-1 - i]), shorter - head)
    end, their_end = len(ours) - tail, len(theirs) - tail
    between = _common(ours[head:end], theirs[head:their_end])
    pairs = [
        *((i, i) for i in range(head)),
        *((head + i, head + j) for i, j in _long_runs(between)),
        *((end + i, their_end + i) for i in range(tail)),
    ]
    return [i for i, _ in pairs], [j for _, j in pairs]


def _common(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of a longest common subsequence; none past `_MOST_DIFFERENCES`.

    Myers, "An O(ND) difference algorithm and its variations", Algorithmica 1 (1986), the greedy algorithm of section 3.
    """
    furthest = {1: 0}  # on each diagonal `ours - theirs`, how far into `ours` the differences so far lead
    history: list[dict[int, int]] = []
    for differences in range(min(len(ours) + len(theirs), _MOST_DIFFERENCES) + 1):
        history.append(furthest)
        reached: dict[int, int] = {}
        for diagonal in range(-differences, differences + 1, 2):
            i = _step(furthest, diagonal)
            while i < len(ours) and i - diagonal < len(theirs) and ours[i] == theirs[i - diagonal]:
                i += 1
            reached[diagonal] = i
            if i >= len(ours) and i - diagonal >= len(theirs):
                return _walk_back(history, len(ours), len(theirs))
        furthest = reached
    return []


def _step(furthest: dict[int, int], diagonal: int) -> int:
    """Where in `ours` one more difference leads on a diagonal: by a launch of theirs, or past one of ours."""
    above, below = furthest.get(diagonal + 1, -1), furthest.get(diagonal - 1, -2) + 1
    return max(above, below)


def _walk_back(history: Sequence[dict[int, int]], i: int, j: int) -> list[tuple[int, int]]:
    """Pairs on the way that the greedy algorithm found, from its end to its beginning."""
    pairs: list[tuple[int, int]] = []
    for differences in range(len(history) - 1, -1, -1):
        start = _step(history[differences], i - j)
        while i > start:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        if differences:
            by_theirs = history[differences].get(i - j + 1, -1) == i
            i, j = (i, j - 1) if by_theirs else (i - 1, j)
    return pairs[::-1]


def _long_runs(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pairs that lie in a row of at least `_RUN`."""
    runs: list[list[tuple[int, int]]] = []
    for pair in pairs:
        if runs and runs[-1][-1] == (pair[0] - 1, pair[1] - 1):
            runs[-1].append(pair)
        else:
            runs.append([pair])
    return [pair for run in runs if len(run) >= _RUN for pair in run]


def _launched_names(trace: Trace, kernels: Sequence[int]) -> list[str]:
    """Bare function names of these kernels."""
    bare = [bare_name(name) for name in trace.kernel_names]
    return [bare[trace.kernels.name[index]] for index in kernels]
