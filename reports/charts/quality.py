"""Quality against cost: exact accuracy with its interval, one chart per cost; and published points beside ours."""

import altair as alt
import pandas as pd

from reports.charts.theme import SUBJECT_COLORS, WIDTH, chart_data, chart_title, themed
from reports.formatting import display_unit, format_number, format_ratio
from reports.pareto_tables import COSTS

_HEIGHT = 340
_UNITS = {"forwards": "", "flops": "FLOP", "bytes": "B", "measured_s": "s", "simulated_s": "s", "energy_j": "J"}
_SHAPES = {"autoregressive": "diamond", "diffusion": "circle"}
_ACCURACY = alt.Scale(domain=[0, 1])


def quality_chart(costs: pd.DataFrame, cost: str, chip: str = "") -> alt.typing.ChartType:
    """Accuracy against one cost on a logarithmic axis; a gray line joins the points that none beats.

    Args:
        costs: rows of `pareto_tables.costs_table`.
        cost: one of `pareto_tables.COSTS`.
        chip: for the costs that depend on one.
    """
    what = COSTS[cost][0]
    rows = chart_data(costs[(costs["cost"] == cost) & (costs["chip"] == chip)], what)
    divisor, unit = display_unit(float(rows["value"].max()), _UNITS[cost]) if _UNITS[cost] else (1.0, "")
    drawn = rows.assign(
        shown=rows["value"] / divisor,
        value_text=[f"{format_number(value / divisor)} {unit}".strip() for value in rows["value"]],
        accuracy_text=[
            f"{format_ratio(accuracy)} ({format_ratio(low)} to {format_ratio(high)})"
            for accuracy, low, high in zip(rows["accuracy"], rows["accuracy_low"], rows["accuracy_high"], strict=True)
        ],
    )
    x = alt.X("shown:Q").scale(type="log", nice=True).title(f"{what}{f' [{unit}]' if unit else ''}")
    base = alt.Chart(drawn).encode(x=x)
    best = base.transform_filter("datum.is_frontier").mark_line(color="#bbbbbb", interpolate="step-after")
    line = best.encode(y=alt.Y("accuracy:Q").scale(_ACCURACY))
    bars = base.mark_rule(strokeWidth=1.2).encode(y="accuracy_low:Q", y2="accuracy_high:Q", color=_series_color(drawn))
    marks = base.mark_point(filled=True, size=80, opacity=0.9).encode(
        y=alt.Y("accuracy:Q").scale(_ACCURACY).axis(format="%").title("problems solved exactly"),
        color=_series_color(drawn),
        shape=alt.Shape("paradigm:N").scale(domain=list(_SHAPES), range=list(_SHAPES.values())).title("paradigm"),
        tooltip=[
            alt.Tooltip("series:N").title("model / sampler"),
            alt.Tooltip("knobs:N"),
            alt.Tooltip("accuracy_text:N").title("accuracy, 95 % interval"),
            alt.Tooltip("value_text:N").title(what),
        ],
    )
    title = chart_title(f"Quality against {what}" + (f", {chip}" if chip else ""), "bars: 95 % binomial interval")
    return themed(alt.layer(line, bars, marks).properties(width=WIDTH, height=_HEIGHT, title=title))


def published_chart(costs: pd.DataFrame, published: pd.DataFrame) -> alt.typing.ChartType:
    """Quality against tokens per forward: ours, measured, over published points of large models on other tasks."""
    ours = costs[costs["cost"] == "forwards"].assign(
        basis="measured here: exact accuracy", task="4x4 Sudoku", source=""
    )
    theirs = published.assign(basis="published: score of 100, other models and tasks", knobs="")
    columns = ["basis", "series", "knobs", "task", "source", "tokens_per_forward", "accuracy"]
    rows = chart_data(pd.concat([theirs[columns], ours[columns]], ignore_index=True), "published points")
    bases = list(dict.fromkeys(rows["basis"]))
    chart = (
        alt.Chart(rows)
        .mark_point(filled=True, size=50, opacity=0.55)
        .encode(
            x=alt.X("tokens_per_forward:Q").scale(type="log").title("tokens per forward and sequence"),
            y=alt.Y("accuracy:Q").scale(_ACCURACY).axis(format="%").title("quality"),
            color=alt.Color("basis:N").scale(domain=bases, range=["#999999", "#D55E00"]).legend(orient="bottom"),
            shape=alt.Shape("basis:N").scale(domain=bases, range=["triangle-up", "circle"]),
            tooltip=["basis:N", "series:N", "knobs:N", "task:N", "source:N", "tokens_per_forward:Q", "accuracy:Q"],
        )
    )
    title = chart_title("Quality against tokens per forward", "measured and published points compare in shape only")
    return themed(chart.properties(width=WIDTH, height=_HEIGHT, title=title))


def _series_color(rows: pd.DataFrame) -> alt.Color:
    domain = list(dict.fromkeys(rows["series"]))
    colors = [SUBJECT_COLORS[i % len(SUBJECT_COLORS)] for i in range(len(domain))]
    color = alt.Color("series:N").title("model / sampler").sort(domain)
    return color.scale(domain=domain, range=colors).legend(orient="bottom", columns=3)
