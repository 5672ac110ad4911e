"""The page of `roofscape mix`: the chip for every share of autoregression and denoising."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from explorer.mixes import DesignTable
from reports.charts.exploration import TITLES
from reports.charts.theme import WIDTH, chart_data, chart_title, themed
from reports.formatting import format_change, format_count, format_joules, format_number, format_ratio, format_seconds
from reports.report import Column, Figure, Report, Section, TableView, numbers

_WRITE = {"seconds_per_unit": format_seconds, "joules_per_unit": format_joules}


def build_mix_page(rows: pd.DataFrame, table: DesignTable, *, objective: str, title: str) -> Report:
    """Findings, what the chip of each mix loses on either kind of work, and the chips."""
    return Report(
        title=title,
        findings=tuple(sentences(rows, table, objective=objective)),
        sections=(
            Section(
                title="The chip for a mix",
                text=(
                    f"For every share of autoregression the design with the least {TITLES[objective]}, both kinds of "
                    "work weighted by their shares (geometric mean), and what it gives up on either against that "
                    "work's best. Every figure is predicted."
                ),
                figures=(Figure(chart=mix_chart(rows, loss="more than its best chip takes")),),
                tables=(mix_table(rows, table, objective=objective),),
            ),
        ),
    )


def sentences(rows: pd.DataFrame, table: DesignTable, *, objective: str) -> list[str]:
    """How far apart both ends are, and the mix that loses least on its worse side."""
    jobs = {kind: table.group(kind) for kind in ("autoregressive", "")}
    left_out = [job for group in jobs.values() for job in group if job not in table.held(group)]
    first, last = rows.iloc[0], rows.iloc[-1]
    worse = rows[["loss_autoregression", "loss_denoising"]].max(axis=1)
    middle = rows.iloc[int(worse.argmin())]
    designs = int(rows["design"].nunique())
    said = [
        f"{format_count(len(table.index))} designs hold the constraints; {designs} of them "
        f"{'is' if designs == 1 else 'are'} best for some share, by {TITLES[objective]}.",
        f"The chip for denoising alone (design {int(first['design'])}) loses "
        f"{format_ratio(float(first['loss_autoregression']))} on autoregression; the chip for autoregression alone "
        f"(design {int(last['design'])}) loses {format_ratio(float(last['loss_denoising']))} on denoising.",
        f"Of the chips for mixes, design {int(middle['design'])} (for {format_ratio(float(middle['autoregression']))} "
        f"autoregression) loses least on its worse side: {format_ratio(float(middle['loss_autoregression']))} on "
        f"autoregression, {format_ratio(float(middle['loss_denoising']))} on denoising.",
        f"Peak FLOPs per byte go from {format_number(float(first['ridge']))} for denoising alone to "
        f"{format_number(float(last['ridge']))} for autoregression alone.",
    ]
    if left_out:
        said.append(f"Left out, since some designs' memory does not hold them: {', '.join(left_out)}.")
    return said


def mix_table(rows: pd.DataFrame, table: DesignTable, *, objective: str) -> TableView:
    """The chip of every mix: parameters, what it loses, what it takes."""
    write = _WRITE.get(objective, format_number)
    columns = (
        *numbers(format_ratio, autoregression="autoregression"),
        *numbers(format_count, design="design"),
        *(Column(name=name, header=name, write=_value, is_number=True) for name in table.space.names),
        *numbers(format_number, ridge="FLOP/byte", area_mm2="mm2", tdp_w="TDP W", bill_usd="bill US$"),
        *numbers(write, mean_autoregression="AR", mean_denoising="denoising"),
        *numbers(_by, loss_autoregression="AR, over its best", loss_denoising="denoising, over its best"),
    )
    return TableView(title=f"Least {TITLES[objective]}", frame=rows, columns=columns)


def mix_chart(rows: pd.DataFrame, *, loss: str = "slower than the best chip for that work") -> alt.typing.ChartType:
    """What the chip of each mix loses on either kind of work."""
    long = rows.melt(
        id_vars=["autoregression", "ridge", "design"],
        value_vars=["loss_autoregression", "loss_denoising"],
        var_name="work",
        value_name="loss",
    ).assign(work=lambda table: table["work"].str.removeprefix("loss_"))
    chart = (
        alt.Chart(chart_data(long, "mixes"))
        .mark_line(point=True)
        .encode(
            x=alt.X("autoregression:Q").axis(format="%").title("share of autoregression in the mix"),
            y=alt.Y("loss:Q").axis(format="%").title(loss),
            color=alt.Color("work:N").legend(orient="bottom").scale(range=["#0072B2", "#D55E00"]),
            tooltip=["work:N", "design:N", alt.Tooltip("loss:Q", format=".1%"), alt.Tooltip("ridge:Q", format=".0f")],
        )
    )
    return themed(chart.properties(width=WIDTH - 100, height=260, title=chart_title("A chip for a mix of both")))


def mix_frame(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    """One row for each share."""
    return pd.DataFrame(rows)


def _by(loss: float) -> str:
    return format_change(1.0 + loss)


def _value(value: object) -> str:
    return format_number(float(value)) if isinstance(value, int | float) and value % 1 else str(value)
