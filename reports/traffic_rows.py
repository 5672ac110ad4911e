"""Measured beside modeled bytes of each op of each subject, as rows."""

from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from profiler.traffic import op_traffic
from reports.subject import Subject
from roofline.points import op_label

_COLUMNS = (
    "subject",
    "label",
    "calls",
    "modeled_bytes",
    "dram_bytes",
    "l2_bytes",
    "l1_bytes",
    "spill_bytes",
    "explanation",
)


def traffic_frame(subjects: Sequence[Subject]) -> pd.DataFrame:
    """Rows of the subjects that hardware counters saw, most measured bytes first; NaN where a level was not counted."""
    rows = [
        {**asdict(row), "subject": subject.label, "label": op_label(subject.trace.ops[row.op])}
        for subject in subjects
        if subject.trace.is_counted
        for row in op_traffic(subject.trace)
    ]
    return pd.DataFrame(rows, columns=list(_COLUMNS))
