"""Overview: findings, the summary table, autoregressive against diffusion, and phases under the roofline."""

import pandas as pd

from reports.charts.paradigms import paradigm_bars
from reports.charts.roofline import drawn_phases, phase_roofline
from reports.findings import band_findings, measured_findings, paradigm_findings, phase_findings, unknown_findings
from reports.formatting import (
    format_bytes,
    format_count,
    format_flops,
    format_joules,
    format_number,
    format_ratio,
    format_seconds,
    format_tokens_per_s,
    format_watts,
    low_to_high,
    shorten,
)
from reports.report import Column, Figure, Report, Section, TableView, numbers, or_else, texts, unique
from reports.tables import Tables


def build(tables: Tables) -> Report:
    """The page that a reader opens first."""
    findings = (*paradigm_findings(tables), *phase_findings(tables), *measured_findings(tables))
    sections = [_summary_section(tables), *_paradigm_sections(tables), *_phase_sections(tables)]
    return Report(
        title="Overview",
        findings=(*findings, *unknown_findings(tables), *band_findings(tables)),
        sections=tuple(sections),
    )


def _summary_section(tables: Tables) -> Section:
    summary = tables.summary
    simulated = [_with_band(row) for _, row in summary.iterrows()]
    energy = [_joules_with_band(row) for _, row in summary.iterrows()]
    measured = [
        f"{format_seconds(row['measured_s'])} on {row['measured_on']}" if row["measured_on"] else "not measured"
        for _, row in summary.iterrows()
    ]
    shown = summary.assign(simulated_text=simulated, measured_text=measured, energy_text=energy)
    work = TableView(
        title="What ran (counted from the trace)",
        frame=shown,
        columns=(
            *texts(subject="program", paradigm="paradigm", view="view"),
            *numbers(format_count, calls="calls", ops="distinct ops", unknown_calls="unknown calls"),
            *numbers(format_flops, flops="FLOPs"),
            *numbers(format_bytes, bytes="bytes"),
            *numbers(
                format_ratio,
                weights_share="weights",
                kv_cache_share="KV cache",
                activations_share="activations",
                logits_share="logits",
            ),
            *numbers(format_number, intensity="FLOP/byte"),
        ),
        note="Unknown calls are those whose FLOPs or bytes nobody knows; no total holds them. FLOPs are dense; "
        "intensity leaves out what a causal mask lets a kernel skip. Weights, KV cache, "
        "activations and logits are shares of the bytes.",
    )
    cost = TableView(
        title="What it costs",
        frame=shown,
        columns=(
            *texts(subject="program", chip="chip"),
            *numbers(format_count, unknown_calls="unknown calls"),
            *numbers(format_seconds, bound_s="roofline bound (predicted, lower limit)"),
            *texts(bound_by="bound by"),
            Column(name="simulated_text", header="simulated (predicted)"),
            Column(name="measured_text", header="measured"),
            Column(name="energy_text", header="energy (simulated)"),
            *numbers(format_watts, average_power_w="mean power (simulated)"),
        ),
        note="Bounds and simulations hold of an unknown call only what is known of it.",
    )
    return Section(title="Summary", tables=(work, cost, *_rate_tables(shown)))


def _rate_tables(summary: pd.DataFrame) -> list[TableView]:
    generating = summary[summary["tokens"].notna() | summary["nfe"].notna()]
    if not len(generating):
        return []
    view = TableView(
        title="What a token costs",
        frame=generating,
        columns=(
            *texts(subject="program", chip="chip"),
            *numbers(or_else(format_count, "none given"), tokens="tokens", nfe="network evaluations"),
            *numbers(format_tokens_per_s, simulated_tokens_per_s="rate (simulated)"),
            *numbers(format_joules, j_per_token="energy per token (simulated)"),
            *numbers(or_else(format_tokens_per_s, "not measured"), measured_tokens_per_s="rate (measured)"),
            *texts(measured_on="measured on"),
        ),
        note="Of the whole run, the prefill included.",
    )
    return [view]


def _with_band(row: pd.Series) -> str:
    if pd.isna(row["simulated_s"]):
        return "not simulated"
    text = format_seconds(row["simulated_s"])
    if pd.isna(row["simulated_low_s"]):
        return f"{text}, no band yet"
    return f"{text} ({low_to_high(row['simulated_low_s'], row['simulated_high_s'], format_seconds)})"


def _joules_with_band(row: pd.Series) -> str:
    text = format_joules(row["energy_j"])
    if pd.isna(row["energy_low_j"]):
        return text
    return f"{text} ({low_to_high(row['energy_low_j'], row['energy_high_j'], format_joules)})"


def _paradigm_sections(tables: Tables) -> list[Section]:
    comparison = tables.comparison[tables.comparison["value"].notna()]
    sections = []
    for chip in unique(comparison["chip"]):
        rows = comparison[comparison["chip"] == chip]
        if not {"autoregressive", "diffusion"} <= set(rows["paradigm"]):
            continue
        figures = [Figure(chart=paradigm_bars(rows, per)) for per in ("forward", "token") if per in set(rows["per"])]
        sections.append(Section(title=f"Autoregressive against diffusion, on {chip}", figures=tuple(figures)))
    return sections


def _phase_sections(tables: Tables) -> list[Section]:
    sections = []
    for chip in unique(tables.summary["chip"]):
        drawn = drawn_phases(tables.points, chip)
        phases = tables.phases[tables.phases["chip"] == chip]
        figures: tuple[Figure, ...] = ()
        if (drawn["undrawn"] == "").any():
            lines = tables.ceilings[tables.ceilings["chip"] == chip]
            figures = (Figure(chart=phase_roofline(drawn, lines, f"Phases under the roofline of {chip}")),)
        sections.append(Section(title=f"Phases on {chip}", figures=figures, tables=(_phase_table(phases),)))
    return sections


def _phase_table(phases: pd.DataFrame) -> TableView:
    return TableView(
        title="One step of each phase",
        frame=phases,
        columns=(
            *texts(subject="program"),
            Column(name="phase", header="phase", write=shorten),
            *numbers(format_count, steps="steps", unknown_calls="unknown calls"),
            *numbers(format_flops, flops_per_step="FLOPs"),
            *numbers(format_bytes, bytes_per_step="bytes"),
            *numbers(format_ratio, weights_share="weights", kv_cache_share="KV cache"),
            *numbers(format_number, intensity="FLOP/byte"),
            *texts(bound_by="bound by"),
            *numbers(format_seconds, bound_s_per_step="bound (predicted)"),
            *numbers(or_else(format_seconds, "not simulated"), simulated_s_per_step="simulated (predicted)"),
            *numbers(or_else(format_seconds, "not measured"), measured_s_per_step="measured"),
        ),
        note="Means over the steps of a phase; a phase without numbered steps counts as one.",
    )
