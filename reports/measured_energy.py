"""Measured joules for people: a table by phase, idle power apart, and the state of each source."""

from typing import Any

from profiler.energy_calls import describe_source, energy_frame
from profiler.traces import Trace
from reports.console import print_line, print_table, remark
from reports.formatting import format_joules, format_ratio, format_seconds, format_watts


def print_energy(trace: Trace) -> None:
    """Print what was measured; nothing where nobody asked for energy."""
    if trace.energy is None:
        return
    frame = energy_frame(trace)
    for source in trace.energy.sources:
        if source.period_s is None:
            remark(describe_source(source))
            continue
        rows = [_row(row) for row in frame[frame["source"] == source.name].to_dict("records")]
        columns = ("phase", "time", "energy", "at most off by", "average power", "above idle")
        print_table(f"energy of {source.name}: measured", columns, rows)
        idle_w = frame.loc[frame["source"] == source.name, "idle_w"].iloc[0]
        print_line(f"idle before the program: {format_watts(idle_w)}, measured; {describe_source(source)}")


def _row(row: dict[Any, Any]) -> tuple[str, ...]:
    covered = "" if not row["coverage"] < 0.999 else f" ({format_ratio(row['coverage'])} of it read)"
    return (
        (str(row["phase"]) or "(none)") + covered,
        format_seconds(row["duration_s"]),
        format_joules(row["energy_j"]),
        format_joules(row["uncertainty_j"]),
        format_watts(row["average_power_w"]),
        format_joules(row["above_idle_j"]),
    )


def energy_json(trace: Trace) -> dict[str, Any] | None:
    """The same for scripts; None where nobody asked for energy."""
    if trace.energy is None:
        return None
    return {
        "sources": [
            {
                "name": source.name,
                "device": source.device,
                "method": source.method,
                "state": source.state,
                "states": [[change.time_s, change.state, change.message] for change in source.states],
                "period_s": source.period_s,
                "staleness_s": source.staleness_s,
                "notes": list(source.notes),
            }
            for source in trace.energy.sources
        ],
        "by_phase": energy_frame(trace).to_dict("records"),
    }
