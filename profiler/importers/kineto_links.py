"""Attaches each kernel to the CPU op that launched it, and chooses the op that its cost belongs to."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from profiler.costs.attention import attention_op
from profiler.costs.call import base_name
from profiler.costs.rules import RULES, has_rule, is_free
from profiler.importers.kineto_file import DeviceSpan, HostSpan, KinetoFile
from profiler.importers.kineto_nesting import NONE, Nesting

COMMUNICATION_OP = "record_param_comms"
_COLLECTIVE_KERNEL = re.compile(r"nccl(Dev)?Kernel|rccl|msccl|cross_device_reduce", re.IGNORECASE)
# The host's and the device tracer's clocks are aligned to a few microseconds, no better.
_CLOCK_SKEW_PS = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Where a kernel came from.

    Attributes:
        anchor: index of the CPU op that the kernel's cost belongs to, `NONE` where no op launched it.
        launch: index of the launch event, `NONE` where the file does not hold it.
        attribution: one of `profiler.traces.ATTRIBUTIONS`.
    """

    anchor: int = NONE
    launch: int = NONE
    attribution: str = "unexplained"


def is_collective_kernel(name: str) -> bool:
    """Whether a kernel of this name talks to other devices.

    >>> is_collective_kernel("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgs)")
    True
    """
    return _COLLECTIVE_KERNEL.search(name) is not None


def is_graph_launch(launch: HostSpan) -> bool:
    """Whether a launch replayed a captured graph, whose kernels belong to no op of the moment."""
    return "graphlaunch" in launch.name.lower()


def link_kernels(file: KinetoFile, ops: Nesting) -> list[Link]:
    """One `Link` per kernel of the file, in order."""
    launches = _index_launches(file.launches)
    by_external_id = {op.external_id: index for index, op in reversed(list(enumerate(file.ops)))}
    # Some versions number launches, not ops, in `External id`; the same number then names an unrelated op.
    trusted = any(k.external_id is not None and k.external_id != k.correlation for k in file.kernels)
    counted = _launches_of_ranges(file)
    links = []
    for index, kernel in enumerate(file.kernels):
        if kernel.is_range:
            links.append(_link_range(file, ops, counted.get(index, NONE)))
            continue
        launch = launches.get(kernel.correlation, NONE) if kernel.correlation is not None else NONE
        if launch != NONE and is_graph_launch(file.launches[launch]):
            links.append(Link(launch=launch))
            continue
        named = by_external_id.get(kernel.external_id, NONE) if trusted and kernel.external_id is not None else NONE
        innermost, attribution = _find_op(file, ops, kernel, launch, named)
        if innermost == NONE:
            links.append(Link(launch=launch))
        else:
            links.append(Link(anchor=choose_anchor(ops, innermost), launch=launch, attribution=attribution))
    return links


def _launches_of_ranges(file: KinetoFile) -> dict[int, int]:
    """Launch of each range that CUPTI counted: in order, where there are as many launches as ranges."""
    ranges = [index for index, kernel in enumerate(file.kernels) if kernel.is_range]
    launches = [index for index, launch in enumerate(file.launches) if "launchkernel" in launch.name.lower()]
    launches.sort(key=lambda index: file.launches[index].start_ps)
    return dict(zip(ranges, launches, strict=True)) if len(ranges) == len(launches) else {}


def _link_range(file: KinetoFile, ops: Nesting, launch: int) -> Link:
    if launch == NONE:
        return Link()
    event = file.launches[launch]
    enclosing = ops.innermost(event.thread, event.start_ps)
    if enclosing == NONE:
        return Link(launch=launch)
    return Link(anchor=choose_anchor(ops, enclosing), launch=launch, attribution="time")


def _index_launches(launches: Sequence[HostSpan]) -> dict[int, int]:
    """Launch events by correlation id; one that launches or copies wins over a query with the same id."""
    found: dict[int, int] = {}
    for index, launch in enumerate(launches):
        if launch.correlation is None:
            continue
        name = launch.name.lower()
        if launch.correlation not in found or "launch" in name or "mem" in name:
            found[launch.correlation] = index
    return found


def _find_op(file: KinetoFile, ops: Nesting, kernel: DeviceSpan, launch: int, named: int) -> tuple[int, str]:
    """The innermost op behind a kernel and how it was found: by its own id, its launch's id, or the launch's time."""
    if launch == NONE:
        if named != NONE and file.ops[named].start_ps <= kernel.start_ps + _CLOCK_SKEW_PS:
            return named, "external_id"
        return NONE, "unexplained"
    event = file.launches[launch]
    if named != NONE and _encloses(file.ops[named], event):
        return named, "external_id"
    enclosing = ops.innermost(event.thread, event.start_ps)
    return enclosing, "correlation" if enclosing != NONE else "unexplained"


def _encloses(op: HostSpan, launch: HostSpan) -> bool:
    inside = op.start_ps - _CLOCK_SKEW_PS <= launch.start_ps <= op.end_ps + _CLOCK_SKEW_PS
    return inside and op.thread == launch.thread


def choose_anchor(ops: Nesting, innermost: int) -> int:
    """The op that a kernel's cost belongs to, among the op that launched it and those around it.

    The outermost attention op where there is one (its parts are one operation); else the communication record;
    else the nearest op with a cost rule; else the nearest that does any work; else the op itself.
    """
    chain = list(ops.chain(innermost))
    names = [ops.spans[index].name for index in chain]
    for index, name in zip(reversed(chain), reversed(names), strict=True):
        if RULES.get(base_name(name)) is attention_op:
            return index
    for index, name in zip(chain, names, strict=True):
        if name == COMMUNICATION_OP or (has_rule(name) and not is_free(name)):
            return index
    return next((index for index, name in zip(chain, names, strict=True) if not is_free(name)), innermost)
