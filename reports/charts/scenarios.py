"""Simulated time of a scenario's contenders, one bar each, one panel per size of the job."""

import altair as alt
import pandas as pd

from reports.charts.theme import chart_data, chart_title, themed
from reports.formatting import display_unit, format_count, format_flops, format_seconds

_COLORS = {"autoregressive": "#0072B2", "diffusion": "#D55E00", "other": "#999999"}
_WIDTH = 420


def time_chart(rows: pd.DataFrame) -> alt.typing.ChartType:
    """Bars of simulated time.

    Args:
        rows: of one chip, from `scenarios.run_scenario`.
    """
    rows = chart_data(rows, "simulated time")
    largest = float(rows["simulated_s"].max())
    divisor, unit = display_unit(largest, "s")
    drawn = rows[["size", "contender", "paradigm"]].assign(
        shown=rows["simulated_s"] / divisor,
        time_text=rows["simulated_s"].map(format_seconds),
        forwards_text=rows["forwards"].map(format_count),
        flops_text=rows["flops"].map(format_flops),
    )
    order = list(dict.fromkeys(rows["contender"]))
    x = alt.X("shown:Q").scale(domain=[0, max(1.25 * largest / divisor, 1e-9)], nice=False)
    base = alt.Chart(drawn).encode(
        x=x.axis(title=f"simulated time [{unit}]", tickCount=5),
        y=alt.Y("contender:N").title(None).sort(order),
        tooltip=[
            alt.Tooltip("contender:N"),
            alt.Tooltip("time_text:N").title("simulated"),
            alt.Tooltip("forwards_text:N").title("forwards"),
            alt.Tooltip("flops_text:N").title("FLOPs"),
        ],
    )
    scale = alt.Scale(domain=list(_COLORS)[:2], range=list(_COLORS.values())[:2])
    bars = base.mark_bar().encode(color=alt.Color("paradigm:N").scale(scale).legend(orient="bottom").title(None))
    labels = base.mark_text(align="left", dx=4, fontSize=12).encode(text="time_text:N")
    layers = alt.layer(bars, labels).properties(width=_WIDTH, height=alt.Step(24))
    title = chart_title("Time of the whole job", f"simulated on {rows['chip'].iloc[0]}")
    sizes = list(dict.fromkeys(rows["size"]))
    if len(sizes) == 1:
        return themed(layers.properties(title=title))
    panels = layers.facet(row=alt.Row("size:N").sort(sizes).header(title=None, labelAngle=0, labelAlign="left"))
    return themed(panels.properties(title=title))
