"""`CallLog`: what a recording keeps of each call, and the columns that it becomes."""

from collections.abc import Sequence
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiler.capture.known_calls import KnownCall
from profiler.capture.timing import CudaEvents, Stamp, nanoseconds
from profiler.traces import Calls
from workloads.markers import Marker

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
CALL_FIELDS = 5


class CallLog:
    """Flat lists that grow with every call: a container per call would keep Python's garbage collector busy.

    Attributes:
        calls: five entries per call: `KnownCall`, `Marker`, module path, stamps of start and end.
        reads: versions of all tensors among the arguments, calls behind one another.
        writes: two entries per output: its version, and the one before in the same storage, 0 for none.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.calls: list[Any] = []
        self.reads: list[int] = []
        self.writes: list[int] = []
        # The lists' own methods: what is appended is appended at once, whoever reads them meanwhile.
        self.add_call = self.calls.extend
        self.add_reads = self.reads.extend
        self.add_writes = self.writes.extend


class NameTable:
    """Distinct values in order of appearance, each with its index."""

    def __init__(self) -> None:
        """Start empty."""
        self._index: dict[Any, int] = {}

    def indices(self, values: Sequence[Any]) -> IntArray:
        """Index of each value, new ones for values not met before."""
        index = self._index
        for value in dict.fromkeys(values):
            index.setdefault(value, len(index))
        return np.array([index[value] for value in values], dtype=np.int64)

    def names(self) -> tuple[Any, ...]:
        """The distinct values."""
        return tuple(self._index)


class CallColumns:
    """Turns stretches of a log into columns, with tables of ops, phases and modules that grow from one to the next."""

    def __init__(self, events: CudaEvents | None) -> None:
        """Start with empty tables; stamps that are events are read through `events`."""
        self.ops = NameTable()
        self.phases = NameTable()
        self.modules = NameTable()
        self.devices: set[str] = set()
        self._events = events
        self._origin_ns: float | None = None

    @property
    def origin_s(self) -> float | None:
        """The host's clock at the first call that was timed, from which `start_s` counts; None without any."""
        return None if self._origin_ns is None else self._origin_ns / 1e9

    def take(self, calls: Sequence[Any], reads: Sequence[int], writes: Sequence[int]) -> Calls:
        """Columns of a stretch of the three lists of a log."""
        known: Sequence[KnownCall] = calls[::CALL_FIELDS]
        markers: Sequence[Marker] = calls[1::CALL_FIELDS]
        distinct = {call: index for index, call in enumerate(dict.fromkeys(known))}
        op_of = self.ops.indices([call.op for call in distinct])
        self.devices.update(*(call.devices for call in distinct))
        which = np.array([distinct[call] for call in known], dtype=np.int64)
        written = np.array(writes, dtype=np.int64)
        start_s, duration_s = self._times(calls[3::CALL_FIELDS], calls[4::CALL_FIELDS])
        return Calls(
            op=op_of[which],
            phase=self.phases.indices([marker.phase for marker in markers]),
            step=np.array([-1 if marker.step is None else marker.step for marker in markers], dtype=np.int64),
            module=self.modules.indices(calls[2::CALL_FIELDS]),
            stream=np.zeros(len(known), dtype=np.int64),
            start_s=start_s,
            duration_s=duration_s,
            energy_j=np.full(len(known), np.nan),
            reads=_operand_versions(tuple(distinct), which, np.array(reads, dtype=np.int64)),
            writes=written[0::2],
            replaces=written[1::2],
        )

    def _times(self, starts: Sequence[Stamp], ends: Sequence[Stamp]) -> tuple[FloatArray, FloatArray]:
        """(start_s counted from the first stamp of the recording, duration_s), [calls]; NaN where there is no stamp."""
        if starts.count(None) == len(starts):
            return np.full(len(starts), np.nan), np.full(len(starts), np.nan)
        start_ns, end_ns = nanoseconds(starts, self._events), nanoseconds(ends, self._events)
        if self._origin_ns is None:
            self._origin_ns = next((stamp for stamp in start_ns.tolist() if not isnan(stamp)), None)
        return (start_ns - (self._origin_ns or 0)) / 1e9, (end_ns - start_ns) / 1e9


def _operand_versions(distinct: Sequence[KnownCall], which: IntArray, versions: IntArray) -> IntArray:
    """Of the versions of all argument tensors, those that are operands of the ops, in the order of the operands.

    Args:
        distinct: the known calls.
        which: index among them for each call, [calls].
        versions: of the tensors among the arguments, calls behind one another.
    """
    if not distinct or all(call.read_positions == tuple(range(call.inputs)) for call in distinct):
        return versions
    first_version = _offsets(np.array([call.inputs for call in distinct], dtype=np.int64)[which])
    positions = np.array([i for call in distinct for i in call.read_positions], dtype=np.int64)
    operands = np.array([len(call.read_positions) for call in distinct], dtype=np.int64)
    counts = operands[which]
    within_call = np.arange(counts.sum()) - np.repeat(_offsets(counts), counts)
    position = positions[np.repeat(_offsets(operands)[which], counts) + within_call]
    chosen: IntArray = versions[np.repeat(first_version, counts) + position]
    return chosen


def _offsets(counts: IntArray) -> IntArray:
    """Where each stretch begins when they stand behind one another."""
    return (np.cumsum(counts) - counts).astype(np.int64)
