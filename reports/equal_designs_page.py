"""The page of `roofscape iso`: two designs made equal, workload by workload."""

import altair as alt
import numpy as np
import pandas as pd

from explorer.designs import binds
from explorer.equal_designs import EQUAL, EqualDesigns
from reports.charts.theme import WIDTH, chart_data, chart_title, themed
from reports.formatting import format_change, format_factor, format_joules, format_number, format_ratio, format_seconds
from reports.report import Figure, Report, Section, TableView, numbers, texts

_FIGURES = {"seconds": "seconds", "joules": "joules", "usd_per_million": "US$ per million"}
_A, _B = "#0072B2", "#D55E00"


def equal_frame(found: EqualDesigns) -> pd.DataFrame:
    """One row for each workload: both designs' figures and B over A; NaN where a design does not hold it."""
    judged = found.judged
    rows: dict[str, object] = {"workload": judged.workloads, "unit": judged.units}
    for name in _FIGURES:
        values = getattr(judged, name)
        rows |= {f"{name}_a": values[:, 0], f"{name}_b": values[:, 1], f"{name}_ratio": values[:, 1] / values[:, 0]}
    for d, design in enumerate("ab"):
        rows[f"memory_part_{design}"] = judged.memory_part[:, d]
        rows[f"compute_part_{design}"] = judged.compute_part[:, d]
        parts = zip(judged.memory_part[:, d], judged.compute_part[:, d], strict=True)
        rows[f"binds_{design}"] = [binds(float(memory), float(compute)) for memory, compute in parts]
    return pd.DataFrame(rows)


def designs_frame(found: EqualDesigns) -> pd.DataFrame:
    """Both designs: what they take, which limits they break."""
    judged = found.judged
    return pd.DataFrame(
        {
            "design": ["A", "B"],
            "label": [found.a.label, found.b.label],
            "area_mm2": judged.area_mm2,
            "tdp_w": judged.tdp_w,
            "bill_usd": judged.bill_usd,
            "peak_tflops": [float(each.hardware.peak_flops_per_s[0]) / 1e12 for each in (found.a, found.b)],
            "dram_tb_per_s": [float(each.hardware.dram_bytes_per_s[0]) / 1e12 for each in (found.a, found.b)],
            "broken": judged.broken,
        }
    )


def build_equal_page(found: EqualDesigns) -> Report:
    """Findings, both designs, and every workload on both."""
    frame = equal_frame(found)
    return Report(
        title="Two designs made equal" if found.scaled else "Two designs",
        findings=tuple(sentences(found)),
        sections=(
            Section(title="The designs", tables=(designs_table(found),)),
            Section(
                title="Workloads",
                text="B over A; below 1, B is better. Every figure is predicted.",
                figures=(Figure(chart=ratio_chart(frame)),),
                tables=(workloads_table(frame), bound_table(frame)),
            ),
        ),
    )


def sentences(found: EqualDesigns) -> list[str]:
    """What was scaled, who wins where, which limits are broken."""
    said = []
    scaled = found.scaled
    if scaled is not None:
        said.append(
            f"B with {scaled.knob} = {format_number(scaled.after)} instead of {format_number(scaled.before)} takes "
            f"{format_number(scaled.reached)} {EQUAL[scaled.equal]}, A {format_number(scaled.target)} "
            f"({format_change(1.0 + scaled.residual)}: the nearest that a step of {scaled.knob} allows)."
        )
    frame = equal_frame(found)
    known = frame[frame["seconds_ratio"].notna()]
    for name, word in (("seconds", "faster"), ("joules", "thriftier in joules"), ("usd_per_million", "cheaper")):
        ratio = known[f"{name}_ratio"]
        wins = [str(workload) for workload in known["workload"][ratio < 1.0]]
        if len(known):
            said.append(
                f"B is {word} on {len(wins)} of {len(known)} workloads"
                f"{': ' + ', '.join(wins) if 0 < len(wins) < len(known) else ''} "
                f"(B over A {format_factor(float(ratio.min()))} to {format_factor(float(ratio.max()))})."
            )
    for letter, broken in zip("AB", found.judged.broken, strict=True):
        if broken:
            said.append(f"{letter} breaks a limit of the space: {broken}.")
    for letter in "ab":
        lost = [str(workload) for workload in frame["workload"][frame[f"seconds_{letter}"].isna()]]
        if lost:
            said.append(f"The memory of {letter.upper()} does not hold {', '.join(lost)}.")
    return said


