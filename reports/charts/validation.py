"""Predicted against measured kernels."""

import altair as alt
import pandas as pd

from reports.charts.theme import SUBJECT_COLORS, WIDTH, chart_data, chart_title, themed

_HEIGHT = 340


def predicted_against_measured(rows: pd.DataFrame, title: str, subtitle: str) -> alt.typing.ChartType:
    """Predicted over measured time against measured time; 1 is perfect, size classes stand in the order of the rows.

    Args:
        rows: columns `measured_us, ratio, size_class, sizes`, at most 5,000.
        title: what is compared.
        subtitle: how well.
    """
    drawn = chart_data(rows, title)
    classes = list(dict.fromkeys(drawn["size_class"]))
    colors = [SUBJECT_COLORS[i % len(SUBJECT_COLORS)] for i in range(len(classes))]
    points = (
        alt.Chart(drawn)
        .mark_circle(size=14, opacity=0.55)
        .encode(
            x=alt.X("measured_us:Q").scale(type="log", nice=False).title("measured [us]"),
            y=alt.Y("ratio:Q")
            .scale(type="log", domain=[0.5, 2.0], clamp=True, nice=False)
            .title("predicted / measured"),
            color=alt.Color("size_class:N").sort(classes).scale(domain=classes, range=colors).title("size class"),
            tooltip=["sizes:N", "size_class:N", "measured_us:Q", "predicted_us:Q", "ratio:Q"],
        )
    )
    line = alt.Chart(pd.DataFrame({"ratio": [1.0]})).mark_rule(color="#444444").encode(y="ratio:Q")
    chart = alt.layer(line, points).properties(width=WIDTH, height=_HEIGHT, title=chart_title(title, subtitle))
    return themed(chart)
