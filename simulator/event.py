"""The event engine: the same plans as the analytic engine, played by SimPy processes that contend for the chip."""

from dataclasses import replace

import numpy as np

from profiler.traces import Trace
from roofline.chip import Chip
from simulator.errors import SimulationError
from simulator.handover import Handover
from simulator.host import Mode
from simulator.kernel_process import PS_PER_S, kernel_work
from simulator.placement import repeat, spread
from simulator.playback import Playback, issue_in_ps
from simulator.policy import PLAIN, Policy
from simulator.result import SimulationResult
from simulator.stream_dependencies import cross_stream_dependencies
from simulator.timeline import Setting, build_result, prepare

# Launches that CUDA keeps pending before the host blocks; not documented, seen as 1,022 to 1,024 on current drivers.
QUEUE_DEPTH = 1024


def simulate(
    trace: Trace,
    chip: Chip,
    *,
    mode: Mode = "graph",
    host_dispatch_s: float | None = None,
    queue_depth: int = QUEUE_DEPTH,
    policy: Policy = PLAIN,
) -> SimulationResult:
    """Simulate a trace on a chip event by event.

    Streams run side by side and share cores, units, memories and link; within a stream calls keep their order. Waits
    between streams come from the tensor versions of the trace, where it has them.

    Args:
        trace: what runs.
        chip: what it runs on.
        mode: `graph` has every call ready from the start; `eager` lets the host dispatch each of them first;
            `piecewise` each of those at which a serving engine cuts its graphs, and what lies between as one.
        host_dispatch_s: host time per dispatch; None takes the chip's figure, else a default that the notes name.
        queue_depth: calls that a stream's launch queue holds before the host waits.
        policy: how kernels follow one another.

    Returns:
        The result; equal for equal input.

    Raises:
        SimulationError: the queue holds no call, or persistent kernels are asked for in another mode than graph.
    """
    if queue_depth < 1:
        raise SimulationError(f"queue_depth must be at least 1, got {queue_depth}")
    if policy.persistent and mode != "graph":
        raise SimulationError(f"persistent kernels are launched once, so mode must be graph, got {mode!r}")
    if policy.microbatches > 1:
        trace = repeat(trace, policy.microbatches)
    setting = prepare(trace, chip, mode, host_dispatch_s)
    if policy.streams > 1:
        placed, dependencies = spread(trace, policy.streams, setting.op_duration_s[trace.calls.op])
        setting = replace(setting, trace=placed)
    else:
        dependencies = cross_stream_dependencies(trace)
    if len(trace.calls):  # calls of batches alternate, so the first ones are those of the batches in turn
        dependencies |= {batch: (batch - 1,) for batch in range(1, policy.microbatches)}
    return play(setting, dependencies, queue_depth=queue_depth, policy=policy)


def play(
    setting: Setting,
    dependencies: dict[int, tuple[int, ...]],
    *,
    queue_depth: int = QUEUE_DEPTH,
    policy: Policy = PLAIN,
) -> SimulationResult:
    """Play plans that are made already, such as those of a unit that no kernel model knows.

    Args:
        setting: the trace, the chip and the plans of its ops.
        dependencies: calls that wait for calls on other streams, see `cross_stream_dependencies`.
        queue_depth: calls that a stream's launch queue holds before the host waits.
        policy: how kernels follow one another.
    """
    trace, chip = setting.trace, setting.chip
    works = [kernel_work(setting.table.plan(op), chip) for op in range(len(trace.ops))]
    main_bytes = setting.table.columns.traffic_bytes[0, :, 0].tolist()
    streams = max(1, len(np.unique(trace.calls.stream)))  # the trace's own or the policy's: they share the room
    handover = Handover(trace.ops, works, main_bytes, chip, policy, streams=streams)
    joins = _joins(trace) if policy.persistent else [False] * len(trace.calls)
    playback = Playback(
        chip=chip,
        handover=handover,
        joins=joins,
        op=trace.calls.op.tolist(),
        stream=trace.calls.stream.tolist(),
        dependencies=dependencies,
        issue=issue_in_ps(setting.issue()),
        queue_depth=queue_depth,
    )
    playback.run()
    start_ps = np.array(playback.start_ps, dtype=np.int64)
    end_ps = np.array(playback.end_ps, dtype=np.int64)
    notes = _notes(setting, policy, has_waits=bool(dependencies))
    result = build_result(setting, "event", start_ps / PS_PER_S, (end_ps - start_ps) / PS_PER_S, notes)
    launch_s = sum(handover.launch_ps(op, joins=each) for op, each in zip(trace.calls.op.tolist(), joins, strict=True))
    busy = tuple((name, launch_s / PS_PER_S if name == "launch" else seconds) for name, seconds in result.busy_s)
    result = replace(result, busy_s=busy) if policy.persistent else result
    return replace(result, notes=result.notes + _overlap_note(result))


def _overlap_note(result: SimulationResult) -> tuple[str, ...]:
    """What bounds kernels that overlap, where they took less than their bounds one after another."""
    if result.makespan_s >= result.bound_s * (1.0 - 1e-9):
        return ()
    name, least_s = max((each for each in result.busy_s if each[0] not in ("launch", "host")), key=lambda busy: busy[1])
    return (f"kernels overlap: the roofline bound of the whole is that of {name}, {1e3 * least_s:.4g} ms",)


def _joins(trace: Trace) -> list[bool]:
    """Whether each call goes on in the persistent kernel of the call before it on its stream: one a step and phase."""
    before: dict[int, tuple[int, int]] = {}
    joins = []
    for stream, *region in zip(*(getattr(trace.calls, c).tolist() for c in ("stream", "phase", "step")), strict=True):
        joins.append(before.get(stream) == tuple(region))
        before[stream] = (region[0], region[1])
    return joins


def _notes(setting: Setting, policy: Policy, *, has_waits: bool) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    memories = setting.chip.memories
    if policy.streams == 1 and len(np.unique(setting.trace.calls.stream)) > 1 and not has_waits:
        notes = ("no waits between streams are recorded: streams run side by side as if independent",)
    if policy.streams > 1:
        notes += (f"independent branches are spread over {policy.streams} streams",)
    if policy.microbatches > 1:
        notes += (f"{policy.microbatches} batches of the traced program run at once: time and energy are of all",)
    if policy.prefetch and len(memories) > 1:
        notes += (f"weights of the next kernel are loaded ahead into {memories[-2].name}, as far as there is room",)
    elif policy.prefetch:
        notes += (f"nothing is loaded ahead: chip {setting.chip.name} has main memory only",)
    if policy.persistent:
        notes += ("kernels of a step run as one: a barrier between them instead of a launch",)
    return notes
