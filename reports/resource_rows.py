"""Rows of what was held and drawn: live memory by role over the calls, and measured joules by source and phase."""

from collections.abc import Sequence

import pandas as pd

from profiler.energy_calls import energy_frame
from profiler.errors import TraceError
from profiler.memory import MemoryUse, memory_use
from reports.frames import columns_of, frame_of
from reports.memory_fit import use_does_not_fit
from reports.subject import Subject
from reports.summary_rows import NO_PHASE
from workloads.roles import ROLES

# Points of one subject's curve; each has a row per role.
MAX_POINTS = 100

_MEMORY = columns_of(
    text="subject chip phase misfit",
    number="calls peak_bytes weights_bytes kv_cache_bytes activations_bytes logits_bytes",
)
_CURVE = columns_of(text="subject phase role", number="call bytes")
_ENERGY = columns_of(
    text="subject source method phase state",
    number="duration_s energy_j uncertainty_j average_power_w idle_w above_idle_j coverage",
)


def memory_frame(subjects: Sequence[Subject]) -> pd.DataFrame:
    """Most bytes held in each phase; a subject whose trace does not tell has no rows."""
    rows: list[dict[str, object]] = []
    for subject in subjects:
        use = _use(subject)
        if use is not None:
            common = {
                "subject": subject.label,
                "chip": subject.chip.name,
                "misfit": use_does_not_fit(use, subject.chip),
            }
            for row in use.by_phase().to_dict("records"):
                named = {str(key): value for key, value in row.items()}
                rows.append({**common, **named, "phase": named["phase"] or NO_PHASE})
    return frame_of(rows, _MEMORY)


def memory_curve_frame(subjects: Sequence[Subject]) -> pd.DataFrame:
    """Bytes of each role over the calls, at most `MAX_POINTS` calls of each subject."""
    rows: list[dict[str, object]] = []
    for subject in subjects:
        use = _use(subject)
        for point in use.over_time(MAX_POINTS).to_dict("records") if use is not None else ():
            common = {"subject": subject.label, "phase": point["phase"] or NO_PHASE, "call": point["call"]}
            rows += [{**common, "role": role, "bytes": point[f"{role}_bytes"]} for role in ROLES]
    return frame_of(rows, _CURVE)


def measured_energy_frame(subjects: Sequence[Subject]) -> pd.DataFrame:
    """Measured joules of each source by phase; a source without readings has rows that are unknown, with its state."""
    rows: list[dict[str, object]] = []
    for subject in subjects:
        if subject.trace.energy is None:
            continue
        states = {source.name: source.state.replace("_", " ") for source in subject.trace.energy.sources}
        for row in energy_frame(subject.trace).to_dict("records"):
            named = {str(key): value for key, value in row.items()}
            common = {"subject": subject.label, "state": states[str(row["source"])]}
            rows.append({**common, **named, "phase": named["phase"] or NO_PHASE})
    return frame_of(rows, _ENERGY)


def _use(subject: Subject) -> MemoryUse | None:
    try:
        return memory_use(subject.trace)
    except TraceError:
        return None
