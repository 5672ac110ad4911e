"""Summary of a trace: totals by kind, by phase and by role, and what nobody knows."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from profiler.op import MATRIX_KINDS
from profiler.traces import Trace
from workloads.roles import ROLES

_SUMMED = ("flops", "matrix_flops", "vector_flops", "required_flops", "read_bytes", "write_bytes", "duration_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    """Totals of a trace; sums run over what is known, and what is not is named in `unknown_ops`.

    Attributes:
        name: of the trace.
        view: `eager` or `fused`.
        device: that the program ran on.
        calls: number of calls.
        distinct_ops: number of distinct ops.
        steps: number of (phase, step) pairs.
        flops: dense FLOPs.
        matmul_flops: FLOPs of matrix products, attention and convolutions, dense.
        read_bytes: bytes read.
        write_bytes: bytes written.
        intensity: required FLOPs per byte moved, None where nothing moves.
        measured_s: busy time of the measured calls, None where none was measured.
        role_bytes: (role, bytes read and written).
        weights_read_bytes: weight bytes read.
        unknown_ops: (name, calls) of ops whose FLOPs or bytes nobody knows.
    """

    name: str
    view: str
    device: str
    calls: int
    distinct_ops: int
    steps: int
    flops: float
    matmul_flops: float
    read_bytes: float
    write_bytes: float
    intensity: float | None
    measured_s: float | None
    role_bytes: tuple[tuple[str, float], ...]
    weights_read_bytes: float
    unknown_ops: tuple[tuple[str, int], ...]

    @property
    def moved_bytes(self) -> float:
        """Bytes read and written."""
        return self.read_bytes + self.write_bytes


def summarize(trace: Trace) -> TraceSummary:
    """Totals of a trace."""
    totals = totals_by(trace, "kind")
    moved = float((totals["read_bytes"] + totals["write_bytes"]).sum())
    frame = trace.to_frame()
    unknown = {id(op) for op in trace.unknown_ops}
    counts: dict[str, int] = {}
    for op, count in zip(trace.ops, trace.call_counts, strict=True):
        if id(op) in unknown:
            counts[op.name] = counts.get(op.name, 0) + int(count)
    return TraceSummary(
        name=trace.name,
        view=trace.view,
        device=trace.provenance.device,
        calls=len(trace.calls),
        distinct_ops=len(trace.ops),
        steps=len({*zip(trace.calls.phase.tolist(), trace.calls.step.tolist(), strict=True)}),
        flops=float(totals["flops"].sum()),
        matmul_flops=float(totals.loc[totals.index.isin(MATRIX_KINDS), "matrix_flops"].sum()),
        read_bytes=float(totals["read_bytes"].sum()),
        write_bytes=float(totals["write_bytes"].sum()),
        intensity=float(totals["required_flops"].sum()) / moved if moved else None,
        measured_s=float(np.nansum(trace.calls.duration_s)) if trace.is_measured else None,
        role_bytes=tuple(
            (role, float(frame[f"read_{role}_bytes"].sum() + frame[f"write_{role}_bytes"].sum())) for role in ROLES
        ),
        weights_read_bytes=float(frame["read_weights_bytes"].sum()),
        unknown_ops=tuple(counts.items()),
    )


def totals_by(trace: Trace, *columns: str) -> pd.DataFrame:
    """Calls and summed FLOPs, bytes and measured time for each value of `kind`, `phase`, `step`, `name` or `module`.

    Unknown figures are left out of the sums, and a sum of nothing but unknown figures is NaN; `unknown_calls` counts
    the calls that have one.
    """
    frame = trace.to_frame()
    frame["unknown_calls"] = frame[["flops", "read_bytes", "write_bytes"]].isna().any(axis=1)
    grouped = frame.groupby(list(columns), observed=True, sort=False)
    totals = grouped[list(_SUMMED)].sum(min_count=1)
    totals["unknown_calls"] = grouped["unknown_calls"].sum()
    totals.insert(0, "calls", grouped.size())
    return totals
