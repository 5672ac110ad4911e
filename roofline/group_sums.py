"""`GroupSums`: costs of the distinct ops, summed over the calls of each group of a trace."""

from dataclasses import dataclass

import numpy as np

from profiler.op import KINDS
from profiler.traces import IntArray, Trace, ops_columns
from roofline.bounds import FloatArray, OpBounds


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupSums:
    """Sums per group.

    Attributes:
        trace: whose calls were summed.
        bounds: bounds of its distinct ops.
        groups: group of each call, [calls].
        calls: calls of each group, [groups].
        totals: name to sum, [groups]; what is unknown adds nothing, and `calls_with` says of how many calls.
        calls_with: number of calls for which something holds, [groups]: `flops`, `some_bytes`, `bounded`, `measured`,
            `compared` (both bounded and measured), `unknown`.
        seconds: time on each resource, [groups, R].
        level_bytes: bytes across each memory, [groups, R - 2].
        bound_shares: the part of the bound that each resource sets, [groups, R].
        extremes: column of the calls to its least and greatest value in each group, [groups] each.
    """

    trace: Trace
    bounds: OpBounds
    groups: IntArray
    calls: IntArray
    totals: dict[str, FloatArray]
    calls_with: dict[str, FloatArray]
    seconds: FloatArray
    level_bytes: FloatArray
    bound_shares: FloatArray
    extremes: dict[str, tuple[IntArray, IntArray]]

    def uniform(self, column: str, group: int) -> int | None:
        """The value that all calls of a group share in a column, None where they differ."""
        least, greatest = self.extremes[column]
        return int(least[group]) if least[group] == greatest[group] else None


def sum_groups(trace: Trace, groups: IntArray, count: int, bounds: OpBounds) -> GroupSums:
    """Join the costs of the distinct ops to the calls, and sum them by group.

    Args:
        trace: what ran.
        groups: group of each call, [calls], 0 <= group < count.
        count: number of groups.
        bounds: of the trace's distinct ops.
    """
    op = trace.calls.op
    pairs, pair_calls = np.unique(groups * max(1, len(trace.ops)) + op, return_counts=True)
    pair_group, pair_op = np.divmod(pairs, max(1, len(trace.ops)))

    def total(per_op: FloatArray) -> FloatArray:
        weights = per_op[pair_op] * pair_calls
        return np.asarray(np.bincount(pair_group, weights=weights, minlength=count), dtype=np.float64)

    kinds = np.array([KINDS.index(each.kind) for each in trace.ops], dtype=np.int64)
    totals = {name: total(values) for name, values in _op_quantities(trace, bounds).items()}
    calls_with = {
        "flops": total(bounds.flops_known.astype(np.float64)),
        "some_bytes": total((bounds.bytes_known | (bounds.moved_bytes > 0)).astype(np.float64)),
        "bounded": total(np.isfinite(bounds.bound_s).astype(np.float64)),
        "unknown": total(bounds.has_unknown.astype(np.float64)),
    }
    measured_totals, calls_measured = _measured_sums(trace, groups, count, bounds)
    return GroupSums(
        trace=trace,
        bounds=bounds,
        groups=groups,
        calls=np.bincount(groups, minlength=count).astype(np.int64),
        totals=totals | measured_totals,
        calls_with=calls_with | calls_measured,
        seconds=np.column_stack([total(column) for column in bounds.seconds.T]),
        level_bytes=np.column_stack([total(column) for column in bounds.level_bytes.T]),
        bound_shares=np.column_stack(
            [total(np.where(bounds.bound_by == i, bounds.bound_s, 0.0)) for i in range(len(bounds.resources))]
        ),
        extremes={
            "phase": _extremes(trace.calls.phase, groups, count),
            "step": _extremes(trace.calls.step, groups, count),
            "kind": _extremes(kinds[pair_op], pair_group, count),
        },
    )


def _op_quantities(trace: Trace, bounds: OpBounds) -> dict[str, FloatArray]:
    """Quantities of each distinct op, [ops], with 0 in place of what is unknown."""
    columns = {
        name: np.nan_to_num(column) for name, column in ops_columns(trace.ops).items() if isinstance(column, np.ndarray)
    }
    counted = bounds.flops_known & bounds.bytes_known
    return columns | {
        "bytes": bounds.moved_bytes,
        "bound_s": np.nan_to_num(bounds.bound_s),
        "compute_s": bounds.compute_s,
        "counted_flops": np.where(counted, columns["required_flops"], 0.0),
        "counted_bytes": np.where(counted, bounds.moved_bytes, 0.0),
    }


def _measured_sums(
    trace: Trace, groups: IntArray, count: int, bounds: OpBounds
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Measured times, with both sums of the calls that also have a bound, so that they can be compared.

    Returns:
        Totals and numbers of calls, named as in `GroupSums`.
    """
    totals: dict[str, FloatArray] = {}
    calls_with: dict[str, FloatArray] = {}
    duration_s = trace.calls.duration_s
    bound_s = bounds.bound_s[trace.calls.op]
    measured = np.isfinite(duration_s)
    compared = measured & np.isfinite(bound_s)
    for name, values, mask in (
        ("measured_s", duration_s, measured),
        ("compared_s", duration_s, compared),
        ("compared_bound_s", bound_s, compared),
    ):
        sums = np.bincount(groups[mask], weights=values[mask], minlength=count)
        totals[name] = np.asarray(sums, dtype=np.float64)
    for name, mask in (("measured", measured), ("compared", compared)):
        calls_with[name] = np.bincount(groups[mask], minlength=count).astype(np.float64)
    return totals, calls_with


def _extremes(values: IntArray, groups: IntArray, count: int) -> tuple[IntArray, IntArray]:
    """Least and greatest value in each group, [groups]; of an empty group they are meaningless."""
    least = np.full(count, np.iinfo(np.int64).max)
    greatest = np.full(count, np.iinfo(np.int64).min)
    np.minimum.at(least, groups, values)
    np.maximum.at(greatest, groups, values)
    return least, greatest
