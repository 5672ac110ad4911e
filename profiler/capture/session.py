"""`capture()`: one context around any PyTorch code; the `Recording` it yields holds the trace afterwards."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from profiler.capture.call_log import CallColumns
from profiler.capture.devices import describe_device
from profiler.capture.energy.meter import EnergyMeter
from profiler.capture.function_level import FunctionLevel
from profiler.capture.nvtx_ranges import nvtx_ranges_if_cuda
from profiler.capture.recorder import Recorder
from profiler.capture.timing import CudaEvents
from profiler.energy import DeviceType
from profiler.energy_calls import with_energy
from profiler.errors import TraceError
from profiler.provenance import record_provenance
from profiler.traces import Allocations, Trace


@dataclass(slots=True)
class Recording:
    """What `capture` yields; its trace is there once the block has ended."""

    _trace: Trace | None = field(default=None, init=False)

    @property
    def trace(self) -> Trace:
        """The recorded trace.

        Raises:
            TraceError: while the block is still running.
        """
        if self._trace is None:
            raise TraceError("the trace is complete only after the `with capture()` block has ended")
        return self._trace


@contextmanager
def capture(
    *,
    name: str = "program",
    strict: bool = False,
    vocab_size: int | None = None,
    seed: int | None = None,
    timing: bool = True,
    energy: bool | EnergyMeter = False,
) -> Iterator[Recording]:
    """Record every PyTorch operation that runs inside this block, on CPU, CUDA or meta tensors.

    Args:
        name: name of the trace.
        strict: raise `UnknownOperationError` at the first operation without a cost rule.
        vocab_size: width of the logits; found from the largest embedding table where not given.
        seed: the seed that the program used, for the trace's provenance.
        timing: take the times of calls. Without them, recording costs a little less, and `start_s` and `duration_s` are
            NaN.
        energy: measure energy with the sources that this machine has, or with a meter of your own.

    Example:
        >>> import torch
        >>> from profiler.capture import capture, phase
        >>> with capture() as recording, phase("square"):
        ...     _ = torch.ones(8, 4) @ torch.ones(4, 2)
        >>> frame = recording.trace.to_frame()
        >>> int(frame[frame.kind == "gemm"].flops.iloc[0])
        128
    """
    recording = Recording()
    events = CudaEvents() if timing and torch.cuda.is_available() else None
    nvtx = nvtx_ranges_if_cuda()
    recorder = Recorder(strict=strict, vocab_size=vocab_size, timing=timing, events=events, nvtx=nvtx)
    meter = EnergyMeter() if energy is True else energy or None
    with ExitStack() as stack:
        if meter is not None:
            stack.enter_context(meter)
        if nvtx is not None:
            stack.callback(nvtx.close)
        recorder.modules.start()
        stack.callback(recorder.modules.stop)
        stack.enter_context(FunctionLevel(recorder))
        stack.enter_context(recorder)
        yield recording
    if events is not None:
        events.wait()
    columns = CallColumns(events)
    trace = _build_trace(recorder, columns, name, seed)
    if meter is not None:
        device: DeviceType = "gpu" if "cuda" in columns.devices else "cpu"
        trace = with_energy(trace, meter.readings(columns.origin_s), device)
    recording._trace = trace


def _build_trace(recorder: Recorder, columns: CallColumns, name: str, seed: int | None) -> Trace:
    """Turn what was recorded into columns."""
    calls = columns.take(recorder.log.calls, recorder.log.reads, recorder.log.writes)
    device = describe_device(columns.devices)
    return Trace(
        name=name,
        ops=columns.ops.names(),
        calls=calls,
        allocations=_allocations(recorder),
        phases=columns.phases.names(),
        modules=columns.modules.names(),
        provenance=record_provenance(
            "capture", device=device.name, clock_hz=device.clock_hz, seed=seed, notes=device.notes
        ),
    )


def _allocations(recorder: Recorder) -> Allocations:
    """Storages that no recorded operation made, as columns."""
    rows = np.array(recorder.storages.allocations, dtype=np.int64).reshape(-1, 3)
    return Allocations(version=rows[:, 0], size_bytes=rows[:, 1], is_outside=rows[:, 2])
