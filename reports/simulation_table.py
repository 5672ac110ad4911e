"""Simulations of one trace on several chips, side by side in the terminal."""

from collections.abc import Sequence

from reports import formatting
from reports.console import print_table, remark
from simulator.result import SimulationResult


def print_side_by_side(labels: Sequence[str], results: Sequence[SimulationResult]) -> None:
    """Print a row for each simulation; times and joules also as multiples of the first one's."""
    first = results[0]
    rows = [
        (
            label,
            formatting.format_seconds(result.makespan_s),
            _band(result),
            formatting.format_change(_ratio(result.makespan_s, first.makespan_s)),
            formatting.format_seconds(result.bound_s),
            formatting.format_joules(result.energy_j),
            formatting.format_change(_ratio(result.energy_j, first.energy_j)),
            formatting.format_watts(result.average_power_w),
            _busiest(result),
        )
        for label, result in zip(labels, results, strict=True)
    ]
    columns = ("chip", "time", "error band", "change", "bound", "energy", "change", "power", "busiest")
    title = f"{first.trace}: predicted, {first.engine} engine, {first.mode} mode; change: against the first row"
    print_table(title, columns, rows)
    notes: dict[str, list[str]] = {}
    for label, result in zip(labels, results, strict=True):
        for note in result.notes:
            notes.setdefault(note, []).append(label)
    for note, named in notes.items():
        remark(f"note: {note}" if len(named) == len(labels) else f"note, {'; '.join(named)}: {note}")


def _band(result: SimulationResult) -> str:
    if result.low_s is None:
        return "none"
    return formatting.low_to_high(result.low_s, result.high_s, formatting.format_seconds)


def _ratio(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None


def _busiest(result: SimulationResult) -> str:
    """The resource that works most of the time at its peak rate, and for which part."""
    name, part = max(result.utilization, key=lambda each: each[1], default=("none", 0.0))
    return f"{name} {formatting.format_ratio(part)}"