def designs_table(found: EqualDesigns) -> TableView:
    """Both designs."""
    columns = (
        *texts(design="design", label="given as"),
        *numbers(format_number, area_mm2="mm2", tdp_w="TDP W", bill_usd="bill US$"),
        *numbers(format_number, peak_tflops="TFLOP/s", dram_tb_per_s="TB/s"),
    )
    return TableView(title="A and B", frame=designs_frame(found), columns=columns)


def workloads_table(frame: pd.DataFrame) -> TableView:
    """Every workload on both."""
    columns = (
        *texts(workload="workload", unit="for each"),
        *numbers(format_seconds, seconds_a="A", seconds_b="B"),
        *numbers(format_factor, seconds_ratio="B/A"),
        *numbers(format_joules, joules_a="A", joules_b="B"),
        *numbers(format_factor, joules_ratio="B/A"),
        *numbers(format_number, usd_per_million_a="A US$/M", usd_per_million_b="B US$/M"),
        *numbers(format_factor, usd_per_million_ratio="B/A"),
    )
    return TableView(title="Time, energy and cost", frame=frame, columns=columns)


def bound_table(frame: pd.DataFrame) -> TableView:
    """What binds each workload on both."""
    columns = (
        *texts(workload="workload", binds_a="A is bound by", binds_b="B is bound by"),
        *numbers(format_ratio, memory_part_a="memory, A", memory_part_b="memory, B"),
        *numbers(format_ratio, compute_part_a="compute, A", compute_part_b="compute, B"),
    )
    note = "Parts of the kernels' time; in the rest cores wait for operands on the chip or for latencies."
    return TableView(title="What binds", frame=frame, columns=columns, note=note)


def ratio_chart(frame: pd.DataFrame) -> alt.typing.ChartType:
    """B over A of each workload, a panel for each figure."""
    long = frame.melt(
        id_vars=["workload"],
        value_vars=[f"{name}_ratio" for name in _FIGURES],
        var_name="figure",
        value_name="ratio",
    ).dropna(subset=["ratio"])
    long["figure"] = long["figure"].map({f"{name}_ratio": title for name, title in _FIGURES.items()})
    long["change"] = np.log2(long["ratio"])
    long["written"] = [format_factor(ratio) for ratio in long["ratio"]]
    chart = (
        alt.Chart(chart_data(long, "ratios"))
        .mark_bar()
        .encode(
            x=alt.X("change:Q").title("log2 of B over A"),
            y=alt.Y("workload:N").sort(None).title(None),
            color=alt.condition("datum.change < 0", alt.value(_B), alt.value(_A)),
            column=alt.Column("figure:N").sort(list(_FIGURES.values())).title(None),
            tooltip=["workload:N", "figure:N", alt.Tooltip("written:N", title="B over A")],
        )
        .properties(width=(WIDTH - 160) // 3)
    )
    return themed(chart.properties(title=chart_title("B over A", "orange: B is better; predicted")))


def as_json(found: EqualDesigns) -> dict[str, object]:
    """Everything a script may read."""
    scaled = found.scaled
    return {
        "designs": designs_frame(found).to_dict("records"),
        "scaled": None
        if scaled is None
        else {name: getattr(scaled, name) for name in (*type(scaled).__slots__, "residual")},
        "workloads": equal_frame(found).to_dict("records"),
    }
