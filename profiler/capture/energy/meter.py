"""`EnergyMeter`: idle first, then the program, both under one sampler."""

import time
from collections.abc import Callable, Sequence
from types import TracebackType

import torch

from profiler.capture.energy.nvml import nvml_sources
from profiler.capture.energy.rapl import rapl_sources
from profiler.capture.energy.sampler import Sampler
from profiler.capture.energy.source import PowerSource
from profiler.energy import EnergyReadings
from profiler.errors import TraceError

DEFAULT_PERIOD_S = 0.02
DEFAULT_IDLE_S = 1.0


class EnergyMeter:
    """Measures idle power on entry, then samples until exit; `readings` is there afterwards.

    Use one meter for one capture.
    """

    def __init__(
        self,
        sources: Sequence[PowerSource] | None = None,
        *,
        period_s: float = DEFAULT_PERIOD_S,
        idle_s: float = DEFAULT_IDLE_S,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare a meter; nothing is read yet.

        Args:
            sources: what to read; None for the GPUs that torch sees (all that NVML lists where torch sees none) and
                the processor's packages.
            period_s: time between readings. Devices renew their figures every 20 to 100 ms, so less gains little.
            idle_s: how long to wait before the program for idle power; 0 leaves it out.
            clock: seconds, the clock that calls are timed with.
            sleep: waits that many seconds.
        """
        if not period_s > 0 or not idle_s >= 0:
            raise TraceError(f"energy meter: period_s must be > 0 and idle_s >= 0, got {period_s} and {idle_s}")
        self._period_s, self._idle_s, self._clock, self._sleep = period_s, idle_s, clock, sleep
        chosen = (*nvml_sources(visible_gpus()), *rapl_sources()) if sources is None else tuple(sources)
        self._sampler = Sampler(chosen, period_s=period_s, clock=clock)
        self._idle_window_s = (0.0, 0.0)
        self._run_window_s = (0.0, 0.0)

    def __enter__(self) -> "EnergyMeter":
        self._sampler.start()
        idle_begin_s = self._clock()
        if self._idle_s:
            self._sleep(self._idle_s)
        begin_s = self._clock()
        self._idle_window_s = (idle_begin_s, begin_s if self._idle_s else idle_begin_s)
        self._run_window_s = (begin_s, begin_s)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and torch.cuda.is_available():
            torch.cuda.synchronize()  # what was started belongs to the program
        self._run_window_s = (self._run_window_s[0], self._clock())
        self._sampler.stop()

    def readings(self, origin_s: float | None = None) -> EnergyReadings:
        """What was read.

        Args:
            origin_s: reading of the clock that counts as zero; None for the begin of the program.
        """
        zero_s = self._run_window_s[0] if origin_s is None else origin_s

        def shifted(window_s: tuple[float, float]) -> tuple[float, float]:
            return window_s[0] - zero_s, window_s[1] - zero_s

        return EnergyReadings(
            sources=tuple(log.readings(zero_s) for log in self._sampler.logs),
            asked_period_s=self._period_s,
            idle_window_s=shifted(self._idle_window_s),
            run_window_s=shifted(self._run_window_s),
        )


def visible_gpus() -> tuple[str, ...] | None:
    """UUIDs, as NVML writes them, of the GPUs that torch sees; None where it sees none or does not tell.

    NVML knows nothing of CUDA_VISIBLE_DEVICES, and may count the devices in another order.
    """
    if not torch.cuda.is_available():
        return None
    uuids = []
    for index in range(torch.cuda.device_count()):
        uuid = str(getattr(torch.cuda.get_device_properties(index), "uuid", ""))
        if not uuid:
            return None
        uuids.append(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")
    return tuple(uuids)
