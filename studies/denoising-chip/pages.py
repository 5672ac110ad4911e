"""The study's report: the question, the claims one by one with their evidence, and what to build."""

import altair as alt
import answers
import numpy as np
import pandas as pd

from explorer.mixes import DesignTable
from explorer.objectives import LIMITS
from reports.charts.exploration import front_chart, most_designs
from reports.charts.theme import WIDTH, chart_data, chart_title, themed
from reports.formatting import (
    format_change,
    format_count,
    format_factor,
    format_joules,
    format_number,
    format_ratio,
    format_seconds,
    format_text,
)
from reports.mix_page import mix_chart
from reports.report import Column, Figure, Report, Section, TableView, numbers, texts

_OBJECTIVE_TITLES = {
    "seconds_per_unit": "time",
    "joules_per_unit": "energy",
    "usd_per_million_units": "cost",
}


def build(found: answers.Answers, table: DesignTable) -> Report:
    """The page."""
    return Report(
        title="A chip for parallel denoising",
        findings=tuple(findings(found)),
        sections=(
            Section(
                title="Designs",
                text=(
                    f"GPU-like chips of one die: {_limits(found)}. Choose a workload, a batch and an objective, brush "
                    "a region; hover shows a design. Orange: the best for autoregression, for denoising, and for "
                    "mixes of both."
                ),
                figures=(Figure(chart=designs_chart(found, table)),),
            ),
            Section(
                title="Is autoregression bound by memory whatever the chip? Is denoising bound by compute?",
                text="Part of the kernels' time in which memory binds, over all designs that hold the constraints.",
                figures=(Figure(chart=bound_chart(found)),),
                tables=(bound_table(found),),
            ),
            Section(
                title="The best chip of each kind of work",
                text="What each loses on the other's work is what specialization is worth.",
                tables=(best_table(found), regret_table(found)),
            ),
            Section(
                title="What each part of a chip is worth",
                text=(
                    "Elasticity of time: its change over the small change that makes it, each as a part of the whole. "
                    "Below zero more makes the work faster, all else equal."
                ),
                figures=(Figure(chart=worth_chart(found)),),
            ),
            Section(
                title="A chip for both",
                text="The fastest design for a mix, and what it gives up on either kind of work.",
                figures=(Figure(chart=mix_chart(pd.DataFrame(found.mixes))),),
            ),
            Section(
                title="Steps buy quality",
                text=(
                    "Published scores of LLaDA-8B at operating points of this study, and what a token costs there, "
                    "predicted. Scores of different series do not compare."
                ),
                tables=(quality_table(found),),
            ),
            Section(
                title="Where GPUs have gone",
                text=(
                    "Real GPUs with the same kernel constants: FLOPs per byte of memory bandwidth, and time over the "
                    "best design of the space. Two dies, or more stacks than the space allows, can beat that."
                ),
                tables=(gpu_table(found),),
            ),
            Section(
                title="How far to trust it",
                text=(
                    "Kernel constants are those of H100 on designs that do not exist; docs/validation.md tells how far "
                    "they move between real chips, docs/area-power-cost.md how far area, power and cost are off. "
                    "Nothing here was measured on silicon."
                ),
            ),
        ),
    )


def _limits(found: answers.Answers) -> str:
    """The constraints in words."""
    words = {"die_mm2": "a die of {} mm2", "area_mm2": "{} mm2", "tdp_w": "{} W", "bill_usd": "{} US$ of materials"}
    limits = [words[LIMITS[name]].format(format_number(value)) for name, value in found.limits.items()]
    return f"at most {_listed(limits)}"


def findings(found: answers.Answers) -> list[str]:
    """The claims, each with what the figures say."""
    return [
        f"{format_count(found.feasible)} of {format_count(found.designs)} designs hold all constraints. Every figure "
        "below is predicted.",
        *_bound_findings(found),
        *_regret_findings(found),
        *_gpu_findings(found),
    ]


def _bound_findings(found: answers.Answers) -> list[str]:
    sentences = [f"{row['workload']}: no design of the space holds it." for row in found.bound if not row["designs"]]
    kinds: dict[str, list[dict[str, object]]] = {}
    for row in found.bound:
        if row["designs"]:
            kinds.setdefault(str(row["workload"]).rpartition("-b")[0], []).append(row)
    for kind, rows in kinds.items():
        batches = _listed([str(row["workload"]).rpartition("-b")[2] for row in rows])
        memory = _listed([format_ratio(row["bound_designs"]) for row in rows])
        compute = _listed([format_ratio(row["compute_designs"]) for row in rows])
        sentences.append(
            f"{kind} at batch {batches}: memory binds most of its time on {memory} of the designs, compute on "
            f"{compute}; on the others cores wait for operands on the chip or for latencies."
        )
    return sentences


