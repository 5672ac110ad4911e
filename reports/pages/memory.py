"""Memory: what each program holds while it runs, by role, and whether it fits its chip."""

from reports.charts.live_memory import live_memory
from reports.formatting import format_bytes, format_count
from reports.report import Figure, Report, Section, TableView, numbers, texts, unique
from reports.tables import Tables


def build(tables: Tables) -> Report:
    """One curve per program, then the peaks by phase."""
    subjects = unique(tables.memory["subject"])
    if not subjects:
        text = "No trace of this report says which storages its calls write to, so live memory is unknown."
        return Report(title="Memory", findings=(text,), sections=())
    curves = tables.memory_curve
    figures = tuple(Figure(chart=live_memory(curves[curves["subject"] == name], name)) for name in subjects)
    peaks = TableView(
        title="Most bytes held in each phase",
        frame=tables.memory,
        columns=(
            *texts(subject="program", phase="phase"),
            *numbers(format_count, calls="calls"),
            *numbers(
                format_bytes,
                peak_bytes="peak",
                weights_bytes="weights",
                kv_cache_bytes="KV cache",
                activations_bytes="activations",
                logits_bytes="logits",
            ),
        ),
        note="Allocator, workspaces and the device's own context come on top.",
    )
    return Report(
        title="Memory",
        findings=tuple(_finding(tables, name) for name in subjects),
        sections=(Section(title="Live bytes", figures=figures, tables=(peaks,)),),
    )


def _finding(tables: Tables, subject: str) -> str:
    rows = tables.memory[tables.memory["subject"] == subject]
    largest = rows.sort_values("peak_bytes", ascending=False).iloc[0]
    fits = f"Does not fit: {largest['misfit']}." if largest["misfit"] else f"It fits {largest['chip']}."
    return f"{subject}: holds at most {format_bytes(largest['peak_bytes'])}, in {largest['phase']}. {fits}"
