"""The analytic engine: every distinct op costed once in closed form, then joined to the calls."""

from collections.abc import Sequence

import numpy as np

from profiler.op import Op
from profiler.traces import Trace
from roofline.chip import Chip
from simulator.op_columns import FloatArray
from simulator.plans import plan_ops
from simulator.result import SimulationResult
from simulator.timeline import Mode, build_result, prepare


def simulate(
    trace: Trace, chip: Chip, *, mode: Mode = "graph", host_dispatch_s: float | None = None
) -> SimulationResult:
    """Simulate a trace on a chip in closed form.

    Calls run one after another in program order, whatever their stream: overlap of streams is the event engine's part.

    Args:
        trace: what runs.
        chip: what it runs on.
        mode: `graph` issues calls back to back; `eager` lets the host dispatch each of them first.
        host_dispatch_s: host time per eager call; None takes the chip's figure, else a default that the notes name.

    Returns:
        The result; equal for equal input.
    """
    setting = prepare(trace, chip, mode, host_dispatch_s)
    duration_s = setting.op_duration_s[trace.calls.op]
    start_s = start_times_s(duration_s, setting.host_dispatch_s)
    streams = len(np.unique(trace.calls.stream))
    notes = () if streams <= 1 else (f"{streams} streams are played one after another by this engine",)
    return build_result(setting, "analytic", start_s, duration_s, notes)


def start_times_s(duration_s: FloatArray, host_dispatch_s: float) -> FloatArray:
    """When each call starts: `max(device free, host issued)`, solved for all calls at once.

    Call i is issued at (i + 1) * dispatch. With S the running sum of durations before a call, the recursion
    start[i] = max(start[i-1] + duration[i-1], issued[i]) is S[i] + max over j <= i of (issued[j] - S[j]).

    >>> start_times_s(np.array([1.0, 5.0, 1.0]), host_dispatch_s=2.0)
    array([2., 4., 9.])
    """
    before = np.concatenate([[0.0], np.cumsum(duration_s)[:-1]]) if len(duration_s) else np.empty(0)
    if host_dispatch_s <= 0:
        return before
    issued = host_dispatch_s * np.arange(1, len(duration_s) + 1)
    starts: FloatArray = before + np.maximum.accumulate(issued - before)
    return starts


def sweep(ops: Sequence[Op], chips: Sequence[Chip]) -> FloatArray:
    """Time of every op alone on every chip.

    Args:
        ops: distinct ops.
        chips: chips, real or imagined.

    Returns:
        Seconds, [ops, chips].
    """
    return plan_ops(ops, chips).duration_s
