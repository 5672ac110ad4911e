"""The hierarchical roofline chart: ceilings of a chip, and points by basis, kind and share of time."""

from math import atan2, degrees, log10
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from reports.charts.theme import (
    BASIS_SHAPES,
    HEIGHT,
    WIDTH,
    chart_data,
    chart_title,
    decades,
    kind_color,
    powers_of_ten,
    subject_color,
    themed,
)
from reports.formatting import (
    format_bytes,
    format_bytes_per_s,
    format_count,
    format_flops,
    format_flops_per_s,
    format_intensity,
    format_ratio,
    format_seconds,
    shorten,
)

Limits = tuple[tuple[float, float], tuple[float, float]]

_SUBTITLES = {
    "measured": "circles: measured on this chip",
    "simulated": "triangles: simulated (predicted)",
    "bound": "diamonds: roofline bound, the least time",
}
# Pixels that the label of a slanted line takes.
_LABEL_WIDTH = 105
_LABEL_HEIGHT = 17
# Room above the highest peak, for its label.
_HEADROOM = 2.5
_CEILING_COLOR = "#666666"

# A phase with less of its program's time than this says nothing on a chart.
_DRAWN_SHARE = 0.01


def kind_roofline(points: pd.DataFrame, ceilings: pd.DataFrame, title: str) -> alt.typing.ChartType:
    """Points of one subject under its chip's roofline, colored by kind.

    Args:
        points: rows of `Tables.points` of one subject and grouping.
        ceilings: rows of `Tables.ceilings` of the same subject.
        title: of the chart.
    """
    return _roofline(points, ceilings, title, kind_color(points["kind"]))


def drawn_phases(points: pd.DataFrame, chip: str) -> pd.DataFrame:
    """Rows of `Tables.points` that `phase_roofline` is for: one chip's phases with a share in their program's time."""
    is_phase = (points["chip"] == chip) & (points["grouping"] == "phase")
    return points[is_phase & (points["share"] >= _DRAWN_SHARE)]


def phase_roofline(points: pd.DataFrame, ceilings: pd.DataFrame, title: str) -> alt.typing.ChartType:
    """Phases of several subjects under the roofline of the chip that they share, colored by subject."""
    lines = ceilings.drop_duplicates(["label", "flops_per_s", "bytes_per_s"])
    return _roofline(points, lines, title, subject_color(points["subject"].tolist()), names=True)


def _roofline(
    points: pd.DataFrame, ceilings: pd.DataFrame, title: str, color: alt.Color, *, names: bool = False
) -> alt.typing.ChartType:
    drawn = chart_data(_with_texts(points[points["undrawn"] == ""]), title)
    limits = _limits(drawn, ceilings)
    layers = [*_ceiling_layers(_ceiling_lines(ceilings, limits), limits), _point_layer(drawn, limits, color)]
    if names:
        layers += _name_layers(drawn, limits)
    bases = [basis for basis in _SUBTITLES if basis in set(drawn["basis"])]
    subtitle = "; ".join(_SUBTITLES[basis] for basis in bases)
    chart = alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=chart_title(title, subtitle))
    return themed(chart)


def _with_texts(points: pd.DataFrame) -> pd.DataFrame:
    """The points with their figures written out, for tooltips."""
    return points.assign(
        label=points["label"].map(shorten),
        share=points["share"].fillna(0.0),
        intensity_text=points["intensity"].map(format_intensity),
        rate_text=points["flops_per_s"].map(format_flops_per_s),
        time_text=points["duration_s"].map(format_seconds),
        flops_text=points["flops"].map(format_flops),
        bytes_text=points["bytes"].map(format_bytes),
        calls_text=points["calls"].map(format_count),
        share_text=points["share"].map(format_ratio),
        efficiency_text=[
            "is the bound" if basis == "bound" else format_ratio(efficiency)
            for basis, efficiency in zip(points["basis"], points["efficiency"], strict=True)
        ],
    )


