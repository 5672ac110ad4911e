"""What the clocks of a timing are worth: the steps of the one that reads, and the frequency of the one that works."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median

import torch

from profiler.capture.devices import cpu_clock_hz

_SYSFS_CPUS = Path("/sys/devices/system/cpu")
_HZ_PER_KHZ = 1e3
_HZ_PER_MHZ = 1e6
_EMPTY_WINDOWS = 21
_LONGEST_SEARCH = 1_000_000  # readings to wait for a clock to step: one that never steps must not hang


def clock_resolution_s(
    clock: Callable[[], float] = time.perf_counter, wait: Callable[[], object] | None = None
) -> float:
    """The shortest time that can be told from nothing, in seconds: a step of the clock, or an empty window if longer.

    Args:
        clock: gives seconds.
        wait: what each window ends with, a device's synchronization; its own time is part of every window.

    >>> ticks = iter(range(10_000))
    >>> clock_resolution_s(lambda: 0.25 * (next(ticks) // 3))  # moves by 0.25 s at every third reading
    0.25
    """
    empty_s = []
    for _ in range(_EMPTY_WINDOWS):
        start_s = clock()
        if wait is not None:
            wait()
        empty_s.append(clock() - start_s)
    return max(_step_s(clock), median(empty_s))


def _step_s(clock: Callable[[], float]) -> float:
    """Smallest step seen among a few; infinite for a clock that stands."""
    steps_s = []
    before_s = clock()
    for _ in range(_LONGEST_SEARCH):
        now_s = clock()
        if now_s != before_s:
            steps_s.append(now_s - before_s)
            before_s = now_s
        if len(steps_s) == _EMPTY_WINDOWS:
            break
    return min(steps_s, default=float("inf"))


def device_clock_hz() -> float | None:
    """Clock of the GPU where CUDA has started in this process, else of the CPU, Hz; None where it is not told."""
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return gpu_clock_hz() if started else host_clock_hz()


def host_clock_hz(cpus: Path = _SYSFS_CPUS) -> float | None:
    """Clock of the fastest processor that this process may use now, Hz; that of `/proc/cpuinfo` without cpufreq.

    Args:
        cpus: Linux' folder of processors; `scaling_cur_freq` is in kHz.
    """
    found_hz = []
    for number in os.sched_getaffinity(0):
        with suppress(OSError, ValueError):
            text = (cpus / f"cpu{number}" / "cpufreq" / "scaling_cur_freq").read_text(encoding="ascii")
            found_hz.append(int(text) * _HZ_PER_KHZ)
    return max(found_hz) if found_hz else cpu_clock_hz()


def gpu_clock_hz() -> float | None:
    """Clock of the current GPU's multiprocessors through NVML, Hz; None where NVML does not answer."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        return float(torch.cuda.clock_rate()) * _HZ_PER_MHZ  # it heeds CUDA_VISIBLE_DEVICES
    except (pynvml.NVMLError, RuntimeError):
        return None
