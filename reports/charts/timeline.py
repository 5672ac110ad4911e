"""The simulated timeline of one step, as a Gantt chart with a lane per kind."""

import altair as alt
import pandas as pd

from reports.charts.theme import WIDTH, chart_data, chart_title, kind_color, themed
from reports.formatting import display_unit, format_count, format_seconds, shorten


def step_timeline(timeline: pd.DataFrame, title: str) -> alt.typing.ChartType:
    """Intervals of one subject; dragging pans along the time axis, and the wheel zooms while shift is held.

    Args:
        timeline: rows of `Tables.timeline` of one subject.
        title: of the chart.
    """
    drawn = chart_data(timeline, title)
    divisor, unit = display_unit(float(drawn["end_s"].max()), "s")
    drawn = drawn.assign(
        name=drawn["name"].map(shorten),
        start_shown=drawn["start_s"] / divisor,
        end_shown=drawn["end_s"] / divisor,
        time_text=drawn["duration_s"].map(format_seconds),
        start_text=drawn["start_s"].map(format_seconds),
        bound_text=drawn["bound_s"].map(format_seconds),
        calls_text=drawn["calls"].map(format_count),
    )
    zoom = alt.selection_interval(bind="scales", encodings=["x"], zoom="wheel![event.shiftKey]")
    color = kind_color(drawn["kind"])
    kinds = drawn.groupby("kind")["duration_s"].sum().sort_values(ascending=False).index.tolist()
    chart = (
        alt.Chart(drawn)
        .mark_rect(clip=True)
        .encode(
            x=alt.X("start_shown:Q").axis(title=f"time since the start of the step ({unit})").scale(nice=False),
            x2="end_shown:Q",
            y=alt.Y("kind:N").title(None).sort(kinds),
            color=color.legend(None),
            tooltip=[
                alt.Tooltip("name:N").title("operation"),
                alt.Tooltip("kind:N"),
                alt.Tooltip("start_text:N").title("start"),
                alt.Tooltip("time_text:N").title("duration"),
                alt.Tooltip("bound_text:N").title("roofline bound"),
                alt.Tooltip("calls_text:N").title("calls"),
            ],
        )
        .add_params(zoom)
        .properties(
            width=WIDTH + 100,
            height=alt.Step(24),
            title=chart_title(title, "simulated (predicted); drag to pan, shift and wheel to zoom"),
        )
    )
    return themed(chart)
