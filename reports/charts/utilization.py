"""Utilization of each resource in the simulation, and simulated energy by part."""

import altair as alt
import pandas as pd

from reports.charts.theme import SUBJECT_COLORS, WIDTH, chart_data, chart_title, themed
from reports.formatting import display_unit, format_joules, format_ratio, format_seconds

# Cells darker than this carry white text.
_WHITE_TEXT_FROM = 0.55


def utilization_map(utilization: pd.DataFrame) -> alt.typing.ChartType:
    """Part of the makespan that each resource works at its peak rate: one row per subject, one column per resource.

    Args:
        utilization: `Tables.utilization`.
    """
    title = "Utilization of each resource"
    used = utilization[utilization.groupby("resource")["busy_s"].transform("sum") > 0]
    drawn = chart_data(used, title).assign(
        busy_text=used["busy_s"].map(format_seconds), utilization_text=used["utilization"].map(format_ratio)
    )
    cells = alt.Chart(drawn).encode(
        x=alt.X("resource:N").title(None).sort(_resource_order(drawn)).axis(orient="top", labelAngle=0),
        y=alt.Y("subject:N").title(None).sort(list(dict.fromkeys(drawn["subject"]))),
        tooltip=[
            alt.Tooltip("subject:N").title("program"),
            alt.Tooltip("resource:N"),
            alt.Tooltip("utilization_text:N").title("utilization"),
            alt.Tooltip("busy_text:N").title("busy"),
        ],
    )
    shade = alt.Color("utilization:Q").title("utilization").scale(scheme="blues", domain=[0, 1])
    text_color = (
        alt.when(alt.datum.utilization > _WHITE_TEXT_FROM).then(alt.value("white")).otherwise(alt.value("black"))
    )
    chart = alt.layer(
        cells.mark_rect(stroke="white").encode(color=shade.legend(format="%")),
        cells.mark_text(fontSize=12).encode(text="utilization_text:N", color=text_color),
    ).properties(
        width=alt.Step(66),
        height=alt.Step(30),
        title=chart_title(title, "simulated (predicted): time at its peak rate, part of the makespan"),
    )
    return themed(chart)


def _resource_order(drawn: pd.DataFrame) -> list[str]:
    """Compute, then memories, then overheads; chips name their memories differently, so by mean position."""
    position = drawn.groupby("subject").cumcount()
    return [str(name) for name in position.groupby(drawn["resource"]).mean().sort_values(kind="stable").index]


def energy_bars(energy: pd.DataFrame) -> alt.typing.ChartType:
    """Simulated joules by part, one stacked bar per subject.

    Args:
        energy: `Tables.energy`.
    """
    title = "Energy by part of the chip"
    drawn = chart_data(energy[energy["energy_j"] > 0], title)
    divisor, unit = display_unit(float(drawn.groupby("subject")["energy_j"].sum().max()), "J")
    drawn = drawn.assign(energy_text=drawn["energy_j"].map(format_joules), shown=drawn["energy_j"] / divisor)
    parts = list(dict.fromkeys(drawn["part"]))
    colors = [SUBJECT_COLORS[i % len(SUBJECT_COLORS)] for i in range(len(parts))]
    chart = (
        alt.Chart(drawn)
        .mark_bar(stroke="white", strokeWidth=0.5)
        .encode(
            x=alt.X("shown:Q").axis(title=f"energy of the whole run ({unit})", format=",~f").stack("zero"),
            y=alt.Y("subject:N").title(None).sort(list(dict.fromkeys(drawn["subject"]))),
            color=alt.Color("part:N").title("part").sort(parts).scale(domain=parts, range=colors),
            tooltip=[
                alt.Tooltip("subject:N").title("program"),
                alt.Tooltip("part:N"),
                alt.Tooltip("energy_text:N").title("energy"),
            ],
        )
        .properties(width=WIDTH - 120, height=alt.Step(28), title=chart_title(title, "simulated (predicted)"))
    )
    return themed(chart)
