"""Autoregressive against diffusion, side by side: what one forward and one token cost."""

import altair as alt
import pandas as pd

from reports.charts.theme import chart_data, chart_title, subject_color, themed
from reports.formatting import (
    Formatter,
    display_unit,
    format_bytes,
    format_flops,
    format_intensity,
    format_joules,
    format_seconds,
)

_TITLES = {
    "forward": "One network evaluation (mean over the whole run, the prefill included)",
    "token": "One generated token (the whole run divided by its tokens, the prefill included)",
}
# Metric: title of its panel, unit, how it is written.
_METRICS: dict[str, tuple[str, str, Formatter]] = {
    "flops": ("FLOPs, counted", "FLOP", format_flops),
    "bytes": ("bytes moved, counted", "B", format_bytes),
    "intensity": ("intensity, counted", "FLOP/byte", format_intensity),
    "bound_s": ("roofline bound", "s", format_seconds),
    "simulated_s": ("time, simulated", "s", format_seconds),
    "energy_j": ("energy, simulated", "J", format_joules),
}


def paradigm_bars(comparison: pd.DataFrame, per: str) -> alt.typing.ChartType:
    """Small panels of bars, one per metric, one bar per subject.

    Args:
        comparison: rows of `Tables.comparison` that share a chip.
        per: `forward` or `token`.
    """
    rows = comparison[(comparison["per"] == per) & comparison["value"].notna()]
    rows = chart_data(rows, _TITLES[per])
    color = subject_color(rows["subject"].tolist())
    metrics = [metric for metric in _METRICS if metric in set(rows["metric"])]
    panels = [_panel(rows[rows["metric"] == metric], metric, color) for metric in metrics]
    chips = ", ".join(dict.fromkeys(rows["chip"]))
    title = chart_title(_TITLES[per], f"bounds, simulated times and energies are predicted, of {chips}")
    grid = alt.concat(*panels, columns=3, title=title, spacing=30)
    return themed(grid.resolve_scale(color="shared", y="independent"))


def _panel(rows: pd.DataFrame, metric: str, color: alt.Color) -> alt.typing.ChartType:
    title, base_unit, write = _METRICS[metric]
    largest = float(rows["value"].max())
    divisor, unit = (1.0, base_unit) if metric == "intensity" else display_unit(largest, base_unit)
    drawn = rows.assign(value_text=rows["value"].map(write), shown=rows["value"] / divisor)
    # Room at the right for the figure that is written behind the longest bar.
    x = alt.X("shown:Q").scale(domain=[0, max(1.5 * largest / divisor, 1e-9)], nice=False)
    bars = alt.Chart(drawn).encode(
        x=x.axis(title=unit, format=",~f", tickCount=4),
        y=alt.Y("subject:N").axis(None).sort(list(dict.fromkeys(rows["subject"]))),
        tooltip=[
            alt.Tooltip("subject:N").title("program"),
            alt.Tooltip("paradigm:N"),
            alt.Tooltip("value_text:N").title(title),
        ],
    )
    marks = bars.mark_bar().encode(color=color)
    texts = bars.mark_text(align="left", dx=4, fontSize=12).encode(text="value_text:N")
    return alt.layer(marks, texts).properties(
        width=260, height=alt.Step(24), title=alt.TitleParams(text=title, fontSize=13, offset=6)
    )
