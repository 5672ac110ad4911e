"""The tables that the demonstration prints: what one step does, and what one token costs."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports import formatting
from reports.console import print_table


def print_demo_tables(phases: Sequence[Mapping[Any, Any]], summary: Sequence[Mapping[Any, Any]]) -> None:
    """Print one row per generating phase and one row per program, from the report's own tables.

    Args:
        phases: rows of `Tables.phases`.
        summary: rows of `Tables.summary`.
    """
    steps = [
        (
            row["subject"],
            row["phase"],
            row["chip"],
            formatting.format_flops(row["flops_per_step"]),
            formatting.format_bytes(row["bytes_per_step"]),
            formatting.format_ratio(row["weights_share"]),
            formatting.format_intensity(row["intensity"]),
            str(row["bound_by"]),
            formatting.format_seconds(row["bound_s_per_step"]),
            formatting.format_seconds(row["simulated_s_per_step"]),
            formatting.format_seconds(row["measured_s_per_step"]) if row["measured_s"] == row["measured_s"] else "-",
        )
        for row in phases
        if row["phase"] in ("prefill", "decode", "denoise")
    ]
    columns = ("program", "phase", "chip", "FLOPs", "bytes", "weights", "intensity", "bound by")
    times = ("bound", "simulated", "measured")
    print_table("One step (bound and simulated: predicted)", (*columns, *times), steps, left=3)
    rows = [
        (
            row["subject"],
            row["chip"],
            formatting.format_count(row["tokens"]),
            formatting.format_count(row["nfe"]),
            formatting.format_tokens_per_s(row["simulated_tokens_per_s"]),
            formatting.format_joules(row["j_per_token"]),
            formatting.format_tokens_per_s(row["measured_tokens_per_s"])
            if row["measured_s"] == row["measured_s"]
            else "-",
        )
        for row in summary
        if row["tokens"] == row["tokens"]
    ]
    print_table(
        "Whole generation, batch 1",
        ("program", "chip", "tokens", "forwards", "simulated", "energy per token", "measured"),
        rows,
        left=2,
    )
