"""`diff`: two traces aligned by phase, module and op: what became slower, by how much, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from profiler.traces import FloatArray, IntArray, Trace, ops_columns
from reports.diff_samples import Alignment, align, strata_of
from reports.diff_statistics import Bootstrap, change_of
from reports.diff_verdicts import DiffRow, judge
from reports.errors import ReportError

Basis = Literal["measured", "simulated", "FLOPs", "bytes"]
_WORDS = {
    "measured": ("slower", "faster"),
    "simulated": ("slower", "faster"),
    "FLOPs": ("more", "less"),
    "bytes": ("more", "less"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Difference:
    """Two traces compared on one basis.

    Attributes:
        a: name of the first trace.
        b: name of the second.
        basis: what is compared: `measured` or `simulated` seconds, or counted `FLOPs` or `bytes`.
        by: columns that align the groups.
        threshold: relative change below which nothing counts as a change.
        least_share: groups with a smaller share of both totals are not judged.
        rows: the whole traces, their phases, then the groups, the largest difference of each level first.
        notes: what a reader must know.
    """

    a: str
    b: str
    basis: Basis
    by: tuple[str, ...]
    threshold: float
    least_share: float
    rows: tuple[DiffRow, ...]
    notes: tuple[str, ...]

    @property
    def regressions(self) -> tuple[DiffRow, ...]:
        """Rows that are surely worse in B by more than the threshold."""
        return tuple(row for row in self.rows if row.is_regression)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Sides:
    """The traces, and for each the cost of its calls and their dense FLOPs and bytes, [calls]."""

    traces: tuple[Trace, Trace]
    cost: tuple[FloatArray, FloatArray]
    flops: tuple[FloatArray, FloatArray]
    bytes: tuple[FloatArray, FloatArray]


def diff(
    a: Trace,
    b: Trace,
    *,
    basis: Basis = "measured",
    cost_a: FloatArray | None = None,
    cost_b: FloatArray | None = None,
    by: Sequence[str] = ("phase", "module", "op"),
    threshold: float = 0.05,
    least_share: float = 0.005,
    seed: int = 0,
) -> Difference:
    """Compare two traces.

    Args:
        a: before, or the one that the other is held against.
        b: after.
        basis: what is compared.
        cost_a: simulated seconds of each call of `a`, for the basis `simulated`, [calls].
        cost_b: likewise of `b`.
        by: what aligns the groups, some of phase, module, op, name and kind.
        threshold: relative change that counts.
        least_share: smallest share of either total at which a group is judged.
        seed: of the bootstrap.

    Raises:
        ReportError: an unknown column, a threshold that is no ratio, or a trace without the basis.
    """
    if not 0 <= threshold < 10 or not 0 <= least_share <= 1:
        raise ReportError(f"threshold must be in 0..10 and least share in 0..1, got {threshold} and {least_share}")
    sides = _Sides(
        traces=(a, b),
        cost=(_cost(a, basis, cost_a), _cost(b, basis, cost_b)),
        flops=(_per_call(a, "flops"), _per_call(b, "flops")),
        bytes=(_per_call(a, "bytes"), _per_call(b, "bytes")),
    )
    by = tuple(dict.fromkeys(by))
    levels: list[tuple[str, tuple[str, ...]]] = [("trace", ()), ("phase", ("phase",)), ("group", by)]
    bootstrap = Bootstrap(seed) if basis == "measured" else None
    rows: list[DiffRow] = []
    for level, columns in levels if by != ("phase",) else levels[:2]:
        rows += _rows(sides, align(a, b, columns), level, columns, bootstrap)
    worse, better = _WORDS[basis]
    exact = bootstrap is None
    return Difference(
        a=a.name,
        b=b.name,
        basis=basis,
        by=by,
        threshold=threshold,
        least_share=least_share,
        rows=judge(rows, threshold=threshold, least_share=least_share, exact=exact, worse=worse, better=better),
        notes=_notes(sides, basis),
    )


def _cost(trace: Trace, basis: Basis, simulated: FloatArray | None) -> FloatArray:
    if basis == "measured":
        cost = trace.calls.duration_s
    elif basis == "simulated":
        cost = np.full(len(trace.calls), np.nan) if simulated is None else simulated
    else:
        cost = _per_call(trace, "flops" if basis == "FLOPs" else "bytes")
    if not np.isfinite(cost).any():
        raise ReportError(f"trace {trace.name!r}: no call of it has {basis} figures, so they cannot be compared")
    return cost


def _per_call(trace: Trace, what: str) -> FloatArray:
    columns = ops_columns(trace.ops)
    names = ("flops",) if what == "flops" else ("read_bytes", "write_bytes")
    per_op = np.sum([np.asarray(columns[name], dtype=np.float64) for name in names], axis=0)
    return np.asarray(per_op)[trace.calls.op]


def _rows(
    sides: _Sides, alignment: Alignment, level: str, columns: tuple[str, ...], bootstrap: Bootstrap | None
) -> list[DiffRow]:
    """One row per group, those with the largest difference first."""
    count = len(alignment.labels)
    calls = [np.bincount(group, minlength=count).tolist() for group in alignment.group]
    totals = [_sums(*pair, count) for pair in zip(alignment.group, sides.cost, strict=True)]
    flops = [_whole_sums(*pair, count) for pair in zip(alignment.group, sides.flops, strict=True)]
    moved = [_whole_sums(*pair, count) for pair in zip(alignment.group, sides.bytes, strict=True)]
    whole = [sum(total or 0.0 for total in side) for side in totals]
    strata = [
        strata_of(*side) if bootstrap is not None else {}
        for side in zip(sides.traces, alignment.group, alignment.phase, sides.cost, strict=True)
    ]
    rows = []
    for i, label in enumerate(alignment.labels):
        total_a, total_b = totals[0][i], totals[1][i]
        rows.append(
            DiffRow(
                level=level,
                key=tuple(zip(columns, label, strict=True)),
                calls_a=calls[0][i],
                calls_b=calls[1][i],
                total_a=total_a,
                total_b=total_b,
                share_a=(total_a or 0.0) / whole[0] if whole[0] else 0.0,
                share_b=(total_b or 0.0) / whole[1] if whole[1] else 0.0,
                change=change_of(strata[0].get(i, []), strata[1].get(i, []), bootstrap) if bootstrap else None,
                flops_ratio=_ratio(flops[0][i], flops[1][i]),
                bytes_ratio=_ratio(moved[0][i], moved[1][i]),
            )
        )
    return sorted(rows, key=lambda row: -abs(row.difference))


def _sums(group: IntArray, values: FloatArray, count: int) -> list[float | None]:
    """Sums over what is known, None where a group holds nothing that is known, [groups]."""
    known = np.isfinite(values)
    sums = np.bincount(group[known], weights=values[known], minlength=count).tolist()
    counts = np.bincount(group[known], minlength=count).tolist()
    return [total if number else None for total, number in zip(sums, counts, strict=True)]


def _whole_sums(group: IntArray, values: FloatArray, count: int) -> list[float | None]:
    """Sums, None where any of a group is unknown: a part of it says nothing of a ratio, [groups]."""
    sums = np.bincount(group, weights=values, minlength=count).tolist()
    present = np.bincount(group, minlength=count).tolist()
    return [total if number and np.isfinite(total) else None for total, number in zip(sums, present, strict=True)]


def _ratio(a: float | None, b: float | None) -> float | None:
    return b / a if a and b is not None else None


def _notes(sides: _Sides, basis: Basis) -> tuple[str, ...]:
    notes = []
    devices = [trace.provenance.device or "a device without a name" for trace in sides.traces]
    if basis == "measured":
        notes.append(f"A was measured on {devices[0]}, B on {devices[1]}")
        notes.append("intervals cover what varies from step to step within a trace, not from run to run")
    for name, trace, cost in zip("AB", sides.traces, sides.cost, strict=True):
        missing = int((~np.isfinite(cost)).sum())
        if missing:
            notes.append(f"{missing} of {len(trace.calls)} calls of {name} have no {basis} figure and are left out")
    return tuple(notes)
