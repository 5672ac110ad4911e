"""Bytes moved, by role of the data and by kind of operation."""

import altair as alt
import pandas as pd

from reports.charts.theme import WIDTH, chart_data, chart_title, kind_color, role_color, themed
from reports.formatting import format_bytes, format_ratio


def bytes_by_role(roles: pd.DataFrame) -> alt.typing.ChartType:
    """Share of each subject's bytes that are weights, KV cache, activations, logits.

    Args:
        roles: `Tables.roles`.
    """
    title = "Bytes moved, by role of the data"
    sums = roles.groupby(["subject", "role"], sort=False)[["bytes"]].sum().reset_index()
    color = role_color(sums["role"])
    return _shares(sums, roles["subject"].tolist(), title, "role", color)


def bytes_by_kind(roles: pd.DataFrame) -> alt.typing.ChartType:
    """Share of each subject's bytes that each kind of operation moves."""
    title = "Bytes moved, by kind of operation"
    sums = roles.groupby(["subject", "kind"], sort=False)[["bytes"]].sum().reset_index()
    return _shares(sums, roles["subject"].tolist(), title, "kind", kind_color(sums["kind"]))


def _shares(sums: pd.DataFrame, subjects: list[str], title: str, field: str, color: alt.Color) -> alt.typing.ChartType:
    share = sums["bytes"] / sums.groupby("subject")["bytes"].transform("sum")
    drawn = sums.assign(share=share, bytes_text=sums["bytes"].map(format_bytes), share_text=share.map(format_ratio))
    chart = (
        alt.Chart(chart_data(drawn, title))
        .mark_bar(stroke="white", strokeWidth=0.5)
        .encode(
            x=alt.X("share:Q").axis(title="share of the bytes read and written", format="%").scale(domain=[0, 1]),
            y=alt.Y("subject:N").title(None).sort(list(dict.fromkeys(subjects))),
            color=color,
            tooltip=[
                alt.Tooltip("subject:N").title("program"),
                alt.Tooltip(f"{field}:N"),
                alt.Tooltip("bytes_text:N").title("bytes"),
                alt.Tooltip("share_text:N").title("share"),
            ],
        )
        .properties(
            width=WIDTH - 120,
            height=alt.Step(28),
            title=chart_title(title, "counted from the trace: each operation moves its inputs and outputs once"),
        )
    )
    return themed(chart)
