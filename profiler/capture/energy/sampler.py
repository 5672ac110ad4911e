"""`Sampler`: a thread that reads every source at a fixed period and keeps what it gets, faults included."""

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from profiler.capture.energy.source import PowerSource, SourceError
from profiler.energy import FINAL_STATES, SourceReadings, State, StateChange

# A smaller number after a larger one is a counter that wrapped only if the power that it implies is below this.
_PLAUSIBLE_W = 20_000.0
# A driver that takes longer than this for one round of readings is taken as hung.
_PATIENCE_S = 5.0


class SourceLog:
    """Readings of one source so far."""

    def __init__(self, source: PowerSource) -> None:
        self.source = source
        self.is_final = False
        self._times_s: list[float] = []
        self._energy_j: list[float] = []
        self._power_w: list[float] = []
        self._changes: list[StateChange] = []
        self._state: State = "ok"
        self._raw_j: float | None = None
        self._raw_s = 0.0
        self._total_j = 0.0

    def read(self, clock: Callable[[], float]) -> None:
        """Read once, unless the source is past asking."""
        if self.is_final:
            return
        before_s = clock()
        try:
            reading = self.source.read()
        except SourceError as fault:
            self.enter(fault.state, fault.message, before_s)
            self._append(before_s, np.nan, np.nan)
            return
        now_s = 0.5 * (before_s + clock())
        self.enter("ok", "", now_s)
        energy_j = np.nan if reading.energy_j is None else self._advance(reading.energy_j, now_s)
        self._append(now_s, energy_j, np.nan if reading.power_w is None else reading.power_w)

    def enter(self, state: State, message: str, now_s: float) -> None:
        """Record a state where it differs from the one before."""
        if state != self._state:
            self._state = state
            self._changes.append(StateChange(time_s=now_s, state=state, message=message))
        self.is_final = self.is_final or state in FINAL_STATES

    def readings(self, origin_s: float) -> SourceReadings:
        """Everything so far, with times counted from `origin_s`."""
        # A hung reading may still come in: the shortest column counts.
        length = min(len(self._times_s), len(self._energy_j), len(self._power_w))
        return SourceReadings(
            name=self.source.name,
            device=self.source.device,
            method=self.source.method,
            time_s=np.array(self._times_s[:length]) - origin_s,
            energy_j=np.array(self._energy_j[:length]),
            power_w=np.array(self._power_w[:length]),
            states=tuple(
                StateChange(time_s=change.time_s - origin_s, state=change.state, message=change.message)
                for change in self._changes
            ),
            notes=self.source.notes,
        )

    def _append(self, now_s: float, energy_j: float, power_w: float) -> None:
        self._times_s.append(now_s)
        self._energy_j.append(energy_j)
        self._power_w.append(power_w)

    def _advance(self, raw_j: float, now_s: float) -> float:
        """Energy since the first reading, with wraps of the counter undone; a reset adds nothing and is recorded."""
        if self._raw_j is not None:
            step_j = raw_j - self._raw_j
            if step_j < 0:
                most_j = _PLAUSIBLE_W * (now_s - self._raw_s)
                wrapped = [step_j + whole for whole in self.source.wraps_at_j if 0 <= step_j + whole <= most_j]
                state: State = "wrapped" if wrapped else "reset"
                message = "the counter began at zero again" if wrapped else "the counter fell, by a reset of the driver"
                self._changes.append(StateChange(time_s=now_s, state=state, message=message))
                step_j = wrapped[0] if wrapped else 0.0
            self._total_j += step_j
        self._raw_j, self._raw_s = raw_j, now_s
        return self._total_j


class Sampler:
    """Reads all sources in a thread of its own, so that neither a fault nor a slow driver reaches the program."""

    def __init__(
        self,
        sources: Sequence[PowerSource],
        *,
        period_s: float,
        clock: Callable[[], float] = time.perf_counter,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self.logs = tuple(SourceLog(source) for source in sources)
        self._period_s = period_s
        self._clock = clock
        self._patience_s = patience_s
        self._stopping = threading.Event()
        self._first_done = threading.Event()
        self._is_whole = False
        self._reading: SourceLog | None = None
        self._thread = threading.Thread(target=self._run, name="roofscape-energy", daemon=True)

    def start(self) -> None:
        """Start the thread, and return after its first reading, when it fails, or when patience ends."""
        self._thread.start()
        self._first_done.wait(self._patience_s)

    def stop(self) -> None:
        """Take a last reading and end the thread; a source that does not answer is left alone and said to hang."""
        self._stopping.set()
        self._thread.join(self._patience_s)
        if self._is_whole:
            for log in self.logs:
                log.source.close()
            return
        for log in self.logs:
            if self._thread.is_alive() and log is self._reading:
                log.enter("unresponsive", f"no answer within {self._patience_s:g} s", self._clock())
            elif not log.is_final:
                log.enter("failed", "the sampling thread ended early", self._clock())

    def sample(self) -> None:
        """Read every source once."""
        for log in self.logs:
            self._reading = log
            log.read(self._clock)
        self._reading = None

    def _run(self) -> None:
        try:
            next_s = self._clock()
            while not self._stopping.is_set():
                self.sample()
                self._first_done.set()
                next_s = max(next_s + self._period_s, self._clock())  # readings that were missed are not made up for
                self._stopping.wait(next_s - self._clock())
            self.sample()
            self._is_whole = True
        finally:
            self._first_done.set()  # nobody waits for a thread that failed
