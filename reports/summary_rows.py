"""Rows of the summary, of the comparison of paradigms, and of the phases."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from reports.frames import columns_of, frame_of, ratio
from reports.subject import Subject
from roofline.analysis import analyze
from roofline.points import RooflinePoint
from workloads.roles import ROLES

NO_PHASE = "(no phase)"

_SUMMARY = columns_of(
    text="subject paradigm trace chip origin view bound_by measured_on engine mode band energy_reason unknown_ops "
    "notes",
    number="calls ops flops bytes weights_share kv_cache_share activations_share logits_share intensity bound_s "
    "measured_s simulated_s simulated_low_s simulated_high_s energy_j energy_low_j energy_high_j "
    "average_power_w tokens nfe "
    "measured_tokens_per_s simulated_tokens_per_s j_per_token efficiency measured_here unknown_calls",
)
_COMPARISON = columns_of(text="subject paradigm chip per metric", number="value")
_PHASES = columns_of(
    text="subject paradigm chip origin phase bound_by",
    number="steps calls unknown_calls flops "
    "bytes weights_share kv_cache_share activations_share logits_share intensity "
    "flops_per_step bytes_per_step bound_s_per_step simulated_s_per_step measured_s_per_step bound_s simulated_s "
    "measured_s",
)


def summary_frame(subjects: Sequence[Subject]) -> pd.DataFrame:
    """One row per subject: totals of the whole trace."""
    return frame_of([_summary_row(subject) for subject in subjects], _SUMMARY)


def _summary_row(subject: Subject) -> dict[str, object]:
    trace, simulation = subject.trace, subject.simulation
    (point,) = analyze(trace, subject.chip, by="trace")
    simulated_s = simulation.makespan_s if simulation else None
    energy_j = simulation.energy_j if simulation else None
    return {
        "subject": subject.label,
        "paradigm": subject.paradigm,
        "trace": trace.name,
        "chip": subject.chip.name,
        "origin": trace.provenance.source,
        "view": trace.view,
        "calls": point.calls,
        "ops": len(trace.ops),
        "flops": point.flops,
        "bytes": point.bytes,
        **role_shares(point),
        "intensity": point.intensity,
        "bound_s": point.bound_s,
        "bound_by": point.bound_by,
        "measured_s": point.measured_s,
        "measured_on": subject.measured_on,
        "efficiency": point.efficiency if subject.is_measured_here else None,
        "measured_here": float(subject.is_measured_here),
        "simulated_s": simulated_s,
        "simulated_low_s": simulation.low_s if simulation else None,
        "simulated_high_s": simulation.high_s if simulation else None,
        "band": simulation.band_reason if simulation else "",
        "engine": simulation.engine if simulation else "",
        "mode": simulation.mode if simulation else "",
        "energy_j": energy_j,
        "energy_low_j": simulation.energy_low_j if simulation else None,
        "energy_high_j": simulation.energy_high_j if simulation else None,
        "energy_reason": simulation.energy_reason if simulation else "not simulated",
        "average_power_w": simulation.average_power_w if simulation else None,
        "tokens": subject.tokens,
        "nfe": subject.nfe,
        "measured_tokens_per_s": ratio(subject.tokens, point.measured_s),
        "simulated_tokens_per_s": ratio(subject.tokens, simulated_s),
        "j_per_token": ratio(energy_j, subject.tokens),
        "unknown_calls": point.unknown_calls,
        "unknown_ops": ", ".join(dict.fromkeys(op.name for op in trace.unknown_ops)),
        "notes": " ".join((*subject.notes, *(simulation.notes if simulation else ()))),
    }


def role_shares(point: RooflinePoint) -> dict[str, float | None]:
    """Share of a group's bytes that each role has, read and written together."""
    read, written = dict(point.read_bytes), dict(point.write_bytes)
    return {f"{role}_share": ratio(read.get(role, 0.0) + written.get(role, 0.0), point.bytes) for role in ROLES}


def comparison_frame(summary: pd.DataFrame) -> pd.DataFrame:
    """Totals of each subject divided by its network evaluations and by its tokens, one row per figure."""
    rows: list[dict[str, object]] = []
    for record in summary.to_dict("records"):
        row = {str(name): value for name, value in record.items()}
        for per, count in (("forward", row["nfe"]), ("token", row["tokens"])):
            for metric in ("flops", "bytes", "bound_s", "simulated_s", "energy_j"):
                rows.append({**row, "per": per, "metric": metric, "value": ratio(row[metric], count)})
            rows.append({**row, "per": per, "metric": "intensity", "value": row["intensity"] if count > 0 else None})
    return frame_of(rows, _COMPARISON)


def phases_frame(subjects: Sequence[Subject]) -> pd.DataFrame:
    """One row per subject and phase; a phase without step numbers counts as one step."""
    rows = []
    for subject in subjects:
        rows += [_phase_row(subject, index, point) for index, point in _phase_points(subject)]
    return frame_of(rows, _PHASES)


def _phase_points(subject: Subject) -> list[tuple[int, RooflinePoint]]:
    present = np.flatnonzero(np.bincount(subject.trace.calls.phase, minlength=len(subject.trace.phases)))
    points = analyze(subject.trace, subject.chip, by="phase")
    return list(zip(present.tolist(), points, strict=True))


def _phase_row(subject: Subject, phase: int, point: RooflinePoint) -> dict[str, object]:
    calls, simulation = subject.trace.calls, subject.simulation
    in_phase = calls.phase == phase
    numbered = calls.step[in_phase]
    steps = max(1, len(np.unique(numbered[numbered >= 0])))
    simulated_s = float(simulation.duration_s[in_phase].sum()) if simulation else None
    return {
        "subject": subject.label,
        "paradigm": subject.paradigm,
        "chip": subject.chip.name,
        "origin": subject.trace.provenance.source,
        "phase": point.label or NO_PHASE,
        "steps": steps,
        "calls": point.calls,
        "unknown_calls": point.unknown_calls,
        "flops": point.flops,
        "bytes": point.bytes,
        **role_shares(point),
        "intensity": point.intensity,
        "bound_by": point.bound_by,
        "flops_per_step": ratio(point.flops, steps),
        "bytes_per_step": ratio(point.bytes, steps),
        "bound_s": point.bound_s,
        "bound_s_per_step": ratio(point.bound_s, steps),
        "simulated_s": simulated_s,
        "simulated_s_per_step": ratio(simulated_s, steps),
        "measured_s": point.measured_s,
        "measured_s_per_step": ratio(point.measured_s, steps),
    }
