"""The page of `roofscape worth`: what each change of a design buys each workload."""

import altair as alt
import pandas as pd

from explorer.designs import binds
from explorer.worth import Worth
from reports.charts.theme import SUBJECT_COLORS, WIDTH, chart_data, chart_title, themed
from reports.formatting import format_change, format_joules, format_number, format_ratio, format_seconds
from reports.report import Figure, Report, Section, TableView, numbers, texts

_FIGURES = {"seconds": "seconds", "joules": "joules", "usd_per_million": "US$ per million"}


def worth_frame(found: Worth) -> pd.DataFrame:
    """One row for each change and workload: figures before and after, and the change relative to before."""
    judged = found.judged
    relative = {name: found.relative(name) for name in _FIGURES}
    rows = [
        {
            "change": change.label,
            "workload": workload,
            "unit": judged.units[w],
            **{f"{name}_before": float(getattr(judged, name)[w, 0]) for name in _FIGURES},
            **{f"{name}_after": float(getattr(judged, name)[w, c + 1]) for name in _FIGURES},
            **{f"{name}_change": float(relative[name][w, c]) for name in _FIGURES},
        }
        for c, change in enumerate(found.changes)
        for w, workload in enumerate(judged.workloads)
    ]
    return pd.DataFrame(rows)


def price_frame(found: Worth) -> pd.DataFrame:
    """One row for each change: what it takes, and which limits of the space it breaks."""
    judged = found.judged
    figures = ("area_mm2", "tdp_w", "bill_usd")
    rows: dict[str, object] = {"change": [change.label for change in found.changes]}
    for name in figures:
        values = getattr(judged, name)
        rows |= {name: values[1:], f"{name}_more": values[1:] - values[0], f"{name}_change": found.relative(name)}
    return pd.DataFrame({**rows, "broken": judged.broken[1:]})


def base_frame(found: Worth) -> pd.DataFrame:
    """One row for each workload: the design itself."""
    judged = found.judged
    parts = list(zip(judged.memory_part[:, 0].tolist(), judged.compute_part[:, 0].tolist(), strict=True))
    return pd.DataFrame(
        {
            "workload": judged.workloads,
            "unit": judged.units,
            **{name: getattr(judged, name)[:, 0] for name in _FIGURES},
            "memory_part": judged.memory_part[:, 0],
            "compute_part": judged.compute_part[:, 0],
            "binds": [binds(*part) for part in parts],
        }
    )


def build_worth_page(found: Worth) -> Report:
    """Findings, bars of every change and workload, prices, the design itself."""
    frame = worth_frame(found)
    return Report(
        title="What a change is worth",
        findings=tuple(sentences(found)),
        sections=(
            Section(
                title="Changes",
                text=f"Around {found.design.label}, one knob at a time. Every figure is predicted.",
                figures=(Figure(chart=worth_chart(frame)),),
                tables=(worth_table(frame), price_table(found)),
            ),
            Section(title="The design itself", tables=(base_table(found),)),
        ),
    )


def sentences(found: Worth) -> list[str]:
    """The change that buys each workload most time, and most for the money."""
    frame, said = worth_frame(found), []
    for workload, rows in frame.groupby("workload", sort=False):
        known = rows[rows["seconds_change"].notna()]
        if known.empty:
            said.append(f"{workload}: the design's memory does not hold it.")
            continue
        fastest = known.iloc[int(known["seconds_change"].argmin())]
        cheapest = known.iloc[int(known["usd_per_million_change"].argmin())]
        said.append(
            f"{workload}: most time by {fastest['change']} ({_by(fastest['seconds_change'])} seconds), most US$ by "
            f"{cheapest['change']} ({_by(cheapest['usd_per_million_change'])} a million)."
        )
    if found.judged.broken[0]:
        said.append(f"The design itself breaks a limit of the space: {found.judged.broken[0]}.")
    breaking = [change.label for change, text in zip(found.changes, found.judged.broken[1:], strict=True) if text]
    if breaking and not found.judged.broken[0]:
        said.append(f"Limits of the space are broken by {', '.join(breaking)}.")
    return said


