"""Clocks of the micro-benchmarks: the host's, CUDA events, and a chain of dependent reads."""

import time
from collections.abc import Callable
from typing import Protocol

import torch

_LONG_KERNEL_CYCLES = 20_000_000  # about 10 ms: long enough to queue a few hundred kernels behind it


class Timer(Protocol):
    """Seconds that a number of calls take, device work included."""

    def __call__(self, run: Callable[[], object], calls: int) -> float:
        """Time `calls` calls of `run`, back to back."""
        ...


def time_on_host(run: Callable[[], object], calls: int) -> float:
    """Seconds by the host's monotonic clock."""
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return time.perf_counter() - start


def time_on_cuda(run: Callable[[], object], calls: int) -> float:
    """Seconds between two CUDA events around the calls."""
    return _between_events(run, calls, blocked=False)


def time_behind_long_kernel(run: Callable[[], object], calls: int) -> float:
    """Seconds on the device of calls that were queued before the first could start, so that no host bounds them."""
    return _between_events(run, calls, blocked=True)


def _between_events(run: Callable[[], object], calls: int, *, blocked: bool) -> float:
    start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # likewise
    torch.cuda.synchronize()
    if blocked:
        torch.cuda._sleep(_LONG_KERNEL_CYCLES)  # type: ignore[no-untyped-call]  # likewise
    start.record()
    for _ in range(calls):
        run()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) * 1e-3


def follow_chain(cells: memoryview, position: int, hops: int) -> int:
    """Follow a chain in which every cell holds the index of the next one, and return where it ends.

    The interpreter's own work for one hop (about 30 ns) runs partly beside the read that it waits for.

    >>> from array import array
    >>> follow_chain(memoryview(array("q", [2, 0, 1])), 0, 4)
    2
    """
    for _ in range(hops):
        position = cells[position]
    return position