def _listed(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _regret_findings(found: answers.Answers) -> list[str]:
    sentences = []
    for row in found.regrets:
        if row["chip for"] != row["runs"]:
            sentences.append(
                f"The chip that is best for {row['chip for']} by {_OBJECTIVE_TITLES[row['objective']]} loses "
                f"{format_ratio(row['loss'])} on {row['runs']}."
            )
    return sentences


def _gpu_findings(found: answers.Answers) -> list[str]:
    first, last = found.gpus[0], found.gpus[-1]
    direction = "risen" if last["ridge"] > first["ridge"] else "fallen"
    return [
        f"From {first['chip']} to {last['chip']} FLOPs per byte of bandwidth have {direction} from "
        f"{format_number(first['ridge'])} to {format_number(last['ridge'])}."
    ]


def designs_chart(found: answers.Answers, table: DesignTable) -> alt.typing.ChartType:
    numbers_of_best = {row["design"] for row in (*found.best, *found.mixes)}
    is_best = np.isin(table.index, list(numbers_of_best))
    most = most_designs(len(table.jobs)) - int(is_best.sum())
    step = max(1, -(-len(table.index) // most))
    chosen = np.unique(np.concatenate([np.flatnonzero(is_best), np.arange(0, len(table.index), step)]))
    values = table.space.decode(table.index[chosen])
    figures = {name: column[chosen] for name, column in table.figures.items() if name not in values}
    frame = pd.DataFrame({"design": table.index[chosen], **values, **figures, "on_front": is_best[chosen]})
    return front_chart(
        frame.sort_values("on_front"), table.jobs, table.space.names, answers.OBJECTIVES, "best for some work"
    )


def bound_chart(found: answers.Answers) -> alt.typing.ChartType:
    rows = chart_data(pd.DataFrame([row for row in found.bound if row["designs"]]), "bound by memory")
    base = alt.Chart(rows).encode(y=alt.Y("workload:N").sort(None).title(None))
    span = base.mark_rule(strokeWidth=5, opacity=0.5).encode(
        x=alt.X("least:Q").axis(format="%").title("part of the time bound by memory: least, median, most"),
        x2="most:Q",
        color=alt.Color("paradigm:N").legend(orient="bottom").scale(range=["#0072B2", "#E69F00", "#D55E00"]),
    )
    middle = base.mark_tick(thickness=3, color="black").encode(
        x="median:Q",
        tooltip=["workload:N", *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("least", "median", "most"))],
    )
    title = chart_title("What binds", "over all designs that hold the constraints")
    return themed(alt.layer(span, middle).properties(width=WIDTH - 120, title=title))


def bound_table(found: answers.Answers) -> TableView:
    columns = (
        *texts(workload="workload", paradigm="paradigm"),
        *numbers(format_count, designs="designs that hold it"),
        *numbers(
            format_ratio,
            least="least",
            median="median",
            most="most",
            bound_designs="designs where memory binds",
            compute_designs="designs where compute binds",
            sampling="sampling, median part",
        ),
    )
    return TableView(title="Bound by memory", frame=pd.DataFrame(found.bound), columns=columns)


def best_table(found: answers.Answers) -> TableView:
    frame = pd.DataFrame(found.best).assign(objective=lambda rows: rows["objective"].map(_OBJECTIVE_TITLES))
    parameters = [name for name in frame if name not in ("for", "objective", "ridge", "area_mm2", "tdp_w", "bill_usd")]
    columns = (
        Column(name="for", header="for"),
        Column(name="objective", header="best by"),
        *(Column(name=name, header=name, write=_value, is_number=True) for name in parameters),
        *numbers(format_number, ridge="FLOP/byte", area_mm2="mm2", tdp_w="TDP W", bill_usd="bill US$"),
    )
    return TableView(title="Best designs", frame=frame, columns=columns)


def regret_table(found: answers.Answers) -> TableView:
    frame = pd.DataFrame(found.regrets).assign(objective=lambda rows: rows["objective"].map(_OBJECTIVE_TITLES))
    columns = (
        Column(name="objective", header="by"),
        Column(name="chip for", header="chip for"),
        Column(name="runs", header="runs"),
        *numbers(lambda loss: format_change(1.0 + loss), loss="against the best for it"),
    )
    return TableView(title="What specialization costs", frame=frame, columns=columns)


def worth_chart(found: answers.Answers) -> alt.typing.ChartType:
    rows = chart_data(pd.DataFrame(found.units), "elasticities")
    chart = (
        alt.Chart(rows)
        .mark_bar()
        .encode(
            x=alt.X("elasticity:Q").title("elasticity of time"),
            y=alt.Y("parameter:N").title(None).sort(None),
            color=alt.Color("work:N").legend(None).scale(range=["#0072B2", "#D55E00"]),
            column=alt.Column("work:N").title(None),
            tooltip=["work:N", "parameter:N", alt.Tooltip("elasticity:Q", format="+.3f")],
        )
        .properties(width=240)
    )
    return themed(chart.properties(title=chart_title("What more of it is worth", "left is faster")))


def quality_table(found: answers.Answers) -> TableView:
    columns = (
        *texts(workload="workload"),
        *numbers(format_ratio, quality="score, published"),
        *texts(source="of what"),
        *numbers(format_seconds, h100_s="time on H100", best_s="on the best chip for denoising"),
        *numbers(format_joules, h100_j="energy on H100", best_j="on the best chip"),
    )
    return TableView(title="Quality and cost of a token", frame=pd.DataFrame(found.quality), columns=columns)


def gpu_table(found: answers.Answers) -> TableView:
    columns = (
        *texts(chip="chip"),
        *numbers(format_number, ridge="FLOP/byte"),
        *numbers(format_factor, autoregression="autoregression: time over the best design"),
        *numbers(format_count, **{"autoregression workloads": "workloads it holds"}),
        *numbers(format_factor, denoising="denoising: time over the best design"),
        *numbers(format_count, **{"denoising workloads": "workloads it holds"}),
    )
    return TableView(title="Real GPUs", frame=pd.DataFrame(found.gpus), columns=columns)


def _value(value: object) -> str:
    return format_number(float(value)) if isinstance(value, float) else format_text(value)
