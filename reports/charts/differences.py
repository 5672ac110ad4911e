"""What became slower and what faster between two traces: bars of the largest differences."""

from collections.abc import Callable

import altair as alt
import pandas as pd

from reports.charts.theme import WIDTH, chart_data, chart_title, themed
from reports.formatting import display_unit, shorten

_SHOWN = 20
_COLORS = {"grew, surely": "#D55E00", "grew, not surely": "#F0C3A0", "only in B": "#E69F00"} | {
    "shrank, surely": "#0072B2",
    "shrank, not surely": "#A6CBE3",
    "only in A": "#56B4E9",
}


def difference_bars(
    rows: pd.DataFrame, title: str, write: Callable[[float | None], str], unit: str
) -> alt.typing.ChartType:
    """Bars of B less A, the largest first.

    Args:
        rows: groups with `label`, `verdict`, `difference`, `total_a`, `total_b` and `certainty`, largest first.
        title: of the chart.
        write: writes a figure with its unit.
        unit: of the figures: `s`, `B` or `FLOP`.
    """
    drawn = chart_data(rows[rows["difference"] != 0].head(_SHOWN), title)
    drawn = drawn.assign(
        shown=[f"{number}. {shorten(label, 60)}" for number, label in enumerate(drawn["label"], start=1)],
        class_name=[
            _class(verdict, value) for verdict, value in zip(drawn["verdict"], drawn["difference"], strict=True)
        ],
        difference_text=drawn["difference"].map(write),
        a_text=drawn["total_a"].map(write),
        b_text=drawn["total_b"].map(write),
    )
    present = [name for name in _COLORS if name in set(drawn["class_name"])]
    divisor, shown_unit = display_unit(float(drawn["difference"].abs().max()), unit)
    drawn = drawn.assign(scaled=drawn["difference"] / divisor)
    chart = (
        alt.Chart(drawn)
        .mark_bar()
        .encode(
            x=alt.X("scaled:Q").axis(title=f"B less A [{shown_unit}]"),
            y=alt.Y("shown:N").title(None).sort(drawn["shown"].tolist()),
            color=alt.Color("class_name:N").title("B").scale(domain=present, range=[_COLORS[name] for name in present]),
            tooltip=[
                alt.Tooltip("label:N").title("group"),
                alt.Tooltip("verdict:N").title("B is"),
                alt.Tooltip("certainty:N").title("95 % interval"),
                alt.Tooltip("difference_text:N").title("B less A"),
                alt.Tooltip("a_text:N").title("A"),
                alt.Tooltip("b_text:N").title("B"),
            ],
        )
        .properties(width=WIDTH - 200, height=alt.Step(22), title=chart_title(title, "the largest differences"))
    )
    return themed(chart)


def _class(verdict: str, difference: float) -> str:
    if verdict.startswith("only in"):
        return verdict
    sure = "surely" if verdict in ("slower", "faster", "more", "less") else "not surely"
    return f"{'grew' if difference > 0 else 'shrank'}, {sure}"
