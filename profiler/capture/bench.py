"""`Bench`: budgets and samples of one run of the micro-benchmarks, and the figures found so far."""

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from profiler.capture.machine import waited_s
from profiler.capture.timers import Timer, time_on_cuda, time_on_host
from profiler.measurements import SETTLED_WITHIN, BandwidthPoint, Measurement

Mode = Literal["brief", "full"]
_Key = TypeVar("_Key")

_RUNS = {"brief": (4, 15), "full": (5, 30)}  # least and most timed runs of one window
_LEAST_RUN_S = 1e-3  # a timed run repeats its operation until it lasts this long
_PATIENCE_S = 0.3  # beyond its budget that a measurement may take where others keep the processors busy
_WAITING_RATIO = 0.02  # of a run's time that its threads may wait for a processor
_LEAST_UNDISTURBED = 3  # runs that suffice to leave out those that waited longer
_MOST_WAITING_RATIO = 0.99  # of a run that may be waiting: the two clocks are read one after the other


class Bench:
    """What was measured so far: each step is visited several times, far apart, and each visit is a window of a figure.

    Other programs can only make a figure worse, so the fastest of its windows is the nearest to what the machine
    reaches alone. Windows go in turn to two halves; a figure has settled where the fastest of both agree, each found
    without the other. Runs in which the system made this process wait for a processor are left out where enough others
    remain; elsewhere, as of long runs on a busy machine, what it waited is taken away from their time.
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
        self._random: torch.Tensor | None = None
        self._step = ""
        self._visits: dict[str, int] = {}  # so far, by step
        self._windows: dict[tuple[str, str], dict[int, Measurement]] = {}  # by step and name, the fastest of each visit

    def visit(self, step: str) -> None:
        """Begin a window of every figure that is kept until the next visit."""
        self._step = step
        self._visits[step] = self._visits.get(step, 0) + 1

    def keep(self, table: dict[_Key, Measurement], key: _Key, found: Measurement) -> None:
        """Take what this visit found into a table of figures, where it is the fastest of its key so far."""
        table[key] = faster(table.get(key), found)
        windows = self._windows.setdefault((self._step, found.name), {})
        visit = self._visits.get(self._step, 0)
        windows[visit] = faster(windows.get(visit), found)

    def has_settled(self, step: str) -> bool:
        """Whether the halves of each of a step's figures agree; what was seen in one half alone has none to differ."""
        found = (_halves_differ(windows) for (owner, _), windows in self._windows.items() if owner == step)
        return all(difference is None or difference <= SETTLED_WITHIN for difference in found)

    def told(self, found: Measurement) -> Measurement:
        """A figure with how many windows it comes from, and how far their halves differ."""
        (windows,) = (windows for (_, name), windows in self._windows.items() if name == found.name)
        return replace(found, windows=len(windows), halves_differ=_halves_differ(windows))

    def buffer(self, size_bytes: int) -> torch.Tensor:
        """Ones in float32, of this size or larger."""
        if self._buffer is None or self._buffer.numel() * 4 < size_bytes:
            self._buffer = torch.ones(size_bytes // 4, device=self.device)
        return self._buffer

    def random_values(self, count: int) -> torch.Tensor:
        """Normally distributed values `[count]`, made once: they are copied faster than made anew at every visit."""
        if self._random is None or self._random.numel() < count:
            self._random = torch.randn(count, device=self.device)
        return self._random[:count]

    def bandwidth(self) -> tuple[BandwidthPoint, ...]:
        """The ladder, smallest working set first."""
        return tuple(
            BandwidthPoint(
                working_set_bytes=size,
                read=self.told(read),
                read_write=self.told(self.read_writes[size]) if size in self.read_writes else None,
            )
            for size, read in sorted(self.reads.items())
        )

    def times_s(self, run: Callable[[], object], budget_s: float, timer: Timer | None = None) -> NDArray[np.float64]:
        """Seconds per call of the timed runs, [runs], after a warm-up."""
        clock = timer or (time_on_cuda if self.device == "cuda" else time_on_host)
        clock(run, 1)
        calls = ceil(_LEAST_RUN_S / max(clock(run, 1), 1e-9))
        if calls > 1:  # else two calls have warmed it up
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
        waits: list[float] = []
        waited = waited_s()
        while (
            len(times) < least or (sum(times) < budget_s and len(times) < most) or self._waits(times, waits, budget_s)
        ):
            times.append(timed_run())
            now = waited_s()
            waits.append(now - waited)
            waited = now
        all_s, waited_each_s = np.array(times), np.array(waits)
        calm = waited_each_s <= _WAITING_RATIO * all_s
        if calm.sum() >= _LEAST_UNDISTURBED:
            kept: NDArray[np.float64] = all_s[calm]
            return kept
        if self.device == "cpu":
            # Threads that wait at the same time add up; where only one of them waits, this takes too little away.
            all_s = all_s - np.minimum(waited_each_s / torch.get_num_threads(), _MOST_WAITING_RATIO * all_s)
        return all_s

    def _waits(self, times: list[float], waits: list[float], budget_s: float) -> bool:
        """Whether to go on for the sake of undisturbed runs."""
        calm = sum(wait <= _WAITING_RATIO * time for wait, time in zip(waits, times, strict=True))
        return calm < _LEAST_UNDISTURBED and sum(times) < budget_s + _PATIENCE_S


def _halves_differ(windows: dict[int, Measurement]) -> float | None:
    """How much faster the fastest of the odd visits is than that of the even ones, or the other way round."""
    fastest: dict[int, Measurement] = {}
    for visit, window in windows.items():
        fastest[visit % 2] = faster(fastest.get(visit % 2), window)
    values = [window.value for window in fastest.values()]
    return max(values) / min(values) - 1.0 if len(values) > 1 else None


def faster(before: Measurement | None, now: Measurement) -> Measurement:
    """The better of two measurements of one figure."""
    if before is None:
        return now
    is_faster = now.value < before.value if now.unit == "s" else now.value > before.value
    return now if is_faster else before
