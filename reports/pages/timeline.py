"""Timeline: one typical step of each simulation, and how busy each resource is."""

from reports.charts.timeline import step_timeline
from reports.charts.utilization import utilization_map
from reports.formatting import format_count, format_ratio, format_seconds, shorten
from reports.report import Figure, Report, Section, unique
from reports.summary_rows import NO_PHASE
from reports.tables import Tables

_PHASE_LIMIT = 40


def build(tables: Tables) -> Report:
    """Utilization first, then one timeline per subject."""
    simulated = unique(tables.timeline["subject"])
    if not simulated:
        text = "No program of this report was simulated, so there is no timeline."
        return Report(title="Simulated timeline", findings=(text,), sections=())
    utilization = Section(
        title="Utilization",
        text="The part of the makespan that a resource would need if it always worked at its peak rate.",
        figures=(Figure(chart=utilization_map(tables.utilization)),),
    )
    return Report(
        title="Simulated timeline",
        findings=tuple(_finding(tables, subject) for subject in simulated),
        sections=(utilization, *(_section(tables, subject) for subject in simulated)),
    )


def _finding(tables: Tables, subject: str) -> str:
    rows = tables.utilization[tables.utilization["subject"] == subject]
    busiest = rows.sort_values("utilization", ascending=False, kind="stable").head(2)
    parts = [
        f"{resource} {format_ratio(utilization)}"
        for resource, utilization in zip(busiest["resource"], busiest["utilization"], strict=True)
    ]
    return f"{subject}, simulated on {rows['chip'].iloc[0]}: the busiest resources are {' and '.join(parts)}."


def _section(tables: Tables, subject: str) -> Section:
    rows = tables.timeline[tables.timeline["subject"] == subject]
    first = rows.iloc[0]
    phase = "work outside any phase" if first["phase"] == NO_PHASE else shorten(first["phase"], _PHASE_LIMIT)
    step = f"{phase}, step {first['step']:.0f}" if first["step"] >= 0 else phase
    engine = tables.summary.loc[tables.summary["subject"] == subject, "engine"].iloc[0]
    text = (
        f"{format_count(rows['calls'].sum())} calls in {format_seconds(rows['end_s'].max())}, played by the {engine} "
        "engine; the middle step of the phase that takes longest."
    )
    title = f"{subject}: {step}, on {first['chip']}"
    return Section(title=subject, text=text, figures=(Figure(chart=step_timeline(rows, title)),))
