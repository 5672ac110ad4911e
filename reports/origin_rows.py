"""Rows that say where the figures come from and what nobody knows: provenance, unknown ops, kernels, chips."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from profiler.importers.summary import summarize_kernels
from profiler.op import Op
from profiler.provenance import Provenance
from profiler.traces import ATTRIBUTIONS, KERNEL_CATEGORIES
from reports.formatting import format_hertz
from reports.frames import columns_of, frame_of
from reports.subject import Subject
from roofline.points import op_label

# Kernels of one subject that are listed by name, the longest.
MAX_KERNELS = 100

_PROVENANCE = columns_of(text="subject stage item value", number="")
_UNKNOWN = columns_of(text="subject kind label missing", number="calls measured_s")
_KERNELS = columns_of(text="subject name category attribution", number="kernels duration_s")
_KERNEL_TOTALS = columns_of(
    text="subject device",
    number="kernel_count copy_count kernel_s copy_s busy_s span_s unexplained_count unexplained_s repeated_count "
    "repeated_s host_copy_count host_copy_s gemm_s gemm_explained_ratio",
)
_SOURCES = columns_of(text="chip title section source", number="")


def provenance_frame(subjects: Sequence[Subject]) -> pd.DataFrame:
    """Every stated item of the provenance of each trace and simulation."""
    rows: list[dict[str, object]] = []
    for subject in subjects:
        stages = [("trace", subject.trace.provenance)]
        if subject.simulation is not None:
            stages.append(("simulation", subject.simulation.provenance))
        for stage, provenance in stages:
            rows += [
                {"subject": subject.label, "stage": stage, "item": item, "value": value}
                for item, value in _items(provenance)
                if value
            ]
    return frame_of(rows, _PROVENANCE)


def _items(provenance: Provenance) -> Iterator[tuple[str, str]]:
    yield "source", provenance.source
    yield "created (UTC)", provenance.created_utc
    yield "command", provenance.command
    yield "device", provenance.device
    yield "clock", "" if provenance.clock_hz is None else format_hertz(provenance.clock_hz)
    yield "seed", "" if provenance.seed is None else str(provenance.seed)
    yield "packages", ", ".join(f"{name} {version}" for name, version in provenance.packages)
    for note in provenance.notes:
        yield "note", note


def unknown_frame(subjects: Sequence[Subject]) -> pd.DataFrame:
    """One row per subject and op of which FLOPs or bytes are unknown."""
    rows: list[dict[str, object]] = []
    for subject in subjects:
        trace = subject.trace
        for index, op in enumerate(trace.ops):
            missing = _missing(op)
            if missing:
                durations = trace.calls.duration_s[trace.calls.op == index]
                measured = durations[np.isfinite(durations)]
                rows.append(
                    {
                        "subject": subject.label,
                        "kind": op.kind,
                        "label": op_label(op),
                        "missing": missing,
                        "calls": int(trace.call_counts[index]),
                        "measured_s": float(measured.sum()) if len(measured) else None,
                    }
                )
    return frame_of(rows, _UNKNOWN)


def _missing(op: Op) -> str:
    no_bytes = op.read_bytes() is None or op.write_bytes() is None
    if op.flops is None:
        return "FLOPs and bytes" if no_bytes else "FLOPs"
    return "bytes" if no_bytes else ""


def kernels_frame(subjects: Sequence[Subject]) -> pd.DataFrame:
    """Measured kernels by name and how they were attached to ops, longest first, unexplained ones before all."""
    rows: list[dict[str, object]] = []
    for subject in subjects:
        kernels = subject.trace.kernels
        frame = pd.DataFrame(
            {
                "name": kernels.name,
                "category": kernels.category,
                "attribution": kernels.attribution,
                "duration_s": kernels.duration_s,
            }
        )
        grouped = frame.groupby(["name", "category", "attribution"])["duration_s"].agg(["size", "sum"]).reset_index()
        unexplained = grouped["attribution"] == ATTRIBUTIONS.index("unexplained")
        order = grouped.assign(unexplained=unexplained).sort_values(["unexplained", "sum"], ascending=False)
        for row in order.head(MAX_KERNELS).to_dict("records"):
            rows.append(
                {
                    "subject": subject.label,
                    "name": subject.trace.kernel_names[int(row["name"])],
                    "category": KERNEL_CATEGORIES[int(row["category"])],
                    "attribution": ATTRIBUTIONS[int(row["attribution"])],
                    "kernels": row["size"],
                    "duration_s": row["sum"],
                }
            )
    return frame_of(rows, _KERNELS)


def kernel_totals_frame(subjects: Sequence[Subject]) -> pd.DataFrame:
    """Totals over the kernels of each subject that has any."""
    rows: list[dict[str, object]] = []
    for subject in subjects:
        if len(subject.trace.kernels):
            summary = summarize_kernels(subject.trace)
            figures = {name: getattr(summary, name) for name, what in _KERNEL_TOTALS.items() if what == "number"}
            rows.append({"subject": subject.label, "device": subject.measured_on, **figures})
    return frame_of(rows, _KERNEL_TOTALS)


def sources_frame(subjects: Sequence[Subject]) -> pd.DataFrame:
    """Where the figures of each chip come from, each chip once."""
    chips = {subject.chip.name: subject.chip for subject in subjects}
    rows = [
        {"chip": chip.name, "title": chip.title, "section": section, "source": source}
        for chip in chips.values()
        for section, source in chip.sources
    ]
    return frame_of(rows, _SOURCES)
