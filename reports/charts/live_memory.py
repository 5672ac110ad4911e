"""Live bytes over the calls of one program, by role."""

import altair as alt
import pandas as pd

from reports.charts.theme import WIDTH, chart_data, chart_title, role_color, themed
from reports.formatting import display_unit, format_bytes


def live_memory(curve: pd.DataFrame, title: str) -> alt.typing.ChartType:
    """Stacked areas.

    Args:
        curve: rows of `Tables.memory_curve` of one subject.
        title: of the chart.
    """
    totals = curve.groupby("call")["bytes"].sum()
    divisor, unit = display_unit(float(totals.max()), "B")
    drawn = curve.assign(shown=curve["bytes"] / divisor, bytes_text=curve["bytes"].map(format_bytes))
    chart = (
        alt.Chart(chart_data(drawn, title))
        .mark_area(interpolate="step-after")
        .encode(
            x=alt.X("call:Q").axis(title="call").scale(nice=False),
            y=alt.Y("shown:Q").axis(title=f"live bytes ({unit})").stack("zero"),
            color=role_color(drawn["role"]),
            tooltip=[
                alt.Tooltip("call:Q"),
                alt.Tooltip("phase:N"),
                alt.Tooltip("role:N"),
                alt.Tooltip("bytes_text:N").title("bytes"),
            ],
        )
        .properties(
            width=WIDTH,
            height=200,
            title=chart_title(title, "worked out from the trace: the least that the program holds"),
        )
    )
    return themed(chart)
