"""`capture()`: one context around any PyTorch code; the `Recording` it yields holds the trace afterwards."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from profiler.capture.energy.meter import EnergyMeter
from profiler.capture.function_level import FunctionLevel
from profiler.capture.kernel_profiler import KernelProfiler
from profiler.capture.nvtx_ranges import nvtx_ranges_if_cuda
from profiler.capture.recorder import Recorder
from profiler.capture.stream import Stream
from profiler.capture.stretches import Stretches
from profiler.capture.timing import CudaEvents
from profiler.energy import DeviceType
from profiler.energy_calls import with_energy
from profiler.errors import TraceError
from profiler.storage import save_trace
from profiler.traces import Trace

if TYPE_CHECKING:
    from profiler.capture.compiled_graphs import CompiledGraphs


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
    kernels: bool = False,
    compiled: bool = False,
    stream_to: Path | None = None,
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
        kernels: run torch.profiler too and attach the device's kernels to their calls, whose times are theirs then.
        compiled: let functions of `torch.compile` run compiled: each graph is one call of kind `unknown`. Without it
            they run uncompiled, operation by operation.
        stream_to: save the trace to this file, and until then write calls to a folder beside it, `<name>.parts`, every
            two seconds, instead of keeping them in memory. `load_trace` reads that folder where the program was killed.

    Raises:
        TraceError: where `stream_to` cannot be written, or an unfinished recording lies there.

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
    if kernels and not timing:
        raise TraceError("capture: kernels=True attaches kernels by the times of calls; it needs timing=True")
    profiler = KernelProfiler() if kernels else None
    events = CudaEvents() if timing and not kernels and torch.cuda.is_available() else None
    nvtx = nvtx_ranges_if_cuda()
    recorder = Recorder(strict=strict, vocab_size=vocab_size, timing=timing, events=events, nvtx=nvtx)
    meter = EnergyMeter() if energy is True else energy or None
    stretches = Stretches(recorder, events, name, seed)
    stream = None if stream_to is None else Stream(recorder, stretches, stream_to)
    with ExitStack() as stack:
        if meter is not None:
            stack.enter_context(meter)
        if profiler is not None:
            stack.enter_context(profiler)
        if nvtx is not None:
            stack.callback(nvtx.close)
        if stream is not None:
            stack.enter_context(stream)
        recorder.modules.start()
        stack.callback(recorder.modules.stop)
        functions = stack.enter_context(FunctionLevel(recorder))
        stack.enter_context(recorder)
        graphs = stack.enter_context(_compiled_graphs(recorder, functions)) if compiled else None
        yield recording
    trace = stretches.take() if stream is None else stream.finish()
    if graphs is not None and graphs.note():
        notes = (*trace.provenance.notes, graphs.note())
        trace = replace(trace, provenance=replace(trace.provenance, notes=notes))
    if profiler is not None:
        trace = profiler.attach(trace, stretches.columns.origin_s)
    if meter is not None:
        device: DeviceType = "gpu" if "cuda" in stretches.columns.devices else "cpu"
        trace = with_energy(trace, meter.readings(stretches.columns.origin_s), device)
    recording._trace = trace
    if stream is not None and stream_to is not None:
        save_trace(trace, stream_to)
        stream.remove_parts()


def _compiled_graphs(recorder: Recorder, functions: FunctionLevel) -> "CompiledGraphs":
    from profiler.capture.compiled_graphs import CompiledGraphs  # loads the compiler, which takes seconds

    return CompiledGraphs(recorder, (recorder, functions))
