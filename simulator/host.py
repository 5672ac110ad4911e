"""When the host issues the kernels of each call: nothing to wait for in a graph, else one dispatch after another.

Serving engines cut a network at attention and at layers with a state (vLLM's piecewise CUDA graphs): what lies between
two cuts is one graph that one dispatch replays, and the kernels at a cut are dispatched one by one.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from profiler.traces import Trace
from roofline.chip import Chip
from simulator.kernels.conv import is_depthwise
from simulator.kernels.scan_phases import chunked_phases
from simulator.op_columns import BoolArray, FloatArray, OpColumns, kind_code

Mode = Literal["graph", "eager", "piecewise"]
MODES: tuple[Mode, ...] = get_args(Mode)

# Host time of one eager operation where a chip gives none: PyTorch takes about 5 us on a current server CPU from Python
# through the dispatcher to the kernel launch. A stand-in of the right size, named in the notes whenever it is used.
DEFAULT_HOST_DISPATCH_S = 5e-6

# Host time of a kernel that Python compiles, tunes and launches by itself (Triton): vLLM's scan of five such kernels
# takes 0.29 ms on an H100 for 1,024 positions as for 2,048 (vllm-project/vllm pull request 27299, 128 heads), so what
# lasts is the host. A profiler shows 98 us between two of mamba_ssm's on an H200 (tile-ai/TileOPs-nightly@076dd68); a
# plain launch without tuning and new tensors takes 9 to 13 us (vllm-project/vllm pull request 34838, GB200;
# facebookexperimental/triton pull request 1231).
SCRIPTED_DISPATCH_S = 58e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class HostIssue:
    """What the host does for each call, every column [calls].

    Attributes:
        first_s: host time from the call before to the call's first kernel.
        rest_s: from there to its last one, 0 where it is one kernel.
        kernels: kernels of the call, one behind the other and alike in length.
    """

    first_s: FloatArray
    rest_s: FloatArray
    kernels: FloatArray

    @property
    def total_s(self) -> float:
        """Host time of all calls."""
        return float(self.first_s.sum() + self.rest_s.sum())


def dispatch_of(chip: Chip) -> float:
    """Host time to issue one eager operation: the chip's own figure, else the default."""
    return DEFAULT_HOST_DISPATCH_S if chip.host_dispatch_s is None else chip.host_dispatch_s


def host_issue(
    trace: Trace, ops: OpColumns, mode: Mode, dispatch_s: float, *, uncompiled: BoolArray | None = None
) -> HostIssue:
    """What the host does for the calls of a trace.

    Args:
        trace: what runs.
        ops: its ops as columns.
        mode: `graph`: all is issued from the start; `eager`: each call is dispatched; `piecewise`: each call at a cut
            is dispatched, and what lies between two of a stream in a step of a phase as one.
        dispatch_s: host time of a dispatch; without it the host is taken to be free.
        uncompiled: which calls [calls] stand at a cut too, since an engine hides them from its compiler.
    """
    of_call = trace.calls.op
    if mode == "graph" or dispatch_s <= 0:
        none = np.zeros(len(of_call))
        return HostIssue(first_s=none, rest_s=none, kernels=none + 1.0)
    kernel_s = np.where(is_scripted(ops), max(dispatch_s, SCRIPTED_DISPATCH_S), dispatch_s)[of_call]
    kernels = kernels_of(ops)[of_call]
    first_s = kernel_s
    if mode == "piecewise":
        is_cut = is_cut_at(ops)[of_call] | (False if uncompiled is None else uncompiled)
        first_s = np.where(is_cut, kernel_s, np.where(_opens_piece(trace, is_cut), dispatch_s, 0.0))
        kernels = np.where(is_cut, kernels, 1.0)
    return HostIssue(first_s=first_s, rest_s=(kernels - 1.0) * kernel_s, kernels=kernels)


def is_scripted(ops: OpColumns) -> BoolArray:
    """Ops whose kernels engines write in Triton: scans of a state and convolutions along sequences, [O]."""
    scans = (ops.kind == kind_code("scan")) & (ops.size("state") > 0)
    filters = (ops.kind == kind_code("conv")) & is_depthwise(ops)
    either: BoolArray = (scans | filters)[:, 0]
    return either


def is_cut_at(ops: OpColumns) -> BoolArray:
    """Ops at which a network is cut into pieces: attention, and those that read or write a state, [O]."""
    cut: BoolArray = (ops.kind == kind_code("attention"))[:, 0] | is_scripted(ops)
    return cut


def kernels_of(ops: OpColumns) -> FloatArray:
    """Kernels of each op, [O]: a scan in chunks has several."""
    chunked = (ops.kind == kind_code("scan")) & (ops.size("state") > 0) & (ops.size("chunk") > 0)
    phases = np.add.reduce([phase.blocks > 0 for phase in chunked_phases(ops)], dtype=np.float64)
    count: FloatArray = np.where(chunked, phases, 1.0)[:, 0]
    return count


def _opens_piece(trace: Trace, is_cut: BoolArray) -> BoolArray:
    """Whether each call is the first of a piece: behind a cut, or in another phase, step or stream, [calls]."""
    calls = trace.calls
    region = np.stack([calls.phase, calls.step, calls.stream])
    opens = np.ones(len(is_cut), dtype=np.bool_)
    opens[1:] = is_cut[:-1] | (region[:, 1:] != region[:, :-1]).any(axis=0)
    return opens & ~is_cut


def in_order(duration_s: FloatArray, issue: HostIssue) -> tuple[FloatArray, FloatArray]:
    """When each call starts and how long it lasts, one after another: solved for all calls at once.

    A call starts at the later of its first kernel's issue and the end of the call before. Its kernels are alike, so it
    ends no sooner than one of them behind the issue of its last. With S the running sum of durations, a call included,
    the recursion end[i] = max(end[i-1] + duration[i], ready[i]) is S[i] + max over j <= i of (ready[j] - S[j]).

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