def worth_table(frame: pd.DataFrame) -> TableView:
    """Every change and workload."""
    columns = (
        *texts(change="change", workload="workload"),
        *numbers(format_seconds, seconds_after="time"),
        *numbers(_by, seconds_change="change"),
        *numbers(format_joules, joules_after="energy"),
        *numbers(_by, joules_change="change"),
        *numbers(format_number, usd_per_million_after="US$/M"),
        *numbers(_by, usd_per_million_change="change"),
    )
    return TableView(title="What it buys", frame=frame, columns=columns, note="For each token or image.")


def price_table(found: Worth) -> TableView:
    """What every change takes."""
    columns = (
        *texts(change="change"),
        *numbers(format_number, area_mm2="mm2"),
        *numbers(_by, area_mm2_change="change"),
        *numbers(format_number, tdp_w="TDP W"),
        *numbers(_by, tdp_w_change="change"),
        *numbers(format_number, bill_usd="bill US$"),
        *numbers(_by, bill_usd_change="change"),
        *texts(broken="breaks"),
    )
    return TableView(title="What it takes", frame=price_frame(found), columns=columns)


def base_table(found: Worth) -> TableView:
    """The design itself on every workload."""
    columns = (
        *texts(workload="workload", unit="for each"),
        *numbers(format_seconds, seconds="time"),
        *numbers(format_joules, joules="energy"),
        *numbers(format_number, usd_per_million="US$/M"),
        *texts(binds="bound by"),
        *numbers(format_ratio, memory_part="memory", compute_part="compute"),
    )
    return TableView(title=found.design.label, frame=base_frame(found), columns=columns)


def worth_chart(frame: pd.DataFrame) -> alt.typing.ChartType:
    """Bars of the change of a figure to choose, by change and workload."""
    long = frame.melt(
        id_vars=["change", "workload"],
        value_vars=[f"{name}_change" for name in _FIGURES],
        var_name="figure",
        value_name="by",
    ).dropna(subset=["by"])
    long["figure"] = long["figure"].map({f"{name}_change": title for name, title in _FIGURES.items()})
    titles = list(_FIGURES.values())
    chosen = alt.param(name="chosen_figure", bind=alt.binding_select(options=titles, name="figure "), value=titles[0])
    workloads = list(dict.fromkeys(frame["workload"]))
    colors = [SUBJECT_COLORS[i % len(SUBJECT_COLORS)] for i in range(len(workloads))]
    chart = (
        alt.Chart(chart_data(long, "worth"))
        .transform_filter("datum.figure === chosen_figure")
        .mark_bar()
        .encode(
            x=alt.X("by:Q").axis(format="+%").title("change of the figure for each token or image"),
            y=alt.Y("change:N").sort(None).title(None).axis(labelLimit=260),
            yOffset=alt.YOffset("workload:N").sort(workloads),
            color=alt.Color("workload:N")
            .sort(workloads)
            .scale(domain=workloads, range=colors)
            .legend(orient="bottom", columns=3),
            tooltip=["change:N", "workload:N", "figure:N", alt.Tooltip("by:Q", format="+.2%")],
        )
        .add_params(chosen)
        .properties(width=WIDTH - 160, height=alt.Step(max(5, 26 // max(1, len(workloads)))))
    )
    return themed(chart.properties(title=chart_title("What each change buys", "left is better; choose a figure below")))


def as_json(found: Worth) -> dict[str, object]:
    """Everything a script may read."""
    return {
        "around": found.design.label,
        "design": base_frame(found).to_dict("records"),
        "prices": price_frame(found).to_dict("records"),
        "changes": worth_frame(found).to_dict("records"),
    }


def _by(change: float) -> str:
    return format_change(1.0 + change)
