"""The page of `roofscape crossover`: the map for several batches, chips on it, and how far the map is off."""

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from explorer.crossover import Placed, dense_ratio
from reports.charts.theme import WIDTH, chart_data, chart_title, themed
from reports.formatting import format_change, format_count, format_factor, format_number, format_ratio
from reports.report import Figure, Report, Section, TableView, numbers, texts

_RIDGES = np.geomspace(10, 3000, 40)
_VISITS = np.geomspace(1, 2000, 40)
_TOKENS_PER_FORWARD = 4.0


def placed_frame(placed: Sequence[Placed], *, batch: int) -> pd.DataFrame:
    """One row for each chip and pair of programs."""
    columns = ("chip", "autoregression", "diffusion", "visits", "ridge", "closed_ratio", "simulated_ratio", "error")
    rows = [{"batch": batch, **{name: getattr(each, name) for name in columns}} for each in placed]
    return pd.DataFrame(rows, columns=["batch", *columns])


def build_crossover_page(placed: pd.DataFrame) -> Report:
    """The map with its chips, and the table of every chip and program."""
    return Report(
        title="Where diffusion overtakes autoregression",
        findings=tuple(sentences(placed)),
        sections=(
            Section(
                title="The map",
                text=(
                    "Time of a token by autoregression over that by diffusion, for a dense model in 16 bits that emits "
                    f"{format_number(_TOKENS_PER_FORWARD)} tokens a forward: diffusion is faster in blue. Rows visited "
                    "for each token are what caches and blocks save. Points are chips with real programs, colored by "
                    "their simulation."
                ),
                figures=(Figure(chart=crossover_chart(placed)),),
            ),
            Section(
                title="Closed form over simulation",
                text=(
                    "On the line both agree. The closed form knows four figures of a chip, each of one kernel: the "
                    "rate of a large product, of its weights read for one row, the time of a small product, and the "
                    "rate of attention with so many queries. Simulation plans every kernel of the run."
                ),
                figures=(Figure(chart=agreement_chart(placed)),),
            ),
            Section(title="Chips and programs", tables=(placed_table(placed),)),
        ),
    )


def sentences(placed: pd.DataFrame) -> list[str]:
    """Who wins where, and how far the closed form is off."""
    known = placed[placed["simulated_ratio"].notna()]
    found = []
    if len(known):
        errors = known["error"].abs()
        found.append(
            f"The closed form is off by {format_ratio(float(errors.mean()))} on average and "
            f"{format_ratio(float(errors.max()))} at most, over {format_count(len(known))} simulated pairs on "
            f"{format_count(known['chip'].nunique())} chips; it picks the faster of the two in "
            f"{format_ratio(float(((known['closed_ratio'] > 1) == (known['simulated_ratio'] > 1)).mean()))} of them."
        )
    for (batch, diffusion), rows in known.groupby(["batch", "diffusion"], sort=False):
        wins = int((rows["simulated_ratio"] > 1).sum())
        found.append(
            f"{diffusion} at batch {batch}, {format_number(float(rows['visits'].iloc[0]))} times the FLOPs a token: "
            f"faster than autoregression on {format_count(wins)} of {format_count(len(rows))} chips "
            f"({format_factor(float(rows['simulated_ratio'].min()))} to "
            f"{format_factor(float(rows['simulated_ratio'].max()))})."
        )
    lost = placed[placed["simulated_ratio"].isna()]
    if len(lost):
        names = ", ".join(sorted(set(lost["chip"])))
        found.append(f"Too small for some of the runs: {names}.")
    return found


def placed_table(placed: pd.DataFrame) -> TableView:
    """Every chip with every program."""
    columns = (
        *texts(chip="chip", diffusion="diffusion"),
        *numbers(format_count, batch="batch"),
        *numbers(format_number, ridge="FLOP/byte", visits="FLOPs a token, over AR's"),
        *numbers(format_factor, closed_ratio="closed form", simulated_ratio="simulated"),
        *numbers(lambda error: format_change(1.0 + error), error="difference"),
    )
    return TableView(title="Time of a token, autoregression over diffusion", frame=placed, columns=columns)


