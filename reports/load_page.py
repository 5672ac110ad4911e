"""The page of `roofscape load`: chips over batches and contexts, one step of each program."""

from collections.abc import Sequence
from dataclasses import asdict

import altair as alt
import pandas as pd

from explorer.designs import binds
from explorer.load import LoadPoint
from explorer.step_traces import STEPS
from reports.charts.theme import SUBJECT_COLORS, WIDTH, chart_data, chart_title, themed
from reports.formatting import (
    format_bytes,
    format_count,
    format_joules,
    format_number,
    format_ratio,
    format_seconds,
)
from reports.report import Figure, Report, Section, TableView, numbers, texts, unique

_FIGURES = {"tokens_per_s": "tokens/s", "joules_per_token": "joules per token", "step_s": "seconds of a step"}
_SHAPES = {"memory": "circle", "compute": "square", "latencies": "triangle-up"}
_MOST_ROWS = 200


def load_frame(points: Sequence[LoadPoint]) -> pd.DataFrame:
    """One row for each program, chip, batch and context; figures are NaN where `binds` says why."""
    frame = pd.DataFrame([asdict(point) for point in points])
    bound = [point.why or binds(point.memory_part, point.compute_part) for point in points]
    return frame.drop(columns="why").assign(binds=bound)


def build_load_page(frame: pd.DataFrame, *, tokens_per_step: float) -> Report:
    """Lines over the batch and over the context, and the table."""
    return Report(
        title="Chips under load",
        findings=tuple(sentences(frame)),
        sections=(
            Section(
                title="Over the batch and over the context",
                text=f"One step: {'; '.join(_what(frame))}. A step of denoising commits "
                f"{format_number(tokens_per_step)} tokens of each sequence. Where a line ends, memory or the model's "
                "positions do. Every figure is predicted.",
                figures=(Figure(chart=load_chart(frame, "batch")), Figure(chart=load_chart(frame, "context"))),
            ),
            Section(title="Points that fit", tables=(load_table(frame),)),
        ),
    )


def sentences(frame: pd.DataFrame) -> list[str]:
    """For each program and chip: the best rate, what binds there, and from which batch on memory does not bind."""
    said = []
    for (program, chip), rows in frame.groupby(["program", "chip"], sort=False):
        known = rows[rows["step_s"].notna()]
        if known.empty:
            said.append(f"{program} on {chip}: no point fits ({', '.join(unique(rows['binds']))}).")
            continue
        best = known.iloc[int(known["tokens_per_s"].argmax())]
        bound = ", ".join(f"{name} {int((known['binds'] == name).sum())}" for name in unique(known["binds"]))
        rate = format_number(float(best["tokens_per_s"]))
        said.append(
            f"{program} on {chip}: at most {rate} tokens/s (batch {best['batch']}, context "
            f"{format_count(best['context'])}); of {len(rows)} points {len(rows) - len(known)} do not fit; the others "
            f"are bound by: {bound}."
        )
    return said


def load_table(frame: pd.DataFrame) -> TableView:
    """Points that fit."""
    columns = (
        *texts(program="program", chip="chip"),
        *numbers(format_count, batch="batch", context="context"),
        *numbers(format_seconds, step_s="step"),
        *numbers(format_number, tokens_per_s="tokens/s"),
        *numbers(format_joules, joules_per_token="J/token"),
        *texts(binds="bound by"),
        *numbers(format_ratio, memory_part="memory", compute_part="compute"),
        *numbers(format_bytes, needed_bytes="needs"),
    )
    fits = frame[frame["step_s"].notna()]
    note = f"{len(frame) - len(fits)} of {len(frame)} points do not fit memory or the model's positions."
    if len(fits) > _MOST_ROWS:
        note = f"The first {_MOST_ROWS} points that fit. {note}"
    shown = fits.head(_MOST_ROWS)
    return TableView(title="Points", frame=shown, columns=columns, note=note)


def load_chart(frame: pd.DataFrame, over: str) -> alt.typing.ChartType:
    """Lines of a figure over the batch or the context by chip; program, figure and the other of the two to choose."""
    other = "context" if over == "batch" else "batch"
    known = frame[frame["step_s"].notna()]
    long = known.melt(
        id_vars=["program", "chip", "batch", "context", "binds"],
        value_vars=list(_FIGURES),
        var_name="figure",
        value_name="value",
    ).dropna(subset=["value"])
    long["figure"] = long["figure"].map(_FIGURES)
    titles, others = list(_FIGURES.values()), [int(value) for value in sorted(frame[other].unique())]
    chips, programs = unique(frame["chip"]), unique(frame["program"])
    figure = alt.param(
        name=f"figure_over_{over}", bind=alt.binding_select(options=titles, name="figure "), value=titles[0]
    )
    fixed = alt.param(
        name=f"chosen_{other}", bind=alt.binding_select(options=others, name=f"{other} "), value=others[0]
    )
    program = alt.param(
        name=f"program_over_{over}", bind=alt.binding_select(options=programs, name="program "), value=programs[0]
    )
    base = (
        alt.Chart(chart_data(long, f"load over {over}"))
        .transform_filter(
            f"datum.figure === figure_over_{over} && datum.{other} === chosen_{other}"
            f" && datum.program === program_over_{over}"
        )
        .encode(
            x=alt.X(f"{over}:Q").scale(type="log", base=2, nice=False).title(over),
            y=alt.Y("value:Q").scale(type="log", nice=True).title("chosen figure"),
            color=alt.Color("chip:N")
            .sort(chips)
            .scale(domain=chips, range=[SUBJECT_COLORS[i % len(SUBJECT_COLORS)] for i in range(len(chips))]),
        )
    )
    marks = base.mark_point(filled=True, size=70).encode(
        shape=alt.Shape("binds:N").scale(domain=list(_SHAPES), range=list(_SHAPES.values())).title("bound by"),
        tooltip=[
            "program:N",
            "chip:N",
            "batch:Q",
            "context:Q",
            "figure:N",
            alt.Tooltip("value:Q", format=".4g"),
            "binds:N",
        ],
    )
    chart = alt.layer(base.mark_line(), marks).add_params(program, figure, fixed)
    title = chart_title(f"Over the {over}", f"choose program, figure and {other} below; predicted")
    return themed(chart.properties(width=WIDTH - 160, height=320, title=title))


def _what(frame: pd.DataFrame) -> list[str]:
    pairs = frame[["program", "kind"]].drop_duplicates()
    return [f"{program}: {STEPS[kind]}" for program, kind in zip(pairs["program"], pairs["kind"], strict=True)]
