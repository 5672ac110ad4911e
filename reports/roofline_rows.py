"""Rows of the roofline charts: points (bound, simulated, measured) and ceilings."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from profiler.op import MATRIX_KINDS
from profiler.traces import FloatArray, IntArray
from reports.frames import columns_of, frame_of, ratio
from reports.subject import Subject
from reports.summary_rows import NO_PHASE
from roofline.analysis import By, analyze
from roofline.ceilings import Ceiling, ceilings
from roofline.points import RooflinePoint

# Ops of one subject that are drawn, the longest; three bases make three rows of each.
MAX_OPS = 250
GROUPINGS: tuple[By, ...] = ("phase", "kind", "op")
BASES = ("bound", "simulated", "measured")

_POINTS = columns_of(
    text="subject paradigm chip grouping label kind phase basis bound_by undrawn",
    number="group calls intensity flops bytes duration_s flops_per_s share efficiency",
)
_CEILINGS = columns_of(text="subject chip label resource dtype", number="flops_per_s bytes_per_s")


def points_frame(subjects: Sequence[Subject]) -> pd.DataFrame:
    """One row per subject, group and basis.

    `group` tells groups of equal labels apart; `undrawn` says why a row has no place on logarithmic axes, else empty.
    """
    rows: list[dict[str, object]] = []
    for subject in subjects:
        for grouping in GROUPINGS:
            rows += _group_rows(subject, grouping)
    return frame_of(rows, _POINTS)


def _group_rows(subject: Subject, grouping: By) -> list[dict[str, object]]:
    points = analyze(subject.trace, subject.chip, by=grouping)
    simulated_s = _simulated_s(subject, grouping)
    if grouping == "op":
        longest_s = [_longest_s(point, simulated_s, i) for i, point in enumerate(points)]
        kept = sorted(np.argsort(longest_s)[::-1][:MAX_OPS].tolist())
    else:
        kept = list(range(len(points)))
    totals = {
        "bound": sum(point.bound_s or 0.0 for point in points),
        "simulated": None if simulated_s is None else float(simulated_s.sum()),
        "measured": sum(point.measured_s or 0.0 for point in points),
    }
    rows: list[dict[str, object]] = []
    for i in kept:
        for basis, duration_s in _durations(subject, points[i], None if simulated_s is None else float(simulated_s[i])):
            row = _row(subject, grouping, points[i], basis, duration_s)
            rows.append({**row, "group": i, "share": ratio(duration_s, totals[basis])})
    return rows


def _longest_s(point: RooflinePoint, simulated_s: FloatArray | None, index: int) -> float:
    if simulated_s is not None:
        return float(simulated_s[index])
    return max(point.measured_s or 0.0, point.bound_s or 0.0)


def _simulated_s(subject: Subject, grouping: By) -> FloatArray | None:
    """Simulated seconds of each group that has calls, in the order of the roofline points."""
    simulation, trace = subject.simulation, subject.trace
    if simulation is None:
        return None
    groups: IntArray
    if grouping == "op":
        groups = trace.calls.op
    elif grouping == "phase":
        groups = trace.calls.phase
    else:
        kinds = [point.kind for point in analyze(trace, subject.chip, by="kind")]
        groups = np.array([kinds.index(op.kind) for op in trace.ops], dtype=np.int64)[trace.calls.op]
    seconds = np.bincount(groups, weights=simulation.duration_s)
    return np.asarray(seconds[np.bincount(groups) > 0], dtype=np.float64)


def _durations(subject: Subject, point: RooflinePoint, simulated_s: float | None) -> Iterator[tuple[str, float | None]]:
    """(basis, seconds) of a point; measured only where every call was measured, on this chip."""
    yield "bound", point.bound_s
    if simulated_s is not None:
        yield "simulated", simulated_s
    if subject.is_measured_here and point.measured_calls == point.calls:
        yield "measured", point.measured_s


def _row(
    subject: Subject, grouping: str, point: RooflinePoint, basis: str, duration_s: float | None
) -> dict[str, object]:
    flops_per_s = ratio(point.required_flops, duration_s)
    undrawn = _undrawn(point, duration_s)
    return {
        "subject": subject.label,
        "paradigm": subject.paradigm,
        "chip": subject.chip.name,
        "grouping": grouping,
        "label": point.label or NO_PHASE,
        "kind": point.kind or "mixed",
        "phase": point.phase or "several",
        "basis": basis,
        "bound_by": point.bound_by,
        "undrawn": undrawn,
        "calls": point.calls,
        "intensity": point.intensity,
        "flops": point.flops,
        "bytes": point.bytes,
        "duration_s": duration_s,
        "flops_per_s": None if undrawn else flops_per_s,
        "efficiency": ratio(point.bound_s, duration_s) if basis != "bound" else None,
    }


def _undrawn(point: RooflinePoint, duration_s: float | None) -> str:
    if point.required_flops is None:
        return "FLOPs unknown"
    if point.bytes is None:
        return "bytes unknown"
    if point.unknown_calls:
        return f"FLOPs or bytes of {point.unknown_calls:,} of its {point.calls:,} calls unknown"
    if not point.required_flops:
        return "no FLOPs: it only moves data"
    if not point.intensity:
        return "no bytes through main memory" if not point.bytes else "intensity unknown"
    return "" if duration_s else "time unknown"


def ceilings_frame(subjects: Sequence[Subject]) -> pd.DataFrame:
    """Ceilings of each subject's chip: all memories, and the compute peaks of the types that its ops compute in."""
    rows = []
    for subject in subjects:
        for ceiling in _used_ceilings(subject):
            rows.append(
                {
                    "subject": subject.label,
                    "chip": subject.chip.name,
                    "label": ceiling.label,
                    "resource": ceiling.resource,
                    "dtype": ceiling.dtype,
                    "flops_per_s": ceiling.flops_per_s,
                    "bytes_per_s": ceiling.bytes_per_s,
                }
            )
    return frame_of(rows, _CEILINGS)


def _used_ceilings(subject: Subject) -> list[Ceiling]:
    matrix_dtypes = {op.dtype for op in subject.trace.ops if op.kind in MATRIX_KINDS}
    # The vector peak of 32 bits is where types without a rate of their own run, so it is always shown.
    vector_dtypes = {op.dtype for op in subject.trace.ops if op.vector_flops} | {"float32"}
    used = {"compute": matrix_dtypes, "vector": vector_dtypes}
    every = ceilings(subject.chip)
    return [each for each in every if each.bytes_per_s is not None or each.dtype in used[each.resource]]
