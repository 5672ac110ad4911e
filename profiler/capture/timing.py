"""Start and end of calls: the host's monotonic clock on CPU, CUDA events where the tensors are on a GPU."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


class CudaEvents:
    """Pairs of CUDA events around calls, turned into seconds after one synchronization at the end."""

    def __init__(self) -> None:
        """Record the zero event on the current stream."""
        torch.cuda.synchronize()
        self.base = self.mark()
        self.base_ns = time.perf_counter_ns()

    def mark(self) -> Any:
        """An event recorded now on the current stream."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        event.record()
        return event

    def elapsed_ns(self, event: Any) -> float:
        """Host-clock time of an event, ns; call only after the device was synchronized."""
        return self.base_ns + 1e6 * float(self.base.elapsed_time(event))


Stamp = Any  # int (host clock, ns) or a CUDA event


def origin_seconds(starts: Sequence[Stamp], events: CudaEvents | None) -> float | None:
    """Host-clock time of the first call that was timed, which `seconds_from_stamps` counts from; None without any."""
    first = next((stamp for stamp in starts if stamp is not None), None)
    if first is None or isinstance(first, int):
        return None if first is None else first / 1e9
    assert events is not None
    return events.elapsed_ns(first) / 1e9


def seconds_from_stamps(
    starts: Sequence[Stamp], ends: Sequence[Stamp], events: CudaEvents | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(start_s counted from the first call, duration_s), [calls]; NaN where a stamp is None.

    CUDA events see the time from the end of what ran before in the stream, gaps of the host included.
    """
    if events is not None:
        torch.cuda.synchronize()

    def as_ns(stamp: Stamp) -> float:
        if stamp is None:
            return np.nan
        if isinstance(stamp, int):
            return float(stamp)
        assert events is not None
        return events.elapsed_ns(stamp)

    origin = next((as_ns(stamp) for stamp in starts if stamp is not None), 0.0)
    if all(isinstance(stamp, int) for stamp in (*starts[:1], *ends[:1])) and events is None and None not in starts:
        first = np.array(starts, dtype=np.int64)
        duration = np.array(ends, dtype=np.int64) - first
        return (first - (first[0] if len(first) else 0)) / 1e9, duration / 1e9
    start_ns = np.array([as_ns(stamp) for stamp in starts], dtype=np.float64)
    end_ns = np.array([as_ns(stamp) for stamp in ends], dtype=np.float64)
    return (start_ns - origin) / 1e9, (end_ns - start_ns) / 1e9
