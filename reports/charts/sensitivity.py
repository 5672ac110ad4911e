"""Charts of what decides over a whole space: Sobol indices as bars, effects by Morris as points."""

import altair as alt
import pandas as pd

from reports.charts.theme import chart_data, chart_title, themed

_ALONE, _WITH = "#0072B2", "#56B4E9"
_LABELED = 0.1  # of the largest effect: names of smaller ones would lie on one another
_KINDS = {"first_order": "alone", "total": "with others"}


def indices_chart(whole: pd.DataFrame) -> alt.typing.ChartType:
    """First-order and total Sobol indices of each parameter with their standard errors, an objective a column.

    Args:
        whole: rows of `Exploration.whole_frame`.
    """
    parts = [
        whole[["parameter", "objective"]].assign(
            index=whole[kind],
            low=whole[kind] - whole[f"{kind}_error"],
            high=whole[kind] + whole[f"{kind}_error"],
            part=name,
        )
        for kind, name in _KINDS.items()
    ]
    rows = chart_data(pd.concat(parts, ignore_index=True), "Sobol indices")
    strongest_first = whole.groupby("parameter")["total"].max().sort_values(ascending=False).index.tolist()
    base = alt.Chart(rows).encode(  # domains are given, since those of layers cannot be joined with an order
        y=alt.Y("parameter:N").scale(domain=strongest_first).title(None),
        yOffset=alt.YOffset("part:N").scale(domain=list(_KINDS.values())),
    )
    bars = base.mark_bar().encode(
        x=alt.X("index:Q").axis(format="%").title("part of the variance"),
        color=alt.Color("part:N").scale(domain=list(_KINDS.values()), range=[_ALONE, _WITH]).legend(orient="bottom"),
        tooltip=["parameter:N", "objective:N", "part:N", alt.Tooltip("index:Q", format=".1%")],
    )
    errors = base.mark_rule(color="#333333").encode(x="low:Q", x2="high:Q")
    chart = alt.layer(bars, errors).properties(width=170).facet(column=alt.Column("objective:N").title(None))
    return themed(chart.properties(title=chart_title("Sobol indices", "over the whole space; lines: standard errors")))


def effects_chart(whole: pd.DataFrame) -> alt.typing.ChartType:
    """Mean size of the elementary effects of each parameter against their spread, an objective a column."""
    rows = chart_data(whole[whole["mean_absolute"].notna()], "effects")
    largest = rows.groupby("objective")["mean_absolute"].transform("max")
    rows = rows.assign(label=rows["parameter"].where(rows["mean_absolute"] >= _LABELED * largest, ""))
    base = alt.Chart(rows).encode(
        x=alt.X("mean_absolute:Q").title("mean effect"), y=alt.Y("spread:Q").title("spread of the effect")
    )
    points = base.mark_point(filled=True, size=50, color=_ALONE).encode(
        tooltip=[
            *("parameter:N", "objective:N"),
            alt.Tooltip("mean_absolute:Q", format=".3f"),
            alt.Tooltip("spread:Q", format=".3f"),
        ]
    )
    names = base.mark_text(align="left", dx=5, fontSize=10).encode(text="label:N")
    chart = alt.layer(points, names).properties(width=190, height=190)
    columns = chart.facet(column=alt.Column("objective:N").title(None))
    title = chart_title("Effects by Morris", "right: matters; above the diagonal: depends on the others")
    return themed(columns.properties(title=title))
