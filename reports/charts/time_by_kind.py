"""Time by kind of operation: bound, simulated and measured side by side for each subject."""

import altair as alt
import pandas as pd

from reports.charts.theme import WIDTH, chart_data, chart_title, kind_color, themed
from reports.formatting import display_unit, format_count, format_ratio, format_seconds

_TITLE = "Time by kind of operation"
_BASES = ["bound", "simulated", "measured"]


def time_by_kind(kinds: pd.DataFrame) -> alt.typing.ChartType:
    """Stacked bars of seconds, one bar per basis, one panel per subject, each with its own scale.

    Args:
        kinds: `Tables.kinds`.
    """
    drawn = chart_data(kinds[kinds["duration_s"] > 0], _TITLE)
    totals = drawn.groupby(["subject", "basis"])["duration_s"].transform("sum")
    drawn = drawn.assign(
        time_text=drawn["duration_s"].map(format_seconds),
        share_text=(drawn["duration_s"] / totals).map(format_ratio),
        calls_text=drawn["calls"].map(format_count),
    )
    color = kind_color(drawn["kind"])
    panels = [_panel(drawn[drawn["subject"] == subject], color) for subject in dict.fromkeys(drawn["subject"])]
    subtitle = "bound: roofline, the least time; simulated: predicted; measured: on the device named"
    if len(panels) > 1:
        subtitle += "; each program has a scale of its own"
    chart = alt.vconcat(*panels, title=chart_title(_TITLE, subtitle), bounds="flush", spacing=76)
    return themed(chart.resolve_scale(color="shared"))


def _panel(bars: pd.DataFrame, color: alt.Color) -> alt.Chart:
    longest_s = float(bars.groupby("basis")["duration_s"].sum().max())
    divisor, unit = display_unit(longest_s, "s")
    measured = bars[bars["basis"] == "measured"]
    where = f"; measured on {measured['device'].iloc[0]}" if len(measured) else ""
    title = f"{bars['subject'].iloc[0]} (on {bars['chip'].iloc[0]}{where})"
    panel: alt.Chart = (
        alt.Chart(bars.assign(shown=bars["duration_s"] / divisor))
        .mark_bar(stroke="white", strokeWidth=0.5)
        .encode(
            x=alt.X("shown:Q").axis(title=f"time of all calls ({unit})", format=",~f").stack("zero"),
            y=alt.Y("basis:N").title(None).sort(_BASES),
            color=color,
            order=alt.Order("duration_s:Q").sort("descending"),
            tooltip=[
                alt.Tooltip("kind:N"),
                alt.Tooltip("basis:N"),
                alt.Tooltip("device:N"),
                alt.Tooltip("time_text:N").title("time"),
                alt.Tooltip("share_text:N").title("share"),
                alt.Tooltip("calls_text:N").title("calls"),
            ],
        )
        .properties(width=WIDTH, height=alt.Step(22), title=alt.TitleParams(text=title, fontSize=13, offset=6))
    )
    return panel
