"""Charts of a search among chips: the front with its trade-offs, what each parameter is worth, how the search went."""

import warnings
from collections.abc import Sequence
from itertools import combinations

import altair as alt
import numpy as np
import pandas as pd

from explorer.objectives import COSTS_PER_UNIT
from reports.charts.theme import WIDTH, chart_data, chart_title, themed
from reports.frames import MAX_ROWS

_FRONT, _OTHER = "#D55E00", "#bbbbbb"
_HALF = (WIDTH - 120) // 2
_ALL, _ANY = "all, weighted", "any"
TITLES = {
    "seconds_per_unit": "seconds per token or image",
    "joules_per_unit": "joules per token or image",
    "usd_per_million_units": "US$ per million",
    "quality_loss": "1 - quality",
    "area_mm2": "compute silicon [mm2]",
    "die_mm2": "largest die [mm2]",
    "tdp_w": "TDP [W]",
    "bill_usd": "bill of materials [US$]",
}


def most_designs(jobs: int) -> int:
    """Designs that fit the chart: each stands once for every workload, for all of them, and for every objective."""
    return MAX_ROWS // (3 * (jobs + 1))


def by_batch(jobs: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Workload and batch of each job: those named `NAME-bN` that come at every batch are one workload; others "any".

    >>> by_batch(["ar-b1", "ar-b8", "flux-b1", "flux-b8", "few-steps-b1", "toy"])["ar-b8"]
    ('ar', '8')
    >>> by_batch(["ar-b1", "ar-b8", "few-steps-b1"])["few-steps-b1"]
    ('few-steps-b1', 'any')
    """
    batches: dict[str, set[str]] = {}
    for job in jobs:
        name, _, batch = job.rpartition("-b")
        if name and batch.isdecimal():
            batches.setdefault(name, set()).add(batch)
    every = max(batches.values(), key=len, default=set())
    split = {}
    for job in jobs:
        name, _, batch = job.rpartition("-b")
        together = len(every) > 1 and batches.get(name) == every
        split[job] = (name, batch) if together else (job, _ANY)
    return split


def front_chart(
    designs: pd.DataFrame,
    jobs: Sequence[str],
    parameters: Sequence[str],
    objectives: Sequence[str],
    marked: str = "beaten by no other",
) -> alt.typing.ChartType:
    """Designs by a workload, a batch and an objective to choose; brush one chart, the other follows; hover shows one.

    Args:
        designs: rows of `Exploration.all_frame` with a column `on_front`.
        jobs: names of the workloads.
        parameters: names of what varies.
        objectives: of the search, of which those per workload can be chosen.
        marked: what `on_front` says of a design.
    """
    views = [(_ALL, _ANY, ""), *((*split, f"{job}.") for job, split in by_batch(jobs).items())]
    # A workload that no design holds has nothing to show, and then all together have none either.
    views = [view for view in views if _has_values(designs, view[2])] or views
    choices, chosen = _menus(views, objectives)
    brush = alt.selection_interval(name="brush")
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("design", *parameters)]
    tooltip += [
        alt.Tooltip("value:Q", format=".4g"),
        alt.Tooltip("area_mm2:Q", format=".0f"),
        alt.Tooltip("tdp_w:Q", format=".0f"),
        alt.Tooltip("bill_usd:Q", format=",.0f"),
        alt.Tooltip("memory_part:N", title="time bound by memory"),
    ]
    color = alt.when(brush).then(
        alt.Color("on_front:N")
        .scale(domain=[True, False], range=[_FRONT, _OTHER])
        .title(marked)
        .legend(orient="bottom")
    )
    base = (
        alt.Chart(_rows(designs, views, parameters))
        .transform_filter(chosen)
        .mark_point(filled=True, size=36, opacity=0.8)
        .encode(
            y=alt.Y("value:Q").scale(type="log", nice=False, padding=12).title("chosen objective"),
            color=color.otherwise(alt.value("#eeeeee")),
            tooltip=tooltip,
        )
        .properties(width=_HALF, height=300)
        .add_params(brush)
    )
    across = [
        base.encode(x=alt.X(f"{name}:Q").scale(zero=False, nice=True).title(TITLES[name]))
        for name in ("area_mm2", "tdp_w")
    ]
    with warnings.catch_warnings():  # one brush for both is meant
        warnings.filterwarnings("ignore", "Automatically deduplicated selection parameter")
        charts = alt.hconcat(*across).add_params(*choices)
    return themed(charts.properties(title=chart_title("Designs", "choose below; brush one chart, the other follows")))


def tradeoff_chart(designs: pd.DataFrame, parameters: Sequence[str], objectives: Sequence[str]) -> alt.typing.ChartType:
    """Every pair of the search's objectives against each other, over all workloads; down and left is better.

    Args:
        designs: rows of `Exploration.all_frame` with a column `on_front`.
        parameters: names of what varies.
        objectives: of the search, two or more.
    """
    columns = list(dict.fromkeys(("design", "on_front", *parameters, *objectives)))
    rows = designs[columns].replace([np.inf, -np.inf], np.nan).dropna(subset=list(objectives))
    base = (
        alt.Chart(chart_data(rows.sort_values("on_front"), "objectives against each other"))
        .mark_point(filled=True, size=36, opacity=0.8)
        .encode(
            color=alt.Color("on_front:N")
            .scale(domain=[True, False], range=[_FRONT, _OTHER])
            .title("beaten by no other")
            .legend(orient="bottom"),
            tooltip=[alt.Tooltip(f"{name}:N") for name in ("design", *parameters)]
            + [alt.Tooltip(f"{name}:Q", format=".4g") for name in objectives],
        )
        .properties(width=_HALF, height=260)
    )
    pairs = [
        base.encode(x=_objective_axis(alt.X, first), y=_objective_axis(alt.Y, second))
        for first, second in combinations(objectives, 2)
    ]
    rows_of_two = [alt.hconcat(*pairs[start : start + 2]) for start in range(0, len(pairs), 2)]
    title = chart_title("Objectives against each other", "all workloads, weighted; down and left is better")
    return themed(alt.vconcat(*rows_of_two).properties(title=title))


def _objective_axis(channel: "type[alt.X] | type[alt.Y]", name: str) -> "alt.X | alt.Y":
    scale = {"zero": False} if name == "quality_loss" else {"type": "log", "nice": False, "padding": 12}
    return channel(f"{name}:Q").scale(**scale).title(TITLES[name])


def _menus(views: Sequence[tuple[str, str, str]], objectives: Sequence[str]) -> tuple[list[alt.Parameter], str]:
    """The menus below the chart, and the filter that shows what is chosen in them."""
    titles = [TITLES[name] for name in COSTS_PER_UNIT]
    first = next((TITLES[name] for name in objectives if name in COSTS_PER_UNIT), titles[0])
    menus = [_choice("workload", list(dict.fromkeys(title for title, _, _ in views)), views[0][0])]
    chosen = ["datum.workload === chosen_workload", "datum.objective === chosen_objective"]
    batches = sorted({batch for _, batch, _ in views if batch != _ANY}, key=int)
    if batches:
        menus.append(_choice("batch", batches, batches[0]))
        chosen.append(f"(datum.batch === '{_ANY}' || datum.batch === chosen_batch)")
    return [*menus, _choice("objective", titles, first)], " && ".join(chosen)


def _has_values(designs: pd.DataFrame, prefix: str) -> bool:
    return bool(np.isfinite(designs[[f"{prefix}{name}" for name in COSTS_PER_UNIT]].to_numpy(dtype=np.float64)).any())


def _choice(what: str, options: Sequence[str], value: str) -> alt.Parameter:
    """A menu below the chart; the filter reads `chosen_<what>`."""
    menu = alt.binding_select(options=list(options), name=f"{what} ")
    return alt.param(name=f"chosen_{what}", bind=menu, value=value)


def _rows(designs: pd.DataFrame, views: Sequence[tuple[str, str, str]], parameters: Sequence[str]) -> pd.DataFrame:
    """One row a design, view (workload, batch and the prefix of its columns) and objective that has a value."""
    per_job = list(COSTS_PER_UNIT)
    columns = ["design", "on_front", *parameters, "area_mm2", "tdp_w", "bill_usd"]
    rows = pd.concat(
        [
            designs[columns].assign(
                workload=title,
                batch=batch,
                **{name: designs[f"{prefix}{name}"] for name in per_job},
                memory_part=_percent(designs[f"{prefix}memory_part"]) if prefix else "choose a workload",
            )
            for title, batch, prefix in views
        ],
        ignore_index=True,
    )
    long = rows.melt(id_vars=[name for name in rows if name not in per_job], var_name="objective", value_name="value")
    long["objective"] = long["objective"].map(TITLES)
    long = long.replace([np.inf, -np.inf], np.nan)
    return chart_data(long[long["value"].notna()], "designs")


def _percent(parts: pd.Series) -> pd.Series:
    """Parts as a tooltip shows them, and in words where there are none."""
    return parts.map(lambda part: "unknown" if pd.isna(part) else f"{part:.0%}")


def steps_chart(steps: pd.DataFrame) -> alt.typing.ChartType:
    """What one step of each parameter does to each objective around the knee of the front."""
    rows = chart_data(steps[steps["change"].notna()], "steps").assign(
        label=lambda frame: frame["parameter"] + ": " + frame["step"]
    )
    chart = (
        alt.Chart(rows)
        .mark_bar()
        .encode(
            x=alt.X("change:Q").axis(format="+%").title("change of the objective"),
            y=alt.Y("label:N").sort(None).title(None).axis(labelLimit=260),
            color=alt.condition("datum.change < 0", alt.value("#009E73"), alt.value(_FRONT)),
            opacity=alt.condition("datum.feasible", alt.value(1.0), alt.value(0.35)),
            column=alt.Column("objective:N").title(None),
            tooltip=["parameter:N", "step:N", "objective:N", alt.Tooltip("change:Q", format="+.2%"), "feasible:N"],
        )
        .properties(width=170)
    )
    title = chart_title("One step from the knee", "left is better; pale: breaks a constraint")
    return themed(chart.properties(title=title))


def curve_chart(curve: pd.DataFrame) -> alt.typing.ChartType:
    """Hypervolume of the front so far against evaluations."""
    chart = (
        alt.Chart(chart_data(curve, "hypervolume"))
        .mark_line(interpolate="step-after", color=_FRONT)
        .encode(
            x=alt.X("evaluations:Q").title("designs evaluated"),
            y=alt.Y("hypervolume:Q").title("hypervolume of the front, part of its box"),
        )
    )
    return themed(chart.properties(width=WIDTH, height=220, title=chart_title("How the search went")))