def agreement_chart(placed: pd.DataFrame) -> alt.typing.ChartType:
    """Every chip and pair of programs: the closed form against the simulation."""
    points = placed[placed["simulated_ratio"].notna()]
    ends = [float(points[["closed_ratio", "simulated_ratio"]].min().min()) if len(points) else 0.1]
    ends.append(float(points[["closed_ratio", "simulated_ratio"]].max().max()) if len(points) else 10.0)
    line = alt.Chart(pd.DataFrame({"simulated_ratio": ends, "closed_ratio": ends})).mark_line(color="#999999")
    x = alt.X("simulated_ratio:Q").scale(type="log", nice=True).title("simulated: AR's time over diffusion's")
    y = alt.Y("closed_ratio:Q").scale(type="log", nice=True).title("closed form")
    dots = (
        alt.Chart(chart_data(points, "pairs"))
        .mark_point(filled=True, size=50)
        .encode(
            x=x,
            y=y,
            color=alt.Color("diffusion:N").legend(orient="bottom").title(None),
            tooltip=["chip:N", "diffusion:N", "batch:O", alt.Tooltip("error:Q", format="+.1%", title="difference")],
        )
    )
    chart = alt.layer(line.encode(x=x, y=y), dots).properties(width=WIDTH - 80, height=320)
    return themed(chart.properties(title=chart_title("Closed form and simulation", "above 1 diffusion is faster")))


def crossover_chart(placed: pd.DataFrame) -> alt.typing.ChartType:
    """The map for a batch to choose, with chips."""
    batches = [int(batch) for batch in placed["batch"].unique()]
    points = placed[placed["simulated_ratio"].notna()].assign(
        advantage=lambda rows: np.log2(rows["simulated_ratio"]),
        ratio=lambda rows: [format_factor(value) for value in rows["simulated_ratio"]],
    )
    chosen = alt.param(name="chosen_batch", bind=alt.binding_select(options=batches, name="batch "), value=batches[0])
    color = (
        alt.Color("advantage:Q")
        .scale(scheme="redblue", domain=[-4, 4], clamp=True)
        .title("log2 of the advantage of diffusion")
    )
    x = alt.X("ridge:Q").scale(type="log", nice=False, domain=[10, 3000]).title("FLOP per byte of the chip, achieved")
    y = (
        alt.Y("visits:Q")
        .scale(type="log", nice=False, domain=[1, 2000])
        .title("FLOPs of a token by diffusion, over autoregression's")
    )
    ground = (
        alt.Chart(chart_data(_cells(batches), "crossover"))
        .transform_filter("datum.batch === chosen_batch")
        .mark_square(size=150, opacity=0.55)
        .encode(x=x, y=y, color=color)
    )
    chips = (
        alt.Chart(chart_data(points, "chips"))
        .transform_filter("datum.batch === chosen_batch")
        .mark_point(filled=True, size=90, stroke="black", strokeWidth=1)
        .encode(
            x=x,
            y=y,
            fill=color,
            tooltip=["chip:N", "diffusion:N", "ratio:N", alt.Tooltip("error:Q", format="+.1%", title="closed form")],
        )
    )
    chart = alt.layer(ground, chips).add_params(chosen).properties(width=WIDTH - 80, height=420)
    return themed(chart.properties(title=chart_title("Where diffusion overtakes", "choose a batch below")))


def _cells(batches: Sequence[int]) -> pd.DataFrame:
    """The ground of the map: the closed form at every cell, one map a batch."""
    ridge, visits = np.meshgrid(_RIDGES, _VISITS, indexing="ij")
    maps = []
    for batch in batches:
        ratio = dense_ratio(ridge, visits, batch=batch, tokens_per_forward=_TOKENS_PER_FORWARD)
        columns = {"ridge": ridge.ravel(), "visits": visits.ravel(), "advantage": np.log2(ratio).ravel()}
        maps.append(pd.DataFrame({"batch": batch, **columns}))
    return pd.concat(maps, ignore_index=True)
