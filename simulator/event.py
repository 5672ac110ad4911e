"""The event engine: the same plans as the analytic engine, played by SimPy processes that contend for the chip."""

import numpy as np

from profiler.traces import Trace
from roofline.chip import Chip
from simulator.errors import SimulationError
from simulator.kernel_process import PS_PER_S, kernel_work, to_ps
from simulator.playback import Playback
from simulator.result import SimulationResult
from simulator.stream_dependencies import cross_stream_dependencies
from simulator.timeline import Mode, Setting, build_result, prepare

# Launches that CUDA keeps pending before the host blocks; not documented, seen as 1,022 to 1,024 on current drivers.
QUEUE_DEPTH = 1024


def simulate(
    trace: Trace,
    chip: Chip,
    *,
    mode: Mode = "graph",
    host_dispatch_s: float | None = None,
    queue_depth: int = QUEUE_DEPTH,
) -> SimulationResult:
    """Simulate a trace on a chip event by event.

    Streams run side by side and share cores, units, memories and link; within a stream calls keep their order. Waits
    between streams come from the tensor versions of the trace, where it has them.

    Args:
        trace: what runs.
        chip: what it runs on.
        mode: `graph` has every call ready from the start; `eager` lets the host dispatch each of them first.
        host_dispatch_s: host time per eager call; None takes the chip's figure, else a default that the notes name.
        queue_depth: calls that a stream's launch queue holds before the host waits.

    Returns:
        The result; equal for equal input.
    """
    if queue_depth < 1:
        raise SimulationError(f"queue_depth must be at least 1, got {queue_depth}")
    return play(prepare(trace, chip, mode, host_dispatch_s), cross_stream_dependencies(trace), queue_depth=queue_depth)


def play(
    setting: Setting, dependencies: dict[int, tuple[int, ...]], *, queue_depth: int = QUEUE_DEPTH
) -> SimulationResult:
    """Play plans that are made already, such as those of a unit that no kernel model knows.

    Args:
        setting: the trace, the chip and the plans of its ops.
        dependencies: calls that wait for calls on other streams, see `cross_stream_dependencies`.
        queue_depth: calls that a stream's launch queue holds before the host waits.
    """
    trace, chip = setting.trace, setting.chip
    playback = Playback(
        chip=chip,
        works=[kernel_work(setting.table.plan(op), chip) for op in range(len(trace.ops))],
        op=trace.calls.op.tolist(),
        stream=trace.calls.stream.tolist(),
        dependencies=dependencies,
        dispatch_ps=to_ps(setting.host_dispatch_s),
        queue_depth=queue_depth,
    )
    playback.run()
    start_ps = np.array(playback.start_ps, dtype=np.int64)
    end_ps = np.array(playback.end_ps, dtype=np.int64)
    notes: tuple[str, ...] = ()
    if len(np.unique(trace.calls.stream)) > 1 and not dependencies:
        notes = ("no waits between streams are recorded: streams run side by side as if independent",)
    return build_result(setting, "event", start_ps / PS_PER_S, (end_ps - start_ps) / PS_PER_S, notes)
