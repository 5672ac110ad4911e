"""`Tables`: every figure of a report as named frames, built once from the subjects; pages only choose from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from reports.breakdown_rows import energy_frame, kinds_frame, roles_frame, timeline_frame, utilization_frame
from reports.errors import ReportError
from reports.origin_rows import kernel_totals_frame, kernels_frame, provenance_frame, sources_frame, unknown_frame
from reports.resource_rows import measured_energy_frame, memory_curve_frame, memory_frame
from reports.roofline_rows import ceilings_frame, points_frame
from reports.subject import PARADIGMS, Paradigm, Subject
from reports.summary_rows import comparison_frame, phases_frame, summary_frame
from reports.traffic_rows import traffic_frame

__all__ = ["PARADIGMS", "Paradigm", "Subject", "Tables", "build_tables"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """Frames with fixed columns; unknown figures are NaN. The column `subject` names the subject in each.

    Attributes:
        summary: one row per subject.
        comparison: figures per network evaluation and per token, one row each.
        phases: one row per subject and phase, with figures per step.
        points: roofline points by phase, kind and op, one row per basis (`bound`, `simulated`, `measured`).
        ceilings: lines of each subject's roofline.
        kinds: seconds by kind and basis.
        roles: bytes by kind, role and direction.
        timeline: simulated intervals of one typical step.
        utilization: of each simulated resource.
        energy: simulated joules by part.
        measured_energy: measured joules by source and phase.
        memory: most bytes held in each phase, by role.
        memory_curve: bytes held over the calls, by role.
        traffic: measured beside modeled bytes by op, where hardware counters saw its kernels.
        provenance: stated items of the origin of traces and simulations.
        unknown: ops of which FLOPs or bytes are unknown.
        kernels: measured kernels by name.
        kernel_totals: totals over them.
        sources: where the chips' figures come from.
    """

    summary: pd.DataFrame
    comparison: pd.DataFrame
    phases: pd.DataFrame
    points: pd.DataFrame
    ceilings: pd.DataFrame
    kinds: pd.DataFrame
    roles: pd.DataFrame
    timeline: pd.DataFrame
    utilization: pd.DataFrame
    energy: pd.DataFrame
    measured_energy: pd.DataFrame
    memory: pd.DataFrame
    memory_curve: pd.DataFrame
    traffic: pd.DataFrame
    provenance: pd.DataFrame
    unknown: pd.DataFrame
    kernels: pd.DataFrame
    kernel_totals: pd.DataFrame
    sources: pd.DataFrame


def build_tables(subjects: Sequence[Subject]) -> Tables:
    """Every frame of a report.

    Args:
        subjects: what is compared, in the order in which it is shown; labels must be unique.

    Raises:
        ReportError: there is no subject, or two share a label.
    """
    if not subjects:
        raise ReportError("a report needs at least one subject, got none")
    labels = [subject.label for subject in subjects]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ReportError(f"labels of subjects must be unique, got {', '.join(map(repr, twice))} more than once")
    summary = summary_frame(subjects)
    return Tables(
        summary=summary,
        comparison=comparison_frame(summary),
        phases=phases_frame(subjects),
        points=points_frame(subjects),
        ceilings=ceilings_frame(subjects),
        kinds=kinds_frame(subjects),
        roles=roles_frame(subjects),
        timeline=timeline_frame(subjects),
        utilization=utilization_frame(subjects),
        energy=energy_frame(subjects),
        measured_energy=measured_energy_frame(subjects),
        memory=memory_frame(subjects),
        memory_curve=memory_curve_frame(subjects),
        traffic=traffic_frame(subjects),
        provenance=provenance_frame(subjects),
        unknown=unknown_frame(subjects),
        kernels=kernels_frame(subjects),
        kernel_totals=kernel_totals_frame(subjects),
        sources=sources_frame(subjects),
    )
