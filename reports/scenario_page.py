"""What a scenario's rows say: findings, the table for terminal and page, and the page."""

from typing import Any

import pandas as pd

from reports.charts.scenarios import time_chart
from reports.formatting import (
    format_bytes,
    format_count,
    format_factor,
    format_flops,
    format_number,
    format_ratio,
    format_seconds,
)
from reports.report import Column, Figure, Report, Section, TableView, numbers, or_else, texts
from workloads.scenarios.scenario import Scenario

_BASIS = "FLOPs, bytes, rows and forwards are counted; bound, time, rate and energy are predicted for the chip."


def rows_view(rows: pd.DataFrame, chip: str, *, brief: bool = False) -> TableView:
    """The rows of one chip; columns that say nothing here are left out; `brief` fits a terminal."""
    frame = rows[rows["chip"] == chip].assign(quality_text=_quality_texts(rows[rows["chip"] == chip]))
    columns: list[Column] = []
    if (frame["size"] != "").any():
        columns += texts(size="size")
    columns += texts(contender="contender")
    if (frame["way"] != "").any():
        columns += texts(way="way")
    columns += numbers(format_count, tokens="asked")
    if (frame["tokens"] != frame["written_tokens"]).any():
        columns += numbers(format_count, written_tokens="written")
    columns += [
        *numbers(format_count, forwards="forwards", rows="rows"),
        *numbers(format_flops, flops="FLOPs"),
        *numbers(format_bytes, bytes="bytes"),
        *(() if brief else numbers(format_number, intensity="FLOP/byte")),
        *texts(bound_by="bound by"),
        *(() if brief else numbers(format_seconds, bound_s="bound")),
        *numbers(format_seconds, simulated_s="simulated"),
        *numbers(format_number, simulated_tokens_per_s="tokens/s", j_per_token="J/token"),
    ]
    if frame["measured_s"].notna().any():
        columns += numbers(format_seconds, measured_s="measured")
    columns += texts(quality_text="quality")
    for name, header in (("kept_share", "rest kept"), ("solved_once_share", "solved once")):
        if frame[name].notna().any():
            columns += numbers(or_else(format_ratio, "-"), **{name: header})
    unknown = sorted({name for text in frame["unknown_ops"] for name in text.split(", ") if name})
    note = _BASIS + (f" Not counted, since nobody knows their cost: {', '.join(unknown)}." if unknown else "")
    return TableView(title="", frame=frame, columns=tuple(columns), note=note)


def budgets_view(budgets: pd.DataFrame, chip: str) -> TableView:
    """What fits into each budget on one chip."""
    frame = budgets[budgets["chip"] == chip]
    frame = frame.assign(
        quality_text=_quality_texts(frame), fits=["yes" if fits else "no" for fits in frame["point_fits"]]
    )
    columns: list[Column] = []
    if (frame["size"] != "").any():
        columns += texts(size="size")
    columns += texts(contender="contender")
    columns += numbers(format_seconds, budget_s="budget")
    if frame["most_tokens"].notna().any():
        columns += numbers(format_count, most_tokens="most tokens")
        columns += numbers(or_else(format_seconds, "-"), most_tokens_s="in")
    columns += numbers(format_count, point_tokens="operating point")
    columns += numbers(format_seconds, point_s="takes")
    columns += texts(fits="fits", quality_text="its quality")
    return TableView(title="", frame=frame, columns=tuple(columns), note="Times are simulated for the chip named.")


def _quality_texts(frame: pd.DataFrame) -> list[str]:
    return [_quality_text(row) for row in frame.to_dict("records")]


def _quality_text(row: Any) -> str:
    if row["quality_basis"] == "unknown":
        return "unknown"
    share = f"{100 * row['quality']:.1f} %"
    if row["quality_basis"] == "measured":
        return f"{share}, measured"
    return f"{share}, published ({row['quality_task']})"


def findings(rows: pd.DataFrame, budgets: pd.DataFrame | None) -> tuple[str, ...]:
    """Plain sentences, for each chip and size."""
    sentences: list[str] = []
    for (chip, size), part in rows.groupby(["chip", "size"], sort=False):
        where = f"On {chip}" + (f", {size}" if size else "")
        sentences += _extremes(where, part)
    if budgets is not None:
        for (chip, size, budget_s), part in budgets.groupby(["chip", "size", "budget_s"], sort=False):
            where = f"In {format_seconds(float(str(budget_s)))} on {chip}" + (f", {size}" if size else "")
            sentences += _budget_findings(where, part)
    return tuple(sentences)


def _extremes(where: str, part: pd.DataFrame) -> list[str]:
    if len(part) < 2:
        return []
    ordered = part.sort_values("simulated_s", kind="stable")
    first, second = ordered.iloc[0], ordered.iloc[1]
    factor = format_factor(second["simulated_s"] / first["simulated_s"])
    time = format_seconds(first["simulated_s"])
    sentences = [f"{where} {first['contender']} is fastest, {time}; {second['contender']} takes {factor} as long."]
    if part["j_per_token"].notna().any():
        least = part.sort_values("j_per_token", kind="stable").iloc[0]
        joules = format_number(least["j_per_token"])
        sentences.append(f"{where} {least['contender']} takes the least energy, {joules} J for each token asked for.")
    return sentences


def _budget_findings(where: str, part: pd.DataFrame) -> list[str]:
    sentences = []
    if part["most_tokens"].notna().any():
        most = part.sort_values("most_tokens", ascending=False, kind="stable").iloc[0]
        sentences.append(f"{where} {most['contender']} gives the most tokens, {format_count(most['most_tokens'])}.")
    known = part[(part["point_fits"] == 1) & part["quality"].notna()]
    if known.empty:
        sentences.append(f"{where} no operating point fits whose quality anybody measured or published.")
    for task, rows in known.groupby("quality_task", sort=False):
        best = rows.sort_values("quality", ascending=False, kind="stable").iloc[0]
        sentences.append(
            f"{where} the best quality is that of {best['contender']}: {100 * best['quality']:.1f} % "
            f"({best['quality_basis']}: {task})."
        )
    return sentences


def build_scenario_page(scenario: Scenario, rows: pd.DataFrame, budgets: pd.DataFrame | None) -> Report:
    """The page: findings, a chart and a table for each chip, and where published figures come from."""
    sections = []
    for chip in dict.fromkeys(rows["chip"]):
        figure = Figure(chart=time_chart(rows[rows["chip"] == chip]))
        sections.append(Section(title=f"On {chip}", figures=(figure,), tables=(rows_view(rows, chip),)))
        if budgets is not None:
            sections.append(Section(title=f"Within a time, on {chip}", tables=(budgets_view(budgets, chip),)))
    sources = rows[rows["quality_source"] != ""].drop_duplicates(["contender", "quality_source"])
    if len(sources):
        columns = texts(contender="contender", quality_task="task", quality_source="source")
        text = "Measured by others at these operating points; nothing of it was measured here."
        view = TableView(title="", frame=sources, columns=columns)
        sections.append(Section(title="Published qualities", text=text, tables=(view,)))
    return Report(title=scenario.title, findings=findings(rows, budgets), sections=tuple(sections))
