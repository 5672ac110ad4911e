"""Summary of a trace as `capture` and `import` print it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from profiler.summary import TraceSummary, summarize, totals_by
from profiler.traces import Trace
from reports import formatting
from reports.console import name_counts, print_line, print_table, remark
from reports.formatting import shorten
from reports.measured_energy import energy_json

_MOST_PHASES = 20


def show(trace: Trace, path: Path) -> None:
    """Print the summary of a saved trace."""
    summary = summarize(trace)
    by_kind = totals_by(trace, "kind")
    by_phase = totals_by(trace, "phase")
    cost = by_phase.duration_s if trace.is_measured else by_phase.read_bytes + by_phase.write_bytes
    largest = by_phase[cost.rank(method="first", ascending=False, na_option="bottom") <= _MOST_PHASES]
    rows = [
        (
            str(kind),
            formatting.format_count(row.calls),
            formatting.format_flops(row.flops),
            formatting.format_bytes(row.read_bytes),
            formatting.format_bytes(row.write_bytes),
            formatting.format_seconds(row.duration_s) if trace.is_measured else "-",
        )
        for kind, row in by_kind.iterrows()
    ]
    device = summary.device or "an unnamed device"
    print_table(f"{trace.name} on {device}", ("kind", "calls", "FLOPs", "read", "written", "measured"), rows)
    print_table(
        "by phase",
        ("phase", "calls", "FLOPs", "bytes", "intensity", "measured"),
        [
            (
                shorten(str(phase), 80) or "(none)",
                formatting.format_count(row.calls),
                formatting.format_flops(row.flops),
                formatting.format_bytes(row.read_bytes + row.write_bytes),
                formatting.format_intensity(_intensity(row)),
                formatting.format_seconds(row.duration_s) if trace.is_measured else "-",
            )
            for phase, row in largest.iterrows()
        ],
    )
    if len(by_phase) > len(largest):
        left_out = len(by_phase) - len(largest)
        all_of_them = f"roofscape roofline {path} --by phase --top {len(by_phase)}"
        remark(f"{left_out} smaller phases left out; `{all_of_them}` shows all")
    shares = ", ".join(
        f"{role} {formatting.format_ratio(moved / summary.moved_bytes)}" for role, moved in summary.role_bytes if moved
    )
    print_line(f"bytes by role: {shares or 'none'}")
    if summary.unknown_ops:
        print_line(unknown_line(trace, summary))
    print_line(f"saved {formatting.format_count(summary.calls)} calls of {summary.distinct_ops} distinct ops to {path}")


def unknown_line(trace: Trace, summary: TraceSummary) -> str:
    """Which ops have unknown FLOPs or bytes, and how much of the trace that is: sums hold nothing of them."""
    return f"unknown FLOPs or bytes, not counted as zero ({unknown_share(trace)}): {name_counts(summary.unknown_ops)}"


def unknown_share(trace: Trace) -> str:
    """How much of a trace has unknown FLOPs or bytes, in calls and, where it was measured, in time."""
    unknown = {id(op) for op in trace.unknown_ops}
    is_unknown = np.array([id(op) in unknown for op in trace.ops])[trace.calls.op]
    shares = f"{formatting.format_count(int(is_unknown.sum()))} of {formatting.format_count(len(trace.calls))} calls"
    measured_s = float(np.nansum(trace.calls.duration_s))
    if trace.is_measured and measured_s > 0:
        share = float(np.nansum(trace.calls.duration_s[is_unknown])) / measured_s
        shares += f" and {formatting.format_ratio(share)} of the measured time"
    return shares


def _intensity(row: Any) -> float | None:
    moved = float(row.read_bytes + row.write_bytes)
    return float(row.required_flops) / moved if moved > 0 else None


def trace_json(trace: Trace, path: Path) -> dict[str, Any]:
    """Summary of a saved trace for scripts."""
    summary = summarize(trace)
    return {
        **asdict(summary),
        "role_bytes": dict(summary.role_bytes),
        "unknown_ops": dict(summary.unknown_ops),
        "by_kind": totals_by(trace, "kind").reset_index().to_dict("records"),
        "by_phase": totals_by(trace, "phase").reset_index().to_dict("records"),
        "energy": energy_json(trace),
        "notes": list(trace.provenance.notes),
        "trace": str(path),
    }
