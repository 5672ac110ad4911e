"""Measured bytes beside modeled bytes, for the terminal and for scripts."""

from dataclasses import asdict

from profiler.traces import Trace
from profiler.traffic import op_traffic
from reports import formatting
from reports.console import print_table, remark
from roofline.points import op_label


def show_traffic(trace: Trace, top: int) -> None:
    """Print the ops whose kernels hardware counters saw, and why measured and modeled bytes differ."""
    rows = op_traffic(trace)
    size = formatting.format_bytes
    print_table(
        "memory traffic: asked for (modeled, each tensor once) and measured by hardware counters",
        ("op", "what it says", "calls", "asked for", "main memory", "L2", "L1"),
        [
            (
                formatting.shorten(op_label(trace.ops[row.op]), 90),
                row.explanation,
                formatting.format_count(row.calls),
                size(row.modeled_bytes),
                size(row.dram_bytes),
                size(row.l2_bytes),
                size(row.l1_bytes),
            )
            for row in rows[:top]
        ],
        left=2,
    )
    if len(rows) > top:
        remark(f"{len(rows) - top} more ops with counters; --top {len(rows)} shows all, --json gives every figure")


def traffic_json(trace: Trace) -> list[dict[str, object]]:
    """The same for scripts, empty where nothing was counted."""
    if not trace.is_counted:
        return []
    return [{**asdict(row), "label": op_label(trace.ops[row.op])} for row in op_traffic(trace)]
