"""Roofline: every program's operations under the hierarchical roofline of its chip."""

import pandas as pd

from reports.charts.roofline import kind_roofline
from reports.formatting import (
    format_bytes,
    format_count,
    format_flops,
    format_number,
    format_ratio,
    format_seconds,
    shorten,
)
from reports.report import Column, Figure, Report, Section, TableView, numbers, or_else, texts, unique
from reports.tables import Tables

_LISTED_OPS = 15
_OPERATION = Column(name="label", header="operation", write=lambda label: shorten(label, 80))


def build(tables: Tables) -> Report:
    """One section per subject."""
    subjects = unique(tables.summary["subject"])
    return Report(
        title="Roofline",
        findings=tuple(_finding(tables, subject) for subject in subjects),
        sections=tuple(_section(tables, subject) for subject in subjects),
    )


def _finding(tables: Tables, subject: str) -> str:
    points = tables.points[tables.points["subject"] == subject]
    ops = points[(points["grouping"] == "op") & (points["basis"] == "bound")]
    summary = tables.summary[tables.summary["subject"] == subject].iloc[0]
    total_s = float(summary["bound_s"])
    left_out = f" without what is unknown of {format_count(summary['unknown_calls'])} calls"
    by_resource = ops.groupby("bound_by")["duration_s"].sum().sort_values(ascending=False)
    parts = [
        f"{resource} {format_ratio(seconds / total_s)}" for resource, seconds in by_resource.items() if seconds > 0
    ]
    return (
        f"{subject}: the least time on {points['chip'].iloc[0]} is {format_seconds(total_s)}"
        f"{left_out if summary['unknown_calls'] > 0 else ''}; by what binds each "
        f"operation: {', '.join(parts) or 'unknown'}."
    )


def _section(tables: Tables, subject: str) -> Section:
    points = tables.points[(tables.points["subject"] == subject) & (tables.points["grouping"] == "op")]
    chip = points["chip"].iloc[0]
    figures: tuple[Figure, ...] = ()
    if (points["undrawn"] == "").any():
        lines = tables.ceilings[tables.ceilings["subject"] == subject]
        chart = kind_roofline(points, lines, f"Operations of {subject} under the roofline of {chip}")
        figures = (Figure(chart=chart, caption="Each point is one distinct operation with all its calls."),)
    traffic = tables.traffic[tables.traffic["subject"] == subject]
    views = (_longest(points), _traffic(traffic), _undrawn(points))
    return Section(title=subject, figures=figures, tables=tuple(view for view in views if len(view.frame)))


def _by_op(points: pd.DataFrame) -> pd.DataFrame:
    """One row per op, its seconds by basis as columns."""
    ops = points[points["basis"] == "bound"].reset_index(drop=True)
    for basis in ("simulated", "measured"):
        rows = points[points["basis"] == basis].set_index("group")
        ops[f"{basis}_s"] = ops["group"].map(rows["duration_s"])
        ops[f"{basis}_share"] = ops["group"].map(rows["share"])
        ops[f"{basis}_efficiency"] = ops["group"].map(rows["efficiency"])
    ops["order_s"] = ops["measured_s"].fillna(ops["simulated_s"]).fillna(ops["duration_s"])
    return ops.sort_values("order_s", ascending=False, kind="stable")


def _longest(points: pd.DataFrame) -> TableView:
    ops = _by_op(points)
    measured = ops["measured_s"].notna().any()
    basis = "measured" if measured else "simulated"
    return TableView(
        title=f"The {min(_LISTED_OPS, len(ops))} operations that take longest",
        frame=ops.head(_LISTED_OPS),
        columns=(
            _OPERATION,
            *texts(kind="kind"),
            *numbers(format_count, calls="calls"),
            *numbers(format_flops, flops="FLOPs"),
            *numbers(format_bytes, bytes="bytes"),
            *numbers(format_number, intensity="FLOP/byte"),
            *texts(bound_by="bound by"),
            *numbers(format_seconds, duration_s="bound (predicted)", simulated_s="simulated (predicted)"),
            *(numbers(format_seconds, measured_s="measured") if measured else ()),
            *numbers(format_ratio, **{f"{basis}_share": f"share of {basis}"}),
            *numbers(format_ratio, **{f"{basis}_efficiency": f"bound / {basis}"}),
        ),
        note="All calls of an operation together.",
    )


def _traffic(traffic: pd.DataFrame) -> TableView:
    return TableView(
        title="Memory traffic: asked for (modeled) and measured by hardware counters",
        frame=traffic.head(_LISTED_OPS),
        columns=(
            _OPERATION,
            *texts(explanation="what it says"),
            *numbers(format_count, calls="calls counted"),
            *numbers(format_bytes, modeled_bytes="asked for (modeled)"),
            *numbers(
                or_else(format_bytes, "not counted"),
                dram_bytes="main memory (measured)",
                l2_bytes="L2 (measured)",
                l1_bytes="L1 (measured)",
                spill_bytes="spills (measured)",
            ),
        ),
        note=f"Asked for: each tensor once. Those with the most measured bytes, {len(traffic.head(_LISTED_OPS))} of "
        f"{len(traffic)}.",
    )


def _undrawn(points: pd.DataFrame) -> TableView:
    ops = _by_op(points)
    return TableView(
        title="Operations without a place on logarithmic axes",
        frame=ops[ops["undrawn"] != ""].head(_LISTED_OPS),
        columns=(
            _OPERATION,
            *texts(kind="kind", undrawn="why"),
            *numbers(format_count, calls="calls"),
            *numbers(format_bytes, bytes="bytes"),
            *numbers(format_seconds, duration_s="bound (predicted)", simulated_s="simulated (predicted)"),
            *numbers(or_else(format_seconds, "not measured"), measured_s="measured"),
        ),
        note=f"The longest, at most {_LISTED_OPS}.",
    )