def _limits(points: pd.DataFrame, ceilings: pd.DataFrame) -> Limits:
    """Axis limits that hold all points, the ridge points of all memories, and the highest peak."""
    peaks = ceilings["flops_per_s"].dropna()
    slopes = ceilings["bytes_per_s"].dropna()
    ridges = [peaks.max() / slope for slope in slopes] if len(peaks) else []
    x = decades([*points["intensity"], *ridges])
    # A point far below everything would squeeze the rest, so the axis begins at the lowest point, not at the lines.
    rates = [*points["flops_per_s"], *peaks]
    return x, (decades(rates)[0], _HEADROOM * max(rates))


def _ceiling_lines(ceilings: pd.DataFrame, limits: Limits) -> pd.DataFrame:
    """Both ends of each line inside the axes, and its label."""
    (x_low, x_high), (y_low, _) = limits
    peak = float(ceilings["flops_per_s"].max())
    fastest = float(ceilings["bytes_per_s"].max())
    rows: list[dict[str, object]] = []
    flat = ceilings.dropna(subset=["flops_per_s"])
    for height, group in flat.groupby("flops_per_s"):
        label = _peak_label(group)
        start = max(x_low, float(height) / fastest)  # type: ignore[arg-type]  # the key of a float column
        rows += [{"line": label, "end": i, "x": x, "y": height} for i, x in enumerate((start, x_high))]
    memories = ceilings.dropna(subset=["bytes_per_s"]).sort_values("bytes_per_s", ascending=False, kind="stable")
    for name, bytes_per_s in zip(memories["label"].astype(str), memories["bytes_per_s"].astype(float), strict=True):
        label = f"{name} {format_bytes_per_s(bytes_per_s)}"
        ends = (max(x_low, y_low / bytes_per_s), min(x_high, peak / bytes_per_s))
        rows += [{"line": label, "end": i, "x": x, "y": x * bytes_per_s} for i, x in enumerate(ends)]
    return pd.DataFrame(rows, columns=["line", "end", "x", "y"])


def _peak_label(group: pd.DataFrame) -> str:
    """`bfloat16 matrix 989 TFLOP/s`; types of the same peak share a line."""
    units = group.groupby(["resource"], sort=False)["dtype"].agg("/".join)
    names = {"compute": "matrix", "vector": "vector"}
    text = ", ".join(f"{dtypes} {names[str(resource)]}" for resource, dtypes in units.items())
    return f"{text} {format_flops_per_s(float(group['flops_per_s'].iloc[0]))}"


def _axes(limits: Limits) -> tuple[alt.X, alt.Y]:
    x = alt.X("x:Q").scale(type="log", domain=list(limits[0]), nice=False, clamp=False)
    y = alt.Y("y:Q").scale(type="log", domain=list(limits[1]), nice=False, clamp=False)
    x = x.axis(title="arithmetic intensity, main memory (FLOP/byte)", format=",~g", values=powers_of_ten(*limits[0]))
    return x, y.axis(title="achieved rate (FLOP/s)", format="~s", values=powers_of_ten(*limits[1]))


def _ceiling_layers(lines: pd.DataFrame, limits: Limits) -> list[alt.Chart]:
    x, y = _axes(limits)
    strokes = (
        alt.Chart(lines)
        .mark_line(color=_CEILING_COLOR, strokeWidth=1.5, clip=True)
        .encode(x=x, y=y, detail="line:N", order="end:Q")
    )
    flat = lines.groupby("line").filter(lambda ends: ends["y"].nunique() == 1)
    slanted = lines[~lines["line"].isin(flat["line"])]
    # In pixels a slanted line rises by one decade of y per decade of x.
    (x_low, x_high), (y_low, y_high) = limits
    angle = -degrees(atan2(HEIGHT / log10(y_high / y_low), WIDTH / log10(x_high / x_low)))
    peaks = alt.Chart(flat[flat["end"] == 1]).encode(x=x, y=y, text="line:N")
    slopes = alt.Chart(_spread_labels(slanted, limits)).encode(x=x, y=y, text="line:N")
    return [
        strokes,
        *_haloed(peaks, align="right", dx=-4, dy=-7, fontSize=11),
        *_haloed(slopes, align="left", angle=angle % 360, dx=8, dy=-7, fontSize=11),
    ]


