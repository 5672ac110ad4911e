"""The analytic engine: every distinct op costed once in closed form, then joined to the calls."""

from collections.abc import Sequence

import numpy as np

from profiler.op import Op
from profiler.traces import Trace
from roofline.chip import Chip
from simulator.host import Mode, in_order
from simulator.op_columns import FloatArray
from simulator.plans import plan_ops
from simulator.result import SimulationResult
from simulator.timeline import build_result, prepare


def simulate(
    trace: Trace,
    chip: Chip,
    *,
    mode: Mode = "graph",
    host_dispatch_s: float | None = None,
    clock_ratio: float | None = None,
) -> SimulationResult:
    """Simulate a trace on a chip in closed form.

    Calls run one after another in program order, whatever their stream: overlap of streams is the event engine's part.

    Args:
        trace: what runs.
        chip: what it runs on.
        mode: `graph` issues calls back to back; `eager` lets the host dispatch each of them first; `piecewise` each
            of those at which a serving engine cuts its graphs, and what lies between as one.
        host_dispatch_s: host time per dispatch; None takes the chip's figure, else a default that the notes name.
        clock_ratio: part of the full clock that the cores are locked to, whatever they draw; None: the highest that
            keeps the power limit.

    Returns:
        The result; equal for equal input.
    """
    setting = prepare(trace, chip, mode, host_dispatch_s, clock_ratio)
    duration_s = setting.op_duration_s[trace.calls.op]
    start_s, took_s = in_order(duration_s, setting.issue())
    streams = len(np.unique(trace.calls.stream))
    notes = () if streams <= 1 else (f"{streams} streams are played one after another by this engine",)
    return build_result(setting, "analytic", start_s, took_s, notes)


def sweep(ops: Sequence[Op], chips: Sequence[Chip]) -> FloatArray:
    """Time of every op alone on every chip.

    Args:
        ops: distinct ops.
        chips: chips, real or imagined.

    Returns:
        Seconds, [ops, chips].
    """
    return plan_ops(ops, chips).duration_s
