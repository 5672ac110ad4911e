"""Timing windows: a whole program timed several times after a warm-up, and what makes its times doubtful."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from profiler.capture.clocks import clock_resolution_s, device_clock_hz
from profiler.errors import TraceError
from profiler.traces import Trace

DEFAULT_WARMUP_COUNT = 2
DEFAULT_REPEATS_COUNT = 10
_LEAST_STEPS = 100  # of the clock in a window: then reading it twice is off by 1 to 2 %
_LARGEST_SPREAD = 0.05
_LARGEST_CLOCK_MOVE = 0.02  # a GPU steps by 15 MHz, about 1 %


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingWindow:
    """The times of all timed runs of a program, none left out.

    Attributes:
        runs_s: seconds of each run, in order.
        warmup_count: runs before them that were not timed.
        resolution_s: shortest time that the clock, with the device's synchronization, tells from nothing.
        clock_before_hz: clock of the device after the warm-up, None where it is not told.
        clock_after_hz: the same after the last run.
    """

    runs_s: tuple[float, ...]
    warmup_count: int
    resolution_s: float
    clock_before_hz: float | None = None
    clock_after_hz: float | None = None

    def __post_init__(self) -> None:
        if not self.runs_s or not all(np.isfinite(self.runs_s)):
            raise TraceError(f"timing window: needs at least one run of finite time, got {self.runs_s}")

    @property
    def runs(self) -> int:
        """How many runs were timed."""
        return len(self.runs_s)

    @property
    def median_s(self) -> float:
        """Median over all runs."""
        return float(np.median(self.runs_s))

    @property
    def spread(self) -> float | None:
        """Distance between the quartiles over the median; None for a single run, or where no time passed.

        >>> TimingWindow(runs_s=(1.0, 2.0, 3.0, 4.0, 5.0), warmup_count=0, resolution_s=1e-9).spread  # (4 - 2) / 3
        0.6666666666666666
        """
        if self.runs < 2 or self.median_s == 0:
            return None
        low_s, high_s = np.quantile(self.runs_s, (0.25, 0.75))
        return float((high_s - low_s) / self.median_s)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why not to trust the median, one sentence each; empty where nothing was seen."""
        found = []
        if self.median_s < _LEAST_STEPS * self.resolution_s:
            found.append(
                f"Timing: the window is too short for the clock: {self.median_s:.3g} s is less than {_LEAST_STEPS} "
                f"times what it resolves ({self.resolution_s:.3g} s); time several runs as one."
            )
        before_hz, after_hz = self.clock_before_hz, self.clock_after_hz
        if before_hz and after_hz and abs(after_hz / before_hz - 1) > _LARGEST_CLOCK_MOVE:
            found.append(
                f"Timing: the device's clock moved from {before_hz / 1e6:.0f} to {after_hz / 1e6:.0f} MHz between the "
                "first timed run and the last."
            )
        if self.spread is None:
            found.append(f"Timing: a median of {self.median_s:.3g} s over {self.runs} tells nothing of the spread.")
        elif self.spread > _LARGEST_SPREAD:
            found.append(f"Timing: spread {self.spread:.1%} is over {_LARGEST_SPREAD:.0%}; something else disturbs it.")
        return tuple(found)


def measure(
    run: Callable[[], object],
    *,
    warmup: int = DEFAULT_WARMUP_COUNT,
    repeats: int = DEFAULT_REPEATS_COUNT,
    synchronize: Callable[[], object] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    device_clock: Callable[[], float | None] = device_clock_hz,
) -> TimingWindow:
    """Run a program untimed, then timed, waiting for its device before and after each timed run.

    Args:
        run: the program.
        warmup: runs that are not timed.
        repeats: runs that are.
        synchronize: waits for the device; None waits for CUDA where it has started, and for nothing on a CPU.
        clock: gives seconds, and never goes back.
        device_clock: gives the frequency of the device, Hz, read before the first timed run and after the last.

    Raises:
        TraceError: for a negative `warmup`, or `repeats` below 1.

    Example:
        >>> import torch
        >>> x = torch.ones(64, 64)
        >>> window = measure(lambda: x @ x, warmup=1, repeats=5)
        >>> window.runs, window.warmup_count, window.median_s > 0
        (5, 1, True)
    """
    if warmup < 0 or repeats < 1:
        raise TraceError(f"timing window: warmup must be >= 0 and repeats >= 1, got {warmup} and {repeats}")
    wait = synchronize or _wait_for_cuda
    for _ in range(warmup):
        run()
    wait()
    resolution_s = clock_resolution_s(clock, wait)
    before_hz = device_clock()
    runs_s = []
    for _ in range(repeats):
        wait()
        start_s = clock()
        run()
        wait()
        runs_s.append(clock() - start_s)
    return TimingWindow(
        runs_s=tuple(runs_s),
        warmup_count=warmup,
        resolution_s=resolution_s,
        clock_before_hz=before_hz,
        clock_after_hz=device_clock(),
    )


def with_window(trace: Trace, window: TimingWindow) -> Trace:
    """A trace whose notes tell the times of the bare program, unwatched, and what is doubtful about them."""
    provenance = replace(trace.provenance, notes=(*trace.provenance.notes, window_note(window), *window.warnings))
    return replace(trace, provenance=provenance)


def window_note(window: TimingWindow) -> str:
    """A window in one sentence.

    >>> window_note(TimingWindow(runs_s=(0.5, 0.5), warmup_count=1, resolution_s=1e-7))
    'Bare program, unwatched: median 0.5 s, spread 0.0% (quartiles) over 2 runs after 1 warm-up; device clock not told.'
    """
    spread = "unknown" if window.spread is None else f"{window.spread:.1%} (quartiles)"
    clock = (
        "device clock not told"
        if window.clock_before_hz is None or window.clock_after_hz is None
        else f"device at {window.clock_before_hz / 1e6:.0f} MHz before and {window.clock_after_hz / 1e6:.0f} MHz after"
    )
    return (
        f"Bare program, unwatched: median {window.median_s:.4g} s, spread {spread} over {window.runs} "
        f"run{'' if window.runs == 1 else 's'} after "
        f"{window.warmup_count} warm-up; {clock}."
    )


def window_json(window: TimingWindow) -> dict[str, Any]:
    """A window for scripts, every run included."""
    return {
        "median_s": window.median_s,
        "spread": window.spread,
        "runs": window.runs,
        "runs_s": list(window.runs_s),
        "warmup_count": window.warmup_count,
        "resolution_s": window.resolution_s,
        "clock_before_hz": window.clock_before_hz,
        "clock_after_hz": window.clock_after_hz,
        "warnings": list(window.warnings),
    }


def _wait_for_cuda() -> None:
    """Wait where the program has started CUDA; asking never starts it."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.cuda.synchronize()
