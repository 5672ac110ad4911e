"""Breakdown: where time, bytes and energy go, by kind of operation and role of the data."""

import pandas as pd

from reports.charts.bytes_by_role import bytes_by_kind, bytes_by_role
from reports.charts.time_by_kind import time_by_kind
from reports.charts.utilization import energy_bars
from reports.formatting import format_bytes, format_count, format_joules, format_ratio, format_seconds, format_watts
from reports.report import Figure, Report, Section, TableView, numbers, or_else, texts
from reports.tables import Tables


def build(tables: Tables) -> Report:
    """Time, bytes, energy."""
    sections = [
        Section(title="Time", figures=(Figure(chart=time_by_kind(tables.kinds)),), tables=(_time_table(tables.kinds),))
    ]
    if len(tables.roles):
        figures = (Figure(chart=bytes_by_role(tables.roles)), Figure(chart=bytes_by_kind(tables.roles)))
        sections.append(Section(title="Bytes", figures=figures, tables=(_bytes_table(tables.roles),)))
    sections.append(_energy_section(tables))
    return Report(
        title="Breakdown", findings=(*_time_findings(tables), *_energy_findings(tables)), sections=tuple(sections)
    )


def _time_findings(tables: Tables) -> list[str]:
    sentences = []
    for (subject, basis), rows in tables.kinds.groupby(["subject", "basis"], sort=False):
        total_s = rows["duration_s"].sum()
        if basis == "bound" or not total_s > 0:
            continue
        first = rows.sort_values("duration_s", ascending=False).iloc[0]
        sentences.append(
            f"{subject}: {first['kind']} takes {format_ratio(first['duration_s'] / total_s)} of the {basis} time of "
            f"all calls ({format_seconds(total_s)} on {first['device']})."
        )
    return sentences


def _energy_findings(tables: Tables) -> list[str]:
    sentences = []
    for subject, rows in tables.energy.groupby("subject", sort=False):
        total_j = rows["energy_j"].sum()
        if total_j > 0:
            first = rows.sort_values("energy_j", ascending=False).iloc[0]
            share = format_ratio(first["energy_j"] / total_j)
            sentences.append(f"{subject}: {first['part']} takes {share} of the {format_joules(total_j)} simulated.")
    return sentences


def _time_table(kinds: pd.DataFrame) -> TableView:
    wide = kinds.pivot_table(
        index=["subject", "kind"], columns="basis", values="duration_s", aggfunc="sum", sort=False, observed=True
    )
    wide = wide.reindex(columns=["bound", "simulated", "measured"]).reset_index()
    calls = kinds.drop_duplicates(["subject", "kind"])[["subject", "kind", "calls"]]
    return TableView(
        title="Time by kind",
        frame=wide.merge(calls, on=["subject", "kind"]),
        columns=(
            *texts(subject="program", kind="kind"),
            *numbers(format_count, calls="calls"),
            *numbers(format_seconds, bound="bound (predicted)"),
            *numbers(or_else(format_seconds, "not simulated"), simulated="simulated (predicted)"),
            *numbers(or_else(format_seconds, "not measured"), measured="measured"),
        ),
        note="Sums over the calls, which may overlap.",
    )


def _bytes_table(roles: pd.DataFrame) -> TableView:
    wide = roles.pivot_table(
        index=["subject", "direction"], columns="role", values="bytes", aggfunc="sum", sort=False, observed=True
    )
    wide = wide.reindex(columns=["weights", "kv_cache", "activations", "logits"]).fillna(0.0).reset_index()
    return TableView(
        title="Bytes by role",
        frame=wide,
        columns=(
            *texts(subject="program", direction="direction"),
            *numbers(format_bytes, weights="weights", kv_cache="KV cache", activations="activations", logits="logits"),
        ),
        note="Known bytes, counted from the trace.",
    )


def _energy_section(tables: Tables) -> Section:
    unknown = tables.summary[tables.summary["energy_j"].isna()]
    missing = TableView(
        title="Energy unknown",
        frame=unknown,
        columns=texts(subject="program", chip="chip", energy_reason="why"),
    )
    has_energy = bool((tables.energy["energy_j"] > 0).any())
    return Section(
        title="Energy",
        figures=(Figure(chart=energy_bars(tables.energy)),) if has_energy else (),
        tables=(*((missing,) if len(unknown) else ()), *_measured_energy(tables)),
    )


def _measured_energy(tables: Tables) -> tuple[TableView, ...]:
    measured = tables.measured_energy
    if not len(measured):
        return ()
    view = TableView(
        title="Energy, measured",
        frame=measured,
        columns=(
            *texts(subject="program", source="source", state="state", phase="phase"),
            *numbers(format_seconds, duration_s="time"),
            *numbers(format_joules, energy_j="energy (measured)", uncertainty_j="at most off by"),
            *numbers(format_watts, average_power_w="average power", idle_w="idle power"),
            *numbers(format_joules, above_idle_j="above idle"),
        ),
        note="Idle power was measured before the program; it is part of the energy, and apart only in the last column.",
    )
    return (view,)
