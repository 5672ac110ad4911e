"""The sampling thread: it ends with what it has, whatever its sources do."""

import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pytest

from profiler.capture.energy.sampler import Sampler
from profiler.capture.energy.source import PowerReading


@dataclass
class Steady:
    """100 W by its counter, at the host's clock."""

    name: str = "steady"
    device: str = "cpu"
    method: str = "counter"
    notes: tuple = ()
    wraps_at_j: tuple = ()
    closed: bool = False

    def read(self):
        return PowerReading(energy_j=100.0 * time.perf_counter())

    def close(self):
        self.closed = True


@dataclass
class Hanging(Steady):
    """Answers once and then never again."""

    hung: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    reads: int = 0

    def read(self):
        self.reads += 1
        if self.reads > 1:
            self.hung.set()
            self.release.wait()
        return PowerReading(energy_j=1.0)


class Broken(Steady):
    def read(self):
        raise ZeroDivisionError("a bug in a source")


def test_readings_cover_the_time_from_start_to_stop():
    source, period_s = Steady(), 0.005
    sampler = Sampler([source], period_s=period_s)
    before_s = time.perf_counter()
    sampler.start()
    started_s = time.perf_counter()
    time.sleep(0.1)
    stopping_s = time.perf_counter()
    sampler.stop()
    readings = sampler.logs[0].readings(0.0)
    assert source.closed
    assert before_s <= readings.time_s[0] <= started_s
    assert readings.time_s[-1] >= stopping_s
    periodic_s = readings.time_s[:-1] - before_s  # without the last one, which is taken when it stops
    assert (periodic_s >= period_s * np.arange(len(periodic_s)) - 1e-6).all()  # never faster than asked


def test_hung_driver_is_left_alone_and_named():
    source = Hanging()
    sampler = Sampler([source], period_s=0.005, patience_s=0.1)
    sampler.start()
    source.hung.wait()
    sampler.stop()  # returns although the source has not
    readings = sampler.logs[0].readings(0.0)
    source.release.set()
    assert readings.state == "unresponsive"
    assert len(readings.time_s) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_bug_in_a_source_ends_the_thread_and_not_the_program():
    sampler = Sampler([Broken()], period_s=0.005, patience_s=threading.TIMEOUT_MAX)
    sampler.start()  # does not wait for a first reading that never comes
    sampler.stop()
    readings = sampler.logs[0].readings(0.0)
    assert readings.state == "failed"
    assert "ended early" in readings.states[0].message


def test_staleness_is_the_time_between_changes_of_the_value():
    from profiler.energy import SourceReadings

    time_s = np.arange(0.0, 1.0, 0.01)
    power_w = np.floor(time_s / 0.1 + 1e-9)
    readings = SourceReadings(
        name="x", device="gpu", method="power", time_s=time_s, energy_j=np.full(100, np.nan), power_w=power_w
    )
    assert readings.period_s == pytest.approx(0.01)
    assert readings.staleness_s == pytest.approx(0.1)
