"""The analytic engine: every distinct op costed once in closed form, then joined to the calls."""

from collections.abc import Sequence

import numpy as np

from profiler.op import Op
from profiler.traces import Trace
from roofline.chip import Chip
from simulator.host import HostIssue, Mode
from simulator.op_columns import FloatArray
from simulator.plans import plan_ops
from simulator.result import SimulationResult
from simulator.timeline import build_result, prepare


def simulate(
    trace: Trace, chip: Chip, *, mode: Mode = "graph", host_dispatch_s: float | None = None
) -> SimulationResult:
    """Simulate a trace on a chip in closed form.

    Calls run one after another in program order, whatever their stream: overlap of streams is the event engine's part.

    Args:
        trace: what runs.
        chip: what it runs on.
        mode: `graph` issues calls back to back; `eager` lets the host dispatch each of them first; `piecewise` each
            of those at which a serving engine cuts its graphs, and what lies between as one.
        host_dispatch_s: host time per dispatch; None takes the chip's figure, else a default that the notes name.

    Returns:
        The result; equal for equal input.
    """
    setting = prepare(trace, chip, mode, host_dispatch_s)
    duration_s = setting.op_duration_s[trace.calls.op]
    start_s, took_s = in_order(duration_s, setting.issue())
    streams = len(np.unique(trace.calls.stream))
    notes = () if streams <= 1 else (f"{streams} streams are played one after another by this engine",)
    return build_result(setting, "analytic", start_s, took_s, notes)


def in_order(duration_s: FloatArray, issue: HostIssue) -> tuple[FloatArray, FloatArray]:
    """When each call starts and how long it lasts, one after another: solved for all calls at once.

    A call starts at the later of its first kernel's issue and the end of the call before. Its kernels are alike, so it
    ends no sooner than one of them behind the issue of its last. With S the running sum of durations, a call included,
    the recursion end[i] = max(end[i-1] + duration[i], ready[i]) is S[i] + max over j <= i of (ready[j] - S[j]).

    >>> from simulator.host import HostIssue
    >>> two, none, one = np.full(3, 2.0), np.zeros(3), np.ones(3)
    >>> in_order(np.array([1.0, 5.0, 1.0]), HostIssue(first_s=two, rest_s=none, kernels=one))
    (array([2., 4., 9.]), array([1., 5., 1.]))

    Args:
        duration_s: of each call alone, its kernels issued, [calls].
        issue: what the host does for each.

    Returns:
        Start and length of each call, [calls] both.
    """
    after = np.cumsum(duration_s)
    before = np.concatenate([[0.0], after[:-1]]) if len(after) else after
    issued = np.cumsum(issue.first_s + issue.rest_s)
    first = issued - issue.rest_s
    if not issue.rest_s.any():
        starts: FloatArray = before + np.maximum.accumulate(np.maximum(first - before, 0.0))
        return starts, duration_s
    ready = np.maximum(first + duration_s, issued + duration_s / issue.kernels)
    ends = after + np.maximum.accumulate(np.maximum(ready - after, 0.0))
    starts = np.maximum(first, np.concatenate([[0.0], ends[:-1]]))
    return starts, ends - starts


def sweep(ops: Sequence[Op], chips: Sequence[Chip]) -> FloatArray:
    """Time of every op alone on every chip.

    Args:
        ops: distinct ops.
        chips: chips, real or imagined.

    Returns:
        Seconds, [ops, chips].
    """
    return plan_ops(ops, chips).duration_s
