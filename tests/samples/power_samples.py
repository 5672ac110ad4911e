"""A processor whose power is known exactly, however late the thread that reads it comes."""

import threading
import time

from profiler.capture.energy.source import PowerReading, SourceError


class KnownPower:
    """Draws `power_w` by its counter, and is lost after some readings, which sets `lost`.

    A meter must use its `clock`: for the thread that reads, time stands still during a reading.
    """

    device, method, notes, wraps_at_j = "cpu", "counter", (), ()

    def __init__(self, power_w, *, name="test", reads=10**9):
        self.name, self.power_w, self.reads = name, power_w, reads
        self.lost = threading.Event()
        self._own = threading.local()

    def clock(self):
        if not getattr(self._own, "is_reading", False):
            self._own.now_s = time.perf_counter()
        self._own.is_reading = False
        return self._own.now_s

    def read(self):
        self.reads -= 1
        if self.reads < 0:
            self.lost.set()
            raise SourceError("device_lost", "gone")
        self._own.is_reading = True
        return PowerReading(energy_j=self.power_w * self._own.now_s, power_w=self.power_w)

    def close(self):
        pass
