"""Summary of a trace as `capture` and `import` print it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from profiler.summary import summarize, totals_by
from profiler.traces import Trace
from reports import formatting
from reports.console import name_counts, print_line, print_table
from reports.measured_energy import energy_json


def show(trace: Trace, path: Path) -> None:
    """Print the summary of a saved trace."""
    summary = summarize(trace)
    by_kind = totals_by(trace, "kind")
    by_phase = totals_by(trace, "phase")
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
    print_table(f"{trace.name} on {summary.device}", ("kind", "calls", "FLOPs", "read", "written", "measured"), rows)
    print_table(
        "by phase",
        ("phase", "calls", "FLOPs", "bytes", "intensity", "measured"),
        [
            (
                str(phase) or "(none)",
                formatting.format_count(row.calls),
                formatting.format_flops(row.flops),
                formatting.format_bytes(row.read_bytes + row.write_bytes),
                formatting.format_intensity(_intensity(row)),
                formatting.format_seconds(row.duration_s) if trace.is_measured else "-",
            )
            for phase, row in by_phase.iterrows()
        ],
    )
    shares = ", ".join(
        f"{role} {formatting.format_ratio(moved / summary.moved_bytes)}" for role, moved in summary.role_bytes if moved
    )
    print_line(f"bytes by role: {shares or 'none'}")
    if summary.unknown_ops:
        print_line(f"unknown FLOPs or bytes, not counted as zero: {name_counts(summary.unknown_ops)}")
    print_line(f"saved {formatting.format_count(summary.calls)} calls of {summary.distinct_ops} distinct ops to {path}")


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