def _spread_labels(slanted: pd.DataFrame, limits: Limits) -> pd.DataFrame:
    """Where the slanted lines' labels begin: at their lower ends, further along where the line above is close."""
    (x_low, x_high), (y_low, y_high) = limits
    pixels_per_decade = HEIGHT / log10(y_high / y_low)
    step = 10 ** (_LABEL_WIDTH / WIDTH * log10(x_high / x_low))
    above, shift = float("inf"), 1.0
    rows = []
    for line, x, y in slanted[slanted["end"] == 0][["line", "x", "y"]].itertuples(index=False):
        is_close = log10(above / (y / x)) * pixels_per_decade < _LABEL_HEIGHT if above < float("inf") else False
        above, shift = y / x, shift * step if is_close else 1.0
        rows.append({"line": line, "x": x * shift, "y": y * shift})
    return pd.DataFrame(rows, columns=["line", "x", "y"])


def _haloed(labels: alt.Chart, **style: Any) -> list[alt.Chart]:
    """Text over a white copy of itself, so that lines behind it do not cross it out."""
    halo = labels.mark_text(color="white", stroke="white", strokeWidth=4, **style)
    return [halo, labels.mark_text(color="#333333", **style)]


def _point_layer(points: pd.DataFrame, limits: Limits, color: alt.Color) -> alt.Chart:
    bases = [basis for basis in BASIS_SHAPES if basis in set(points["basis"])]
    shape = alt.Shape("basis:N").title("basis").scale(domain=bases, range=[BASIS_SHAPES[basis] for basis in bases])
    x, y = _axes(limits)
    x.shorthand, y.shorthand = "intensity:Q", "flops_per_s:Q"
    layer: alt.Chart = (
        alt.Chart(points)
        .mark_point(filled=True, opacity=0.75, stroke="white", strokeWidth=0.6, clip=True)
        .encode(
            x=x,
            y=y,
            color=color,
            shape=shape.legend(symbolFillColor="#666666", symbolStrokeWidth=0),
            size=alt.Size("share:Q").title("share of time").scale(domain=[0, 1], range=[30, 450]).legend(format="%"),
            tooltip=[
                alt.Tooltip("label:N").title("operation"),
                alt.Tooltip("subject:N").title("program"),
                alt.Tooltip("phase:N").title("phase"),
                alt.Tooltip("basis:N").title("basis"),
                alt.Tooltip("intensity_text:N").title("intensity"),
                alt.Tooltip("rate_text:N").title("rate"),
                alt.Tooltip("time_text:N").title("time, all calls"),
                alt.Tooltip("share_text:N").title("share of time"),
                alt.Tooltip("efficiency_text:N").title("bound / time"),
                alt.Tooltip("bound_by:N").title("bound by"),
                alt.Tooltip("flops_text:N").title("FLOPs"),
                alt.Tooltip("bytes_text:N").title("bytes"),
                alt.Tooltip("calls_text:N").title("calls"),
            ],
        )
    )
    return layer


def _name_layers(points: pd.DataFrame, limits: Limits) -> list[alt.Chart]:
    x, y = _axes(limits)
    x.shorthand, y.shorthand = "intensity:Q", "flops_per_s:Q"
    order = {basis: i for i, basis in enumerate(("simulated", "measured", "bound"))}
    ranked = points.assign(rank=points["basis"].map(order)).sort_values("rank", kind="stable")
    named = _merge_close(ranked.drop_duplicates(["subject", "label"]))
    # Names lie where there is room: right of what lies left, and the other way round.
    middle = (limits[0][0] * limits[0][1]) ** 0.5
    layers = []
    for rows, align, dx in ((named["intensity"] < middle, "left", 14), (named["intensity"] >= middle, "right", -14)):
        if rows.any():
            labels = alt.Chart(named[rows]).encode(x=x, y=y, text="names:N")
            layers += _haloed(labels, align=align, dx=dx, fontSize=12)
    return layers


def _merge_close(named: pd.DataFrame) -> pd.DataFrame:
    """Points whose names would overlap share one: those in the same third of a decade on both axes."""
    cell = [np.round(np.log10(named[axis]) * 3).astype(int) for axis in ("intensity", "flops_per_s")]
    groups = named.groupby(cell, sort=False)
    return groups.agg(
        intensity=("intensity", "min"),
        flops_per_s=("flops_per_s", "mean"),
        names=("label", lambda labels: ", ".join(dict.fromkeys(labels))),
    ).reset_index(drop=True)
