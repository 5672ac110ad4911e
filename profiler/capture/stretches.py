"""Takes what a recorder has gathered so far out of its memory, as a trace."""

import numpy as np

from profiler.capture.call_log import CallColumns
from profiler.capture.devices import describe_device
from profiler.capture.recorder import Recorder
from profiler.capture.timing import CudaEvents
from profiler.provenance import record_provenance
from profiler.traces import Allocations, Trace


class Stretches:
    """A recording as stretches of calls behind one another; all of it is one stretch where it is taken only once."""

    def __init__(self, recorder: Recorder, events: CudaEvents | None, name: str, seed: int | None) -> None:
        """Take from `recorder`; the others are of `profiler.capture.session.capture`."""
        self._recorder = recorder
        self._name = name
        self._seed = seed
        self._events = events
        self.columns = CallColumns(events)

    def take(self) -> Trace:
        """The calls and allocations since the last time, with the tables of the whole recording so far.

        With CUDA events it waits for the device.
        """
        if self._events is not None:
            self._events.wait()
        log, columns, allocations = self._recorder.log, self.columns, self._recorder.storages.allocations
        calls = columns.take(log.calls, log.reads, log.writes)
        device = describe_device(columns.devices, is_timed=columns.origin_s is not None)
        rows = np.array(allocations, dtype=np.int64).reshape(-1, 3)
        stretch = Trace(
            name=self._name,
            ops=columns.ops.names(),
            calls=calls,
            allocations=Allocations(version=rows[:, 0], size_bytes=rows[:, 1], is_outside=rows[:, 2]),
            phases=columns.phases.names(),
            modules=columns.modules.names(),
            provenance=record_provenance(
                "capture", device=device.name, clock_hz=device.clock_hz, seed=self._seed, notes=device.notes
            ),
        )
        for taken in (log.calls, log.reads, log.writes, allocations):
            taken.clear()
        return stretch
