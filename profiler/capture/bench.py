"""`Bench`: budgets and samples of one run of the micro-benchmarks, and the figures found so far."""

from collections.abc import Callable
from math import ceil
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from profiler.capture.machine import waited_s
from profiler.capture.timers import Timer, time_on_cuda, time_on_host
from profiler.measurements import BandwidthPoint, Measurement

Mode = Literal["brief", "full"]

_RUNS = {"brief": (5, 15), "full": (7, 30)}  # least and most timed runs of one measurement
_LEAST_RUN_S = 1e-3  # a timed run repeats its operation until it lasts this long
_PATIENCE_S = 0.3  # beyond its budget that a measurement may take where others keep the processors busy
_WAITING_RATIO = 0.02  # of a run's time that its threads may wait for a processor
_LEAST_UNDISTURBED = 3  # runs that suffice to leave out those that waited longer


class Bench:
    """What was measured so far; every step runs several times, and of several medians of one figure the fastest counts.

    Other programs can only make a figure worse, so the fastest of a few medians that were taken at different times is
    the nearest to what the machine reaches alone. Runs in which the system made this process wait for a processor are
    left out where enough others remain: they measured its neighbors.
    """

    def __init__(self, mode: Mode, device: str) -> None:
        """Start with nothing measured.

        Args:
            mode: `brief` or `full`.
            device: `cpu` or `cuda`.
        """
        self.mode: Mode = mode
        self.device = device
        self.notes: list[str] = []
        self.missing: dict[str, str] = {}  # what could not be measured, to why
        self.square: dict[tuple[str, int], Measurement] = {}  # products by dtype and size
        self.single: dict[str, Measurement] = {}  # all that is one figure, by name
        self.reads: dict[int, Measurement] = {}  # by working set, as are the next two
        self.read_writes: dict[int, Measurement] = {}
        self.latency: dict[int, Measurement] = {}
        self._buffer: torch.Tensor | None = None

    def buffer(self, size_bytes: int) -> torch.Tensor:
        """Ones, of this size or larger."""
        if self._buffer is None or self._buffer.numel() * 4 < size_bytes:
            self._buffer = torch.ones(size_bytes // 4, device=self.device)
        return self._buffer

    def bandwidth(self) -> tuple[BandwidthPoint, ...]:
        """The ladder, smallest working set first."""
        return tuple(
            BandwidthPoint(working_set_bytes=size, read=read, read_write=self.read_writes.get(size))
            for size, read in sorted(self.reads.items())
        )

    def times_s(self, run: Callable[[], object], budget_s: float, timer: Timer | None = None) -> NDArray[np.float64]:
        """Seconds per call of the timed runs, [runs], after a warm-up."""
        clock = timer or (time_on_cuda if self.device == "cuda" else time_on_host)
        clock(run, 2)
        once_s = max(min(clock(run, 1) for _ in range(2)), 1e-9)
        calls = ceil(_LEAST_RUN_S / once_s)
        clock(run, calls)
        return self.sample(lambda: clock(run, calls), budget_s) / calls

    def sample(self, timed_run: Callable[[], float], budget_s: float) -> NDArray[np.float64]:
        """Seconds of the runs that count, [runs].

        Args:
            timed_run: runs once and gives its seconds.
            budget_s: time for all runs, where nothing disturbs.
        """
        least, most = _RUNS[self.mode]
        times: list[float] = []
        calm: list[bool] = []
        waited = waited_s()
        while len(times) < least or (sum(times) < budget_s and len(times) < most) or self._waits(times, calm, budget_s):
            times.append(timed_run())
            now = waited_s()
            calm.append(now - waited <= _WAITING_RATIO * times[-1])
            waited = now
        kept = np.array(times)[np.array(calm)]
        return kept if len(kept) >= _LEAST_UNDISTURBED else np.array(times)

    def _waits(self, times: list[float], calm: list[bool], budget_s: float) -> bool:
        """Whether to go on for the sake of undisturbed runs."""
        return sum(calm) < _LEAST_UNDISTURBED and sum(times) < budget_s + _PATIENCE_S


def faster(before: Measurement | None, now: Measurement) -> Measurement:
    """The better of two measurements of one figure."""
    if before is None:
        return now
    is_faster = now.value < before.value if now.unit == "s" else now.value > before.value
    return now if is_faster else before
