"""The page that `roofscape pareto` writes: verdicts, a chart per cost, the table of all points."""

import pandas as pd

from reports.charts.quality import published_chart, quality_chart
from reports.formatting import (
    format_bytes,
    format_count,
    format_flops,
    format_joules,
    format_number,
    format_ratio,
    format_seconds,
)
from reports.pareto_tables import COSTS, costs_table, verdict_sentences, verdicts
from reports.report import Figure, Report, Section, TableView, numbers, texts

_SETTING = texts(series="model / sampler", knobs="knobs")
_INTERVAL = (
    *texts(chip="chip of the simulation"),
    *numbers(format_ratio, accuracy_low="95 % from", accuracy_high="to"),
)
_FIGURES = (
    *numbers(format_ratio, accuracy="solved"),
    *numbers(format_number, forwards="forwards", tokens_per_forward="tokens/forward"),
    *numbers(format_flops, flops="FLOPs"),
    *numbers(format_bytes, bytes="bytes"),
    *numbers(format_seconds, measured_s="measured", simulated_s="simulated"),
    *numbers(format_joules, energy_j="energy"),
)


def build_pareto_page(points: pd.DataFrame, published: pd.DataFrame | None = None) -> Report:
    """The page from `pareto_tables.points_table`, with published points if there are any."""
    costs = costs_table(points)
    sections = [
        Section(
            title=title + (f", {chip}" if chip else ""),
            figures=(Figure(chart=quality_chart(costs, str(cost), str(chip))),),
        )
        for (cost, chip), rows in costs.groupby(["cost", "chip"], sort=False)
        for title in (COSTS[str(cost)][0].capitalize(),)
        if len(rows)
    ]
    if published is not None:
        sections.append(
            Section(
                title="Published operating points",
                text="Benchmark scores of large models as their sources give them; nothing of it was measured here.",
                figures=(Figure(chart=published_chart(costs, published)),),
            )
        )
    sections.append(Section(title="All points", tables=(all_points(points),)))
    return Report(title="Quality beside cost", findings=verdict_sentences(verdicts(costs)), sections=tuple(sections))


def all_points(points: pd.DataFrame, *, brief: bool = False) -> TableView:
    """Every point with its quality and costs, and below it what the figures are; `brief` fits a terminal."""
    first = points.iloc[0]
    posed = f"{format_count(first['problems'])} held-out problems in batches of {format_count(first['batch'])}"
    note = (
        f"{posed}, answers checked exactly; every cost is a batch's, divided by its problems. FLOPs and bytes are "
        "counted, time and energy simulated on the chip named, all of one captured batch: that with the median number "
        "of forwards. Measured time is the median over the batches, on this CPU."
    )
    unknown = sorted({name for text in points["unknown_ops"] for name in text.split(", ") if name})
    if unknown:
        note += f" Not counted, since nobody knows their cost: {', '.join(unknown)}."
    frame = points.assign(series=points["model"] + " / " + points["sampler"])
    columns = (*_SETTING, *_FIGURES) if brief else (*_SETTING, *_INTERVAL, *_FIGURES)
    return TableView(title="", frame=frame, columns=columns, note=note)
