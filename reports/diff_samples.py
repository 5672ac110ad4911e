"""The calls of two traces in the same groups, and each group's cost by sample: a sample is a step or a repeat."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profiler.traces import FloatArray, IntArray, Trace
from reports.errors import ReportError
from roofline.points import op_label

COLUMNS = ("phase", "module", "op", "name", "kind")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Alignment:
    """Two traces' calls in common groups.

    Attributes:
        labels: of each group, one text per column, [groups][columns].
        group: by side, group of each call, [calls] each.
        phase: by side, phase of each call in a numbering that both share, [calls] each.
    """

    labels: tuple[tuple[str, ...], ...]
    group: tuple[IntArray, IntArray]
    phase: tuple[IntArray, IntArray]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stratum:
    """Samples of one group in one phase of one trace.

    Attributes:
        phase: number of the phase.
        keys: step numbers, or the calls' positions where they are the samples, ascending, [samples].
        values: cost of each, [samples].
        by_step: whether samples are steps.
    """

    phase: int
    keys: IntArray
    values: FloatArray
    by_step: bool

    @property
    def typical(self) -> float:
        """Number of samples times their median: the total, were no sample an outlier."""
        return len(self.values) * float(np.median(self.values))


def align(a: Trace, b: Trace, by: Sequence[str]) -> Alignment:
    """Give the calls of two traces group numbers by the values of some columns.

    Args:
        a: one trace.
        b: the other.
        by: some of `COLUMNS`; none puts all calls into one group.

    Raises:
        ReportError: calls cannot be grouped by one of the columns.
    """
    for column in by:
        if column not in COLUMNS:
            raise ReportError(f"--by must be some of {', '.join(COLUMNS)}, got {column!r}")
    sizes = (len(a.calls), len(b.calls))
    packed = np.zeros(sum(sizes), dtype=np.int64)
    tables: list[list[str]] = []
    for column in by:
        codes, table = _shared_codes(a, b, column)
        packed = packed * len(table) + codes
        tables.append(table)
    distinct, group = np.unique(packed, return_inverse=True)
    labels = tuple(_unpacked(key, tables) for key in distinct.tolist())
    phase, _ = _shared_codes(a, b, "phase")
    group = group.astype(np.int64)
    return Alignment(
        labels=labels,
        group=(group[: sizes[0]], group[sizes[0] :]),
        phase=(phase[: sizes[0]], phase[sizes[0] :]),
    )


def _unpacked(key: int, tables: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The texts behind a number that holds one code per table."""
    texts = []
    for table in reversed(tables):
        key, code = divmod(key, len(table))
        texts.append(table[code])
    return tuple(reversed(texts))


def _shared_codes(a: Trace, b: Trace, column: str) -> tuple[IntArray, list[str]]:
    """A code of each call, first those of `a`, and the text of each code."""
    table: dict[str, int] = {}
    parts = []
    for trace in (a, b):
        if column in ("phase", "module"):
            names: Sequence[str] = trace.phases if column == "phase" else trace.modules
            index = trace.calls.phase if column == "phase" else trace.calls.module
        else:
            names = [op_label(op) if column == "op" else getattr(op, column) for op in trace.ops]
            index = trace.calls.op
        codes = np.array([table.setdefault(name, len(table)) for name in names], dtype=np.int64)
        parts.append(codes[index])
    return np.concatenate(parts), list(table)


def strata_of(trace: Trace, group: IntArray, phase: IntArray, cost: FloatArray) -> dict[int, list[Stratum]]:
    """Every group's samples in each phase.

    Where a group has numbered steps in a phase, the sum over a step is a sample; else each call is one where all are of
    one op; else the sum of all calls is the only sample.

    Args:
        trace: whose calls these are.
        group: of each call, [calls].
        phase: of each call, in the shared numbering, [calls].
        cost: of each call, NaN where unknown, [calls].
    """
    known = np.flatnonzero(np.isfinite(cost))
    if not len(known):
        return {}
    phases = int(phase.max(initial=0)) + 1
    pairs, stratum = np.unique(group[known] * phases + phase[known], return_inverse=True)
    step, op = trace.calls.step[known], trace.calls.op[known]
    latest = np.full(len(pairs), -1, dtype=np.int64)
    np.maximum.at(latest, stratum, step)
    least_op = np.full(len(pairs), len(trace.ops), dtype=np.int64)
    greatest_op = np.full(len(pairs), -1, dtype=np.int64)
    np.minimum.at(least_op, stratum, op)
    np.maximum.at(greatest_op, stratum, op)
    by_step = latest >= 0
    is_repeat = ~by_step & (least_op == greatest_op)
    key = np.where(by_step[stratum], step, np.where(is_repeat[stratum], np.arange(len(known)), 0))
    stride = int(key.max()) + 1
    samples, which = np.unique(stratum * stride + np.maximum(key, 0), return_inverse=True)
    of_stratum, keys = np.divmod(samples, stride)
    values = np.asarray(np.bincount(which, weights=cost[known]), dtype=np.float64)
    bounds = np.searchsorted(of_stratum, np.arange(len(pairs) + 1))
    found: dict[int, list[Stratum]] = {}
    for i, pair in enumerate(pairs.tolist()):
        rows = slice(int(bounds[i]), int(bounds[i + 1]))
        found.setdefault(pair // phases, []).append(
            Stratum(phase=pair % phases, keys=keys[rows], values=values[rows], by_step=bool(by_step[i]))
        )
    return found
