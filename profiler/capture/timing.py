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

    def wait(self) -> None:
        """Wait until every event has happened."""
        torch.cuda.synchronize()

    def elapsed_ns(self, event: Any) -> float:
        """Host-clock time of an event, ns; call only after the device was synchronized."""
        return self.base_ns + 1e6 * float(self.base.elapsed_time(event))


Stamp = Any  # int (host clock, ns) or a CUDA event


def nanoseconds(stamps: Sequence[Stamp], events: CudaEvents | None) -> NDArray[np.int64] | NDArray[np.float64]:
    """Stamps on the host's clock, [stamps], ns; NaN where a stamp is None. Events must have been synchronized with.

    CUDA events see the time from the end of what ran before in the stream, gaps of the host included.
    """
    if events is None and None not in stamps:
        return np.array(stamps, dtype=np.int64)

    def as_ns(stamp: Stamp) -> float:
        if stamp is None:
            return np.nan
        if isinstance(stamp, int):
            return float(stamp)
        assert events is not None
        return events.elapsed_ns(stamp)

    return np.array([as_ns(stamp) for stamp in stamps], dtype=np.float64)
