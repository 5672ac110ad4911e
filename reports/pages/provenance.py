"""Provenance: what is measured, predicted and published, what nobody knows, and where everything comes from."""

import pandas as pd

from reports.findings import band_findings, unknown_findings
from reports.formatting import format_count, format_ratio, format_seconds, shorten
from reports.report import Column, Report, Section, TableView, numbers, or_else, texts, unique
from reports.tables import Tables


def build(tables: Tables) -> Report:
    """Kinds of figures, unknown parts, kernels, origins, sources of the chips."""
    sections = [_legend(tables), _unknown(tables), *_kernels(tables), *_notes(tables), *_origins(tables)]
    return Report(
        title="Provenance",
        findings=(*unknown_findings(tables), *band_findings(tables)),
        sections=(*sections, *_sources(tables)),
    )


def _legend(tables: Tables) -> Section:
    summary = tables.summary
    measured = [f"{row['subject']} (on {row['measured_on']})" for _, row in summary.iterrows() if row["measured_on"]]
    simulated = [
        f"{row['subject']} (on {row['chip']}, {row['engine']} engine, {row['mode']} mode)"
        for _, row in summary.iterrows()
        if not pd.isna(row["simulated_s"])
    ]
    rows = [
        (
            "counted",
            "FLOPs, bytes, calls, intensity",
            "from the operations of the trace and the shapes that it records",
        ),
        ("measured", "measured times", "; ".join(measured) or "nothing in this report"),
        ("predicted", "roofline bounds", "from counted work and the chip's peak rates: a lower limit"),
        ("predicted", "simulated times, energy, utilization", "; ".join(simulated) or "nothing in this report"),
        ("published", "peak rates, bandwidths and power of the chips", "from the sources listed at the end"),
    ]
    legend = TableView(
        title="How to read the figures",
        frame=pd.DataFrame(rows, columns=["what", "figures", "origin"]),
        columns=texts(what="kind of figure", figures="which", origin="from"),
    )
    return Section(title="Measured, predicted, published", tables=(legend,))


def _unknown(tables: Tables) -> Section:
    if not len(tables.unknown):
        return Section(title="Unknown", text="Every operation of every trace has known FLOPs and bytes.")
    view = TableView(
        title="Operations with unknown FLOPs or bytes",
        frame=tables.unknown,
        columns=(
            *texts(subject="program"),
            Column(name="label", header="operation", write=shorten),
            *texts(kind="kind", missing="unknown"),
            *numbers(format_count, calls="calls"),
            *numbers(or_else(format_seconds, "not measured"), measured_s="measured"),
        ),
        note="They count nowhere as zero: totals leave them out, and bounds come from what is known.",
    )
    return Section(title="Unknown", tables=(view,))


def _kernels(tables: Tables) -> list[Section]:
    if not len(tables.kernel_totals):
        return []
    totals = TableView(
        title="Measured kernels",
        frame=tables.kernel_totals,
        columns=(
            *texts(subject="program", device="device"),
            *numbers(format_count, kernel_count="kernels", copy_count="copies and fills"),
            *numbers(
                format_seconds, kernel_s="time of kernels", busy_s="device busy", span_s="first start to last end"
            ),
            *numbers(format_count, unexplained_count="unexplained", repeated_count="inferred from a repeat"),
            *numbers(format_seconds, unexplained_s="unexplained time", repeated_s="time inferred"),
            *numbers(format_ratio, gemm_explained_ratio="GEMM time explained"),
        ),
    )
    longest = tables.kernels.sort_values("duration_s", ascending=False, kind="stable")
    unexplained = longest[longest["attribution"] == "unexplained"].head(20)
    columns = (
        *texts(subject="program"),
        Column(name="name", header="kernel", write=shorten),
        *texts(category="category", attribution="attached by"),
        *numbers(format_count, kernels="launches"),
        *numbers(format_seconds, duration_s="measured"),
    )
    views = [totals, TableView(title="Kernels that take longest", frame=longest.head(20), columns=columns)]
    if len(unexplained):
        views.append(TableView(title="Kernels that no operation explains", frame=unexplained, columns=columns))
    return [Section(title="Kernels", tables=tuple(views))]


def _notes(tables: Tables) -> list[Section]:
    noted = tables.summary[tables.summary["notes"] != ""]
    if not len(noted):
        return []
    view = TableView(title="", frame=noted, columns=texts(subject="program", notes="what a reader must know"))
    return [Section(title="Notes", tables=(view,))]


def _origins(tables: Tables) -> list[Section]:
    views = [
        TableView(
            title=str(subject),
            frame=rows.reset_index(drop=True),
            columns=texts(stage="stage", item="item", value="value"),
        )
        for subject, rows in tables.provenance.groupby("subject", sort=False)
    ]
    return [Section(title="How each figure was made", tables=tuple(views))] if views else []


def _sources(tables: Tables) -> list[Section]:
    views = []
    for chip in unique(tables.sources["chip"]):
        rows = tables.sources[tables.sources["chip"] == chip]
        title = f"{rows['title'].iloc[0]} ({chip})"
        views.append(TableView(title=title, frame=rows, columns=texts(section="figure", source="source")))
    return [Section(title="Sources of the chips", tables=tuple(views))] if views else []
