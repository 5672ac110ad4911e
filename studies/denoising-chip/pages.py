"""The study's report: the answer, the designs, the claims one by one with their evidence, and how far to trust it."""

from dataclasses import replace

import altair as alt
import answers
import claims
import evidence
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

_FIGURES = (
    "for",
    "objective",
    "design",
    "ridge",
    "area_mm2",
    "tdp_w",
    "bill_usd",
)  # of a best design, its values apart
_PANELS = {
    "memory_designs": "memory binds",
    "compute_designs": "compute binds",
    "roofline_designs": "memory, kernels at the peaks",
}
_OBJECTIVE_TITLES = {
    "seconds_per_unit": "time",
    "joules_per_unit": "energy",
    "usd_per_million_units": "cost",
}


def build(found: answers.Answers, table: DesignTable) -> Report:
    """The page: the answer, the designs, the claims one by one, both best chips, and how far to trust it."""
    told = [Section(title=claim.claim, text=_verdict(claim)) for claim in claims.claims(found)]
    bound, computed, drifted, bought = told
    return Report(
        title="A chip for parallel denoising",
        findings=tuple(findings(found)),
        sections=(
            Section(
                title="Designs",
                text=(
                    f"GPU-like chips of one die: {_limits(found)}. Choose a workload, a batch and an objective, brush "
                    "a region; hover shows a design. Orange: the best for autoregression, for denoising, and for "
                    "mixes of both. All: the workloads that every design's memory holds."
                ),
                figures=(Figure(chart=designs_chart(found, table)),),
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
            replace(
                bound,
                figures=(
                    Figure(
                        chart=steps_chart(found, evidence.BATCH),
                        caption="One step of each program, over all designs that hold the constraints and the step.",
                    ),
                    Figure(chart=steps_chart(found, evidence.CONTEXT)),
                ),
                tables=(steps_table(found),),
            ),
            replace(computed, figures=(Figure(chart=bound_chart(found)),), tables=(bound_table(found),)),
            replace(
                drifted, figures=(Figure(chart=ridge_chart(found)),), tables=(gpu_table(found), ranking_table(found))
            ),
            replace(bought, tables=(quality_table(found),)),
            Section(
                title="The fastest designs by the event engine",
                text=(
                    "Played kernel by kernel, with the error band of each total and the kinds of kernels that take its "
                    "time."
                ),
                tables=(played_table(found),),
            ),
            Section(
                title="How far to trust it",
                text=(
                    f"{_trust(found)} Kernel constants are those of H100 on designs that do not exist; "
                    "docs/validation.md tells how far they move between real chips, docs/area-power-cost.md how far "
                    "area, power and cost are off. Nothing here was measured on silicon."
                ),
            ),
        ),
    )


def _limits(found: answers.Answers) -> str:
    """The constraints in words."""
    words = {"die_mm2": "a die of {} mm2", "area_mm2": "{} mm2", "tdp_w": "{} W", "bill_usd": "{} US$ of materials"}
    limits = [words[LIMITS[name]].format(format_number(value)) for name, value in found.limits.items()]
    return f"at most {claims.listed(limits)}"


def _verdict(claim: claims.Claim) -> str:
    return f"{claim.verdict.capitalize()}. {' '.join(claim.reasons)}"


def findings(found: answers.Answers) -> list[str]:
    """The answer first, then the claims with what the figures say."""
    return [
        f"{format_count(found.feasible)} of {format_count(found.designs)} designs hold all constraints. Every figure "
        "here is predicted.",
        _answer(found),
        *_regret_findings(found),
        _trust(found),
        *(claim.sentence for claim in claims.claims(found)),
        f"On {format_count(found.ranking['ordered'])} of {format_count(found.ranking['workloads'])} workloads that all "
        f"of them hold, {' < '.join(found.ranking['chips'])} in speed; docs/validation.md has their measured kernels.",
        *(
            f"{row['workload']}: no design of the space holds it; it needs {format_number(row['needed_gb'])} GB, and "
            f"the largest memory has {format_number(row['gb'])}."
            for row in found.too_large
        ),
    ]


def _answer(found: answers.Answers) -> str:
    """In which parameters the fastest chip for denoising differs from the fastest for autoregression."""
    fastest = {str(row["for"]): row for row in found.best if row["objective"] == answers.OBJECTIVES[0]}
    one, other = fastest["denoising"], fastest["autoregression"]
    names = [name for name in one if name not in _FIGURES and one[name] != other[name]]
    differences = [f"{name} {_value(one[name])} instead of {_value(other[name])}" for name in names]
    if not differences:
        return f"One chip is fastest for both, with {format_number(one['ridge'])} FLOPs per byte."
    what = f"differs in {claims.listed(differences)}"
    return (
        f"The fastest chip for denoising, against that for autoregression, {what}: {format_number(one['ridge'])} "
        f"instead of {format_number(other['ridge'])} FLOPs per byte."
    )


def _regret_findings(found: answers.Answers) -> list[str]:
    """What each of both chips loses on the other's work, by each objective."""
    sentences = []
    for kind in answers.KINDS:
        rows = [row for row in found.regrets if row["chip for"] == kind and row["runs"] != kind]
        losses = [f"{format_ratio(row['loss'])} by {_OBJECTIVE_TITLES[row['objective']]}" for row in rows]
        sentences.append(f"The best chip for {kind} loses on {rows[0]['runs']} {claims.listed(losses)}.")
    return sentences


def _trust(found: answers.Answers) -> str:
    figures = found.trust
    apart = max(row["loss"] for row in found.regrets if row["objective"] == answers.OBJECTIVES[0])
    further = "further than" if min(figures["below"], figures["above"]) > apart else "less far than"
    return (
        "The event engine, which plays the two fastest designs kernel by kernel, differs from the closed form by at "
        f"most {format_ratio(figures['difference'])}. Their {format_ratio(figures['coverage'])} bands reach from "
        f"{format_ratio(figures['below'])} below to {format_ratio(figures['above'])} above (medians), {further} the "
        "two chips are apart. Both take the same constants, so most of these errors cancel, but a few percent between "
        "designs are no verdict."
    )


def designs_chart(found: answers.Answers, table: DesignTable) -> alt.typing.ChartType:
    numbers_of_best = {row["design"] for row in (*found.best, *found.mixes)}
    is_best = np.isin(table.index, list(numbers_of_best))
    most = most_designs(len(table.jobs)) - int(is_best.sum())
    step = max(1, -(-len(table.index) // most))
    chosen = np.unique(np.concatenate([np.flatnonzero(is_best), np.arange(0, len(table.index), step)]))
    values = table.space.decode(table.index[chosen])
    figures = {name: column[chosen] for name, column in table.figures.items() if name not in values}
    # Not every design holds every workload: "all" are those that every design holds.
    figures |= {name: table.mean(table.jobs, name)[chosen] for name in answers.OBJECTIVES}
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
            roofline_designs="memory, kernels at the peaks",
            sampling="sampling, median part",
        ),
    )
    return TableView(title="Bound by memory", frame=pd.DataFrame(found.bound), columns=columns)


def steps_chart(found: answers.Answers, axis: str) -> alt.typing.ChartType:
    """Over batch or context: on which part of the designs memory binds, and on which compute."""
    rows = pd.DataFrame([row for row in found.steps if row["axis"] == axis and row["designs"]])
    long = rows.melt(
        id_vars=["series", axis, "designs"],
        value_vars=list(_PANELS),
        var_name="binds",
        value_name="part",
    ).assign(binds=lambda frame: frame["binds"].map(_PANELS))
    other = {evidence.BATCH: evidence.CONTEXT, evidence.CONTEXT: evidence.BATCH}[axis]
    title = chart_title(
        f"What binds most of a step's time, over {axis}",
        f"{other} {', '.join(map(format_count, rows[other].unique()))}",
    )
    chart = (
        alt.Chart(chart_data(long, "steps"))
        .mark_line(point=True)
        .encode(
            x=alt.X(f"{axis}:Q").scale(type="log", base=2, nice=False).title(axis),
            y=alt.Y("part:Q").axis(format="%").title("part of the designs"),
            color=alt.Color("series:N").legend(orient="bottom", columns=2).title(None).sort(None),
            column=alt.Column("binds:N").title(None).sort(list(_PANELS.values())),
            tooltip=["series:N", f"{axis}:Q", alt.Tooltip("part:Q", format=".1%"), "designs:Q"],
        )
        .properties(width=(WIDTH - 160) // len(_PANELS), height=240)
    )
    return themed(chart.properties(title=title))


def steps_table(found: answers.Answers) -> TableView:
    columns = (
        *texts(series="step", program="program"),
        *numbers(format_count, batch="batch", context="context", designs="designs that hold it"),
        *numbers(
            format_ratio,
            memory_designs="designs where memory binds",
            compute_designs="designs where compute binds",
            roofline_designs="memory, kernels at the peaks",
            memory_median="part of the time, median",
        ),
    )
    return TableView(title="One step", frame=pd.DataFrame(found.steps), columns=columns)


def ridge_chart(found: answers.Answers) -> alt.typing.ChartType:
    """FLOPs per byte of real GPUs, and of the fastest designs."""
    gpus = [{"chip": row["chip"], "ridge": row["ridge"], "what": "real GPUs"} for row in found.gpus]
    best = [
        {"chip": f"fastest for {row['for']}", "ridge": row["ridge"], "what": "designs"}
        for row in found.best
        if row["objective"] == answers.OBJECTIVES[0]
    ]
    chart = (
        alt.Chart(chart_data(pd.DataFrame([*gpus, *best]), "ridges"))
        .mark_bar()
        .encode(
            x=alt.X("ridge:Q").title("peak FLOPs per byte of memory bandwidth"),
            y=alt.Y("chip:N").sort(None).title(None).axis(labelLimit=220),
            color=alt.Color("what:N").scale(range=["#D55E00", "#0072B2"]).legend(orient="bottom").title(None),
            tooltip=["chip:N", alt.Tooltip("ridge:Q", format=".0f")],
        )
    )
    return themed(chart.properties(width=WIDTH - 220, title=chart_title("Where GPUs have gone", "oldest first")))


def best_table(found: answers.Answers) -> TableView:
    frame = pd.DataFrame(found.best).assign(objective=lambda rows: rows["objective"].map(_OBJECTIVE_TITLES))
    parameters = [name for name in frame if name not in _FIGURES or name == "design"]
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


def ranking_table(found: answers.Answers) -> TableView:
    """How many times as fast as the first of the ranked each real GPU is, on each workload that all of them hold."""
    chips = found.ranking["chips"]
    seconds = {row["chip"]: row["seconds"] for row in found.gpus if row["chip"] in chips}
    first = seconds[chips[0]]
    rows = [
        {"workload": job, "seconds": first[job], **{chip: first[job] / seconds[chip][job] for chip in chips[1:]}}
        for job in first
        if all(job in each for each in seconds.values())
    ]
    columns = (
        *texts(workload="workload"),
        *numbers(format_seconds, seconds=f"a token or image on {chips[0]}"),
        *numbers(format_factor, **{chip: f"{chip}, as fast" for chip in chips[1:]}),
    )
    return TableView(title="Real GPUs on each workload", frame=pd.DataFrame(rows), columns=columns)


def played_table(found: answers.Answers) -> TableView:
    columns = (
        *texts(**{"chip for": "best chip for", "job": "workload"}),
        *numbers(format_seconds, closed_s="a run, closed form", event_s="event engine"),
        *numbers(lambda difference: format_change(1.0 + difference), difference="difference"),
        *numbers(format_seconds, low_s="band from", high_s="to"),
        *numbers(format_joules, event_j="energy"),
        *texts(binds="what takes the time"),
    )
    return TableView(title="Both engines", frame=pd.DataFrame(found.played), columns=columns)


def _value(value: object) -> str:
    return format_number(float(value)) if isinstance(value, float) else format_text(value)
