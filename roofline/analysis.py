"""Hierarchical roofline analysis of a trace: per op, kind, phase, step, module, layer, or as a whole."""

import re
from typing import Literal, get_args

import numpy as np
import pandas as pd

from profiler.op import KINDS
from profiler.traces import IntArray, Trace
from roofline.bounds import Caches, op_bounds
from roofline.chip import Chip
from roofline.errors import ChipError
from roofline.group_sums import GroupSums, sum_groups
from roofline.points import RooflinePoint, op_label, points_frame
from workloads.roles import ROLES

By = Literal["op", "kind", "phase", "step", "module", "layer", "trace"]
GROUPINGS: tuple[By, ...] = get_args(By)
_NUMBER = re.compile(r"(?<=[._/\[])\d+(?=$|[._/\]])")  # of a layer: `blocks.3.up`, `DecoderLayer_3/Attention_3`

_SHOWN_UNKNOWN = 8


def analyze(trace: Trace, chip: Chip, *, by: By = "kind", caches: Caches = "cold") -> tuple[RooflinePoint, ...]:
    """Place a trace under the roofline of a chip.

    The bound of a group is the *sum* of its calls' bounds, for they run one after another; its intensity is the
    ratio of *total* FLOPs to *total* bytes. So a group may be bound by memory although its intensity lies right of
    the ridge point: what counts is where its calls spend their least time.

    Args:
        trace: what ran.
        chip: the device that it is held against; measured times belong to the device that it ran on.
        by: `op` (each distinct op), `kind`, `phase`, `step` (each step of each phase), `module`, `layer` (modules whose
            paths differ in numbers alone, as one) or `trace`.
        caches: as in `op_bounds`.

    Returns:
        One point per group in order of first appearance among the ops, phases, steps or modules of the trace;
        groups without calls are left out.
    """
    groups, labels = _groups(trace, by)
    sums = sum_groups(trace, groups, len(labels), op_bounds(trace.ops, chip, caches=caches))
    return tuple(_point(sums, index, label) for index, label in enumerate(labels) if sums.calls[index])


def analyze_frame(trace: Trace, chip: Chip, *, by: By = "kind", caches: Caches = "cold") -> pd.DataFrame:
    """`analyze` as a frame, with the columns of `points_frame`."""
    return points_frame(analyze(trace, chip, by=by, caches=caches))


def _groups(trace: Trace, by: str) -> tuple[IntArray, list[str]]:
    """Group index of each call, and the labels of the groups."""
    calls = trace.calls
    if by == "op":
        return calls.op, [op_label(op) for op in trace.ops]
    if by == "kind":
        kind_of_op = np.array([KINDS.index(op.kind) for op in trace.ops], dtype=np.int64)
        return kind_of_op[calls.op], list(KINDS)
    if by == "phase":
        return calls.phase, list(trace.phases)
    if by in ("module", "layer"):
        return _modules(trace, is_numbered=by == "module")
    if by == "trace":
        return np.zeros(len(calls), dtype=np.int64), [trace.name]
    if by == "step":
        steps = int(calls.step.max(initial=-1)) + 2
        keys, groups = np.unique(calls.phase * steps + calls.step + 1, return_inverse=True)
        pairs = [(trace.phases[key // steps], key % steps - 1) for key in keys]
        return groups.astype(np.int64), [phase if step < 0 else f"{phase}[{step}]" for phase, step in pairs]
    raise ChipError(f"by must be one of {', '.join(GROUPINGS)}, got {by!r}")


def _modules(trace: Trace, *, is_numbered: bool) -> tuple[IntArray, list[str]]:
    """Modules, or layers: those whose paths are the same without numbers."""
    paths = [path if is_numbered else _NUMBER.sub("*", path) for path in trace.modules]
    index = {label: place for place, label in enumerate(dict.fromkeys(paths))}
    return np.array([index[path] for path in paths], dtype=np.int64)[trace.calls.module], list(index)


def _point(sums: GroupSums, group: int, label: str) -> RooflinePoint:
    """One group's point; a sum over no known call is None."""

    def total(name: str, *, of: str) -> float | None:
        return float(sums.totals[name][group]) if sums.calls_with[of][group] else None

    trace, levels = sums.trace, sums.bounds.resources[2:]
    compared = bool(sums.calls_with["compared"][group])
    compared_bound_s, compared_s = sums.totals["compared_bound_s"][group], sums.totals["compared_s"][group]
    counted_bytes = sums.totals["counted_bytes"][group]
    step = sums.uniform("step", group)
    phase, kind = sums.uniform("phase", group), sums.uniform("kind", group)
    return RooflinePoint(
        label=label,
        phase=trace.phases[phase] if phase is not None else "",
        step=None if step == -1 else step,
        kind=KINDS[kind] if kind is not None else "",
        calls=int(sums.calls[group]),
        flops=total("flops", of="flops"),
        required_flops=total("required_flops", of="flops"),
        bytes=total("bytes", of="some_bytes"),
        level_bytes=tuple((name, float(sums.level_bytes[group, i])) for i, name in enumerate(levels)),
        read_bytes=tuple((role, float(sums.totals[f"read_{role}_bytes"][group])) for role in ROLES),
        write_bytes=tuple((role, float(sums.totals[f"write_{role}_bytes"][group])) for role in ROLES),
        intensity=float(sums.totals["counted_flops"][group] / counted_bytes) if counted_bytes else None,
        bound_s=total("bound_s", of="bounded"),
        bound_by=_bound_by(sums, group),
        compute_s=float(sums.totals["compute_s"][group]),
        memory_s=tuple((name, float(sums.seconds[group, i + 2])) for i, name in enumerate(levels)),
        measured_s=total("measured_s", of="measured"),
        measured_calls=int(sums.calls_with["measured"][group]),
        efficiency=float(compared_bound_s / compared_s) if compared and compared_s > 0 else None,
        gap_s=float(compared_s - compared_bound_s) if compared else None,
        unknown_calls=int(sums.calls_with["unknown"][group]),
        unbounded_calls=int(sums.calls[group] - sums.calls_with["bounded"][group]),
        unknown_names=_unknown_names(sums, group),
    )


def _bound_by(sums: GroupSums, group: int) -> str:
    if not sums.calls_with["bounded"][group]:
        return "unknown"
    shares = sums.bound_shares[group]
    return sums.bounds.resources[int(shares.argmax())] if shares.max() > 0 else "none"


def _unknown_names(sums: GroupSums, group: int) -> tuple[str, ...]:
    if not sums.calls_with["unknown"][group]:
        return ()
    in_group = np.unique(sums.trace.calls.op[sums.groups == group])
    names = [sums.trace.ops[i].name for i in in_group if sums.bounds.has_unknown[i]]
    return tuple(dict.fromkeys(names))[:_SHOWN_UNKNOWN]
