"""Puts what hardware counters saw in one run onto the kernels of another run of the program, whose ops are known."""

from collections import defaultdict
from dataclasses import fields, replace

import numpy as np

from profiler.errors import TraceError
from profiler.traces import COUNTERS, KERNEL_CATEGORIES, IntArray, Kernels, Trace

_COPIES = [KERNEL_CATEGORIES.index("memcpy"), KERNEL_CATEGORIES.index("memset")]
_OPEN, _CLOSED = "<([{", ">)]}"
_SHOWN_NAMES = 3


def join_counters(trace: Trace, counted: Trace) -> Trace:
    """A trace with the counters of another, kernel by kernel; times and everything else stay its own.

    Profilers print the same kernel differently, so kernels are compared by their bare function names: the n-th kernel
    of a name is the n-th of that name in the other trace, provided that both have equally many.

    Args:
        trace: of a run with kernels, such as an imported PyTorch profile.
        counted: of a run of the same program under Nsight Compute or rocprof.

    Raises:
        TraceError: where either has no kernels, `counted` no counters, or no kernel is found in both.
    """
    if not counted.is_counted:
        raise TraceError(f"trace {counted.name!r}: holds no hardware counters to join")
    if not len(trace.kernels):
        raise TraceError(f"trace {trace.name!r}: holds no kernels, so nothing tells what the counters belong to")
    ours, theirs = _by_name(trace), _by_name(counted)
    pairs = [(ours[name], theirs[name]) for name in ours if len(ours[name]) == len(theirs.get(name, ()))]
    if not pairs:
        raise TraceError(
            f"trace {trace.name!r} and {counted.name!r} share no kernel that both launched equally often; "
            "are they runs of the same program?"
        )
    to = np.concatenate([np.array(own, dtype=np.int64) for own, _ in pairs])
    origin = np.concatenate([np.array(other, dtype=np.int64) for _, other in pairs])
    columns = {column.name: getattr(trace.kernels, column.name) for column in fields(Kernels)}
    for counter in COUNTERS:
        values = columns[counter].copy()
        values[to] = getattr(counted.kernels, counter)[origin]
        columns[counter] = values
    note = _note(trace, counted, ours, to)
    provenance = replace(trace.provenance, notes=(*trace.provenance.notes, *counted.provenance.notes, note))
    return replace(trace, kernels=Kernels(**columns), provenance=provenance)


def bare_name(name: str) -> str:
    """A kernel's function name without return type, namespaces, template arguments and parameters.

    >>> bare_name("void at::native::(anonymous namespace)::copy_kernel<4, at::Half>(int, char*)")
    'copy_kernel'
    >>> bare_name("void at::native::<unnamed>::copy_kernel<(int)4, c10::Half>(int, char *)")
    'copy_kernel'
    """
    kept: list[str] = []
    depth = 0
    for character in name:
        if character in _OPEN:
            depth += 1
        elif character in _CLOSED:
            depth = max(0, depth - 1)
        elif not depth:
            kept.append(character)
    words = "".join(kept).split()
    return words[-1].rpartition("::")[2] or name if words else name


def _by_name(trace: Trace) -> dict[str, list[int]]:
    """Indices of the kernels of each bare name, in order of their starts where those are known."""
    bare = [bare_name(name) for name in trace.kernel_names]
    found: dict[str, list[int]] = defaultdict(list)
    for index in _order(trace.kernels):
        if trace.kernels.category[index] not in _COPIES:
            found[bare[trace.kernels.name[index]]].append(int(index))
    return found


def _order(kernels: Kernels) -> IntArray:
    return np.argsort(np.nan_to_num(kernels.start_s), kind="stable")


def _note(trace: Trace, counted: Trace, ours: dict[str, list[int]], to: IntArray) -> str:
    joined = set(to.tolist())
    missing = [name for name, indices in ours.items() if not joined.issuperset(indices)]
    total = sum(map(len, ours.values()))
    text = (
        f"Hardware counters of {len(to)} of {total} kernels come from another run, {counted.name!r}, by name and order."
    )
    if missing:
        named = ", ".join(name[:40] for name in missing[:_SHOWN_NAMES])
        text += f" Of {len(missing)} names the two runs launched different numbers of kernels ({named}...)."
    return text
