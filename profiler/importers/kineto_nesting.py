"""Nesting of time ranges on CPU threads: which ranges enclose a moment."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence

from profiler.importers.kineto_file import HostSpan

NONE = -1


class Nesting:
    """Parents of time ranges, thread by thread, and a search for the innermost range at a moment."""

    def __init__(self, spans: Sequence[HostSpan]) -> None:
        self.spans = spans
        self._parent = [NONE] * len(spans)
        self._order: dict[str, list[int]] = defaultdict(list)
        for index, span in enumerate(spans):
            self._order[span.thread].append(index)
        for order in self._order.values():
            order.sort(key=lambda index: (spans[index].start_ps, -spans[index].end_ps, index))
            self._set_parents(order)
        self._starts = {thread: [spans[i].start_ps for i in order] for thread, order in self._order.items()}

    @property
    def threads(self) -> tuple[str, ...]:
        """Threads that have any range."""
        return tuple(self._order)

    def _set_parents(self, order: list[int]) -> None:
        stack: list[int] = []
        for index in order:
            while stack and self.spans[stack[-1]].end_ps <= self.spans[index].start_ps:
                stack.pop()
            self._parent[index] = stack[-1] if stack else NONE
            stack.append(index)

    def chain(self, index: int) -> Iterator[int]:
        """A range and all that enclose it, innermost first."""
        while index != NONE:
            yield index
            index = self._parent[index]

    def innermost(self, thread: str, moment_ps: int) -> int:
        """The innermost range of a thread that is open at a moment, `NONE` where there is none."""
        position = bisect_right(self._starts.get(thread, []), moment_ps) - 1
        if position < 0:
            return NONE
        return next(
            (i for i in self.chain(self._order[thread][position]) if self.spans[i].end_ps >= moment_ps),
            NONE,
        )
