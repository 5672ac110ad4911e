"""What all charts share: colors that color-blind readers can tell apart, fonts, sizes, and the check of their data."""

from collections.abc import Iterable, Sequence
from math import ceil, floor, log10

import altair as alt
import numpy as np
import pandas as pd

from profiler.op import KINDS
from reports.errors import ReportError
from reports.frames import MAX_ROWS

# Plot area in CSS pixels: with axes and legends a chart is then narrower than a laptop's window and a landscape page.
WIDTH = 720
HEIGHT = 420

# Okabe and Ito's colors ("Color Universal Design", 2008) for the kinds that matter most, then Paul Tol's muted scheme.
_KIND_COLORS: dict[str, str] = {
    "gemm": "#0072B2",
    "attention": "#D55E00",
    "conv": "#332288",
    "pointwise": "#009E73",
    "norm": "#E69F00",
    "softmax": "#CC79A7",
    "reduction": "#56B4E9",
    "copy": "#999999",
    "gather": "#B8A800",
    "scatter": "#882255",
    "sort": "#AA4499",
    "topk": "#661100",
    "scan": "#44AA99",
    "random": "#6699CC",
    "collective": "#117733",
    "moe": "#DDCC77",
    "unknown": "#000000",
    "mixed": "#555555",
}
_ROLE_COLORS = {"weights": "#0072B2", "kv_cache": "#E69F00", "activations": "#009E73", "logits": "#CC79A7"}
SUBJECT_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#332288", "#661100")

BASIS_SHAPES = {"bound": "diamond", "simulated": "triangle-up", "measured": "circle"}


def chart_data(frame: pd.DataFrame, chart: str) -> pd.DataFrame:
    """The frame, checked: few enough rows, and no infinity, which JSON cannot say.

    Raises:
        ReportError: otherwise.
    """
    if len(frame) > MAX_ROWS:
        raise ReportError(f"chart {chart!r}: at most {MAX_ROWS:,} rows, got {len(frame):,}")
    numbers = frame.select_dtypes("number")
    infinite = [str(name) for name in numbers if bool(np.isinf(numbers[name]).any())]
    if infinite:
        raise ReportError(f"chart {chart!r}: figures must be finite or unknown, got infinity in {', '.join(infinite)}")
    return frame


def kind_color(kinds: Iterable[str], title: str = "kind of operation") -> alt.Color:
    """Color by kind, the same color for the same kind in every chart; only kinds that are there are in the legend."""
    present = set(kinds)
    domain = [kind for kind in (*KINDS, "mixed") if kind in present]
    return _color("kind", domain, [_KIND_COLORS[kind] for kind in domain], title)


def role_color(roles: Iterable[str]) -> alt.Color:
    """Color by role of the data."""
    present = set(roles)
    domain = [role for role in _ROLE_COLORS if role in present]
    return _color("role", domain, [_ROLE_COLORS[role] for role in domain], "role of the bytes")


def subject_color(subjects: Sequence[str]) -> alt.Color:
    """Color by subject, in order of appearance; the legend is below the chart, since labels are long."""
    domain = list(dict.fromkeys(subjects))
    colors = [SUBJECT_COLORS[i % len(SUBJECT_COLORS)] for i in range(len(domain))]
    return _color("subject", domain, colors, "program").legend(orient="bottom", columns=2)


def _color(field: str, domain: list[str], colors: list[str], title: str) -> alt.Color:
    return alt.Color(f"{field}:N").title(title).sort(domain).scale(domain=domain, range=colors)


def decades(values: Iterable[float], margin: float = 1.5) -> tuple[float, float]:
    """Powers of ten that hold all values with a margin, for a logarithmic axis.

    >>> decades([2.0, 500.0])
    (1.0, 1000.0)
    """
    positive = [value for value in values if np.isfinite(value) and value > 0]
    if not positive:
        return 1.0, 10.0
    low, high = min(positive) / margin, max(positive) * margin
    return 10.0 ** floor(log10(low)), 10.0 ** ceil(log10(high))


def powers_of_ten(low: float, high: float) -> list[float]:
    """Where the ticks of a logarithmic axis belong.

    >>> powers_of_ten(0.1, 25.0)
    [0.1, 1.0, 10.0]
    """
    return [10.0**exponent for exponent in range(ceil(log10(low) - 1e-9), floor(log10(high) + 1e-9) + 1)]


def chart_title(text: str, subtitle: str = "") -> alt.TitleParams:
    """A title, and below it what the figures are: measured, predicted or published."""
    return alt.TitleParams(text=text, subtitle=subtitle) if subtitle else alt.TitleParams(text=text)


def themed(chart: alt.typing.ChartType) -> alt.typing.ChartType:
    """The chart with the fonts, colors and sizes that all share."""
    configured: alt.typing.ChartType = (
        chart.configure(font="system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif", background="white")
        .configure_axis(
            labelFontSize=12, titleFontSize=13, titleFontWeight="normal", gridColor="#e6e6e6", labelLimit=360
        )
        .configure_legend(labelFontSize=12, titleFontSize=12, titleFontWeight="normal", symbolSize=110, labelLimit=340)
        .configure_header(labelFontSize=12, titleFontSize=13, labelFontWeight="bold", labelLimit=600)
        .configure_title(
            anchor="start", fontSize=15, subtitleFontSize=12, subtitleColor="#444444", offset=12, limit=WIDTH + 160
        )
        .configure_view(strokeOpacity=0)
    )
    return configured
