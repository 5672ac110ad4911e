"""Rows of the breakdowns: time by kind, bytes by kind and role, utilization, energy, timeline of one step."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from profiler.traces import IntArray
from reports.frames import columns_of, frame_of
from reports.subject import Subject
from reports.summary_rows import NO_PHASE
from roofline.analysis import analyze
from simulator.result import SimulationResult
from workloads.roles import ROLES

# Intervals of one subject that are drawn.
MAX_INTERVALS = 2_000

_KINDS = columns_of(text="subject paradigm chip kind basis device", number="duration_s calls")
_ROLES = columns_of(text="subject paradigm kind role direction", number="bytes")
_UTILIZATION = columns_of(text="subject chip resource", number="busy_s utilization")
_ENERGY = columns_of(text="subject chip part", number="energy_j")
_TIMELINE = columns_of(text="subject chip phase kind name", number="step stream calls start_s end_s duration_s bound_s")


def kinds_frame(subjects: Sequence[Subject]) -> pd.DataFrame:
    """Seconds by kind, one row per subject, kind and basis (`bound`, `simulated`, `measured`)."""
    rows: list[dict[str, object]] = []
    for subject in subjects:
        common = {"subject": subject.label, "paradigm": subject.paradigm, "chip": subject.chip.name}
        simulated_s: dict[str, float] = {}
        if subject.simulation is not None:
            by_kind = subject.simulation.summary(by=("kind",))
            simulated_s = dict(zip(by_kind["kind"].astype(str), by_kind["duration_s"].astype(float), strict=True))
        for point in analyze(subject.trace, subject.chip, by="kind"):
            chip = subject.chip.name
            for basis, device, duration_s in (
                ("bound", chip, point.bound_s),
                ("simulated", chip, simulated_s.get(point.kind)),
                ("measured", subject.measured_on, point.measured_s),
            ):
                if duration_s is not None:
                    row = {"kind": point.kind, "basis": basis, "device": device}
                    rows.append({**common, **row, "duration_s": duration_s, "calls": point.calls})
    return frame_of(rows, _KINDS)


def roles_frame(subjects: Sequence[Subject]) -> pd.DataFrame:
    """Known bytes by kind, role and direction; rows of zero bytes are left out."""
    rows: list[dict[str, object]] = []
    for subject in subjects:
        common = {"subject": subject.label, "paradigm": subject.paradigm}
        for point in analyze(subject.trace, subject.chip, by="kind"):
            for direction, figures in (("read", point.read_bytes), ("written", point.write_bytes)):
                rows += [
                    {**common, "kind": point.kind, "role": role, "direction": direction, "bytes": moved_bytes}
                    for role, moved_bytes in figures
                    if moved_bytes and role in ROLES
                ]
    return frame_of(rows, _ROLES)


def utilization_frame(subjects: Sequence[Subject]) -> pd.DataFrame:
    """Utilization of each resource in each simulation."""
    rows: list[dict[str, object]] = []
    for subject in subjects:
        if subject.simulation is None:
            continue
        busy_s = dict(subject.simulation.busy_s)
        rows += [
            {
                "subject": subject.label,
                "chip": subject.chip.name,
                "resource": resource,
                "busy_s": busy_s[resource],
                "utilization": utilization,
            }
            for resource, utilization in subject.simulation.utilization
        ]
    return frame_of(rows, _UTILIZATION)


def energy_frame(subjects: Sequence[Subject]) -> pd.DataFrame:
    """Simulated joules by part; a subject whose energy is unknown has no rows here."""
    rows: list[dict[str, object]] = []
    for subject in subjects:
        parts = subject.simulation.energy_parts_j if subject.simulation else ()
        rows += [
            {"subject": subject.label, "chip": subject.chip.name, "part": part, "energy_j": joules}
            for part, joules in parts
        ]
    return frame_of(rows, _ENERGY)


def timeline_frame(subjects: Sequence[Subject]) -> pd.DataFrame:
    """Simulated intervals of one typical step of each subject, counted from the start of that step.

    The step is the middle one of the phase that takes longest. Neighboring calls of one kind are merged where there
    are too many to draw; what is beyond the limit then is cut off.
    """
    frames = []
    for subject in subjects:
        if subject.simulation is not None:
            frames.append(_step_intervals(subject, subject.simulation))
    if not frames:
        return frame_of([], _TIMELINE)
    return pd.concat(frames, ignore_index=True)


def _step_intervals(subject: Subject, simulation: SimulationResult) -> pd.DataFrame:
    chosen = _typical_step(simulation)
    op = simulation.op[chosen]
    start_s, duration_s = simulation.start_s[chosen], simulation.duration_s[chosen]
    intervals = pd.DataFrame(
        {
            "kind": [simulation.op_kinds[i] for i in op],
            "name": [simulation.op_names[i] for i in op],
            "phase": [simulation.phases[i] or NO_PHASE for i in simulation.phase[chosen]],
            "step": [float(step) if step >= 0 else np.nan for step in simulation.step[chosen]],
            "stream": simulation.stream[chosen],
            "calls": 1.0,
            "start_s": start_s - start_s.min(),
            "end_s": start_s - start_s.min() + duration_s,
            "bound_s": simulation.op_bound_s[op],
        }
    )
    if len(intervals) > MAX_INTERVALS:
        intervals = _merge_runs(intervals).head(MAX_INTERVALS)
    intervals["duration_s"] = intervals["end_s"] - intervals["start_s"]
    rows = [
        {"subject": subject.label, "chip": subject.chip.name, **{str(k): v for k, v in row.items()}}
        for row in intervals.to_dict("records")
    ]
    return frame_of(rows, _TIMELINE)


def _typical_step(simulation: SimulationResult) -> IntArray:
    """Indices of the calls of the middle step of the phase that takes longest."""
    per_phase = np.bincount(simulation.phase, weights=simulation.duration_s, minlength=len(simulation.phases))
    in_phase = simulation.phase == int(per_phase.argmax())
    steps = np.unique(simulation.step[in_phase])
    return np.flatnonzero(in_phase & (simulation.step == steps[len(steps) // 2])).astype(np.int64)


def _merge_runs(intervals: pd.DataFrame) -> pd.DataFrame:
    """Neighboring calls of the same kind and stream as one interval."""
    key = intervals["kind"] + " " + intervals["stream"].astype(str)
    run = (key != key.shift()).cumsum()
    merged = intervals.groupby(run, sort=True).agg(
        kind=("kind", "first"),
        name=("name", lambda names: " + ".join(dict.fromkeys(names))),
        phase=("phase", "first"),
        step=("step", "first"),
        stream=("stream", "first"),
        calls=("calls", "sum"),
        start_s=("start_s", "min"),
        end_s=("end_s", "max"),
        bound_s=("bound_s", "sum"),
    )
    return merged.reset_index(drop=True)
