"""`DiffRow`: one group of two traces side by side; and the verdict on it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd

from reports.diff_statistics import Change, discoveries
from reports.frames import columns_of, frame_of

_FRAME_COLUMNS = columns_of(
    text="level label phase module op name kind verdict certainty",
    number="calls_a calls_b total_a total_b difference share_a share_b ratio low high samples paired flops_ratio "
    "bytes_ratio is_regression",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffRow:
    """One group of calls in two traces.

    Attributes:
        level: `trace`, `phase` or `group`.
        key: (column, text) pairs that align it.
        calls_a: calls in A.
        calls_b: calls in B.
        total_a: their cost, None where none of it is known.
        total_b: likewise in B.
        share_a: part of A's total cost.
        share_b: part of B's.
        change: from samples, None where there are none to compare.
        flops_ratio: B's counted FLOPs over A's, None where unknown.
        bytes_ratio: likewise of bytes.
        verdict: see `judge`.
        certainty: of the verdict, in words.
        is_regression: whether B is surely worse by more than the threshold.
    """

    level: str
    key: tuple[tuple[str, str], ...]
    calls_a: int
    calls_b: int
    total_a: float | None
    total_b: float | None
    share_a: float
    share_b: float
    change: Change | None
    flops_ratio: float | None
    bytes_ratio: float | None
    verdict: str = ""
    certainty: str = ""
    is_regression: bool = False

    @property
    def label(self) -> str:
        """What the group is, in words."""
        return " / ".join(text or "(none)" for _, text in self.key) or "whole trace"

    @property
    def difference(self) -> float:
        """B's known cost less A's."""
        return (self.total_b or 0.0) - (self.total_a or 0.0)

    @property
    def ratio(self) -> float | None:
        """B over A: of typical totals where there are samples, else of totals; None where either is unknown or 0."""
        if self.change is not None:
            return self.change.ratio
        return self.total_b / self.total_a if self.total_a and self.total_b is not None else None


def judge(
    rows: Sequence[DiffRow], *, threshold: float, least_share: float, exact: bool, worse: str, better: str
) -> tuple[DiffRow, ...]:
    """Rows with their verdicts.

    A row is `small` where its share of both totals is below the least, `similar` within the threshold; else it is worse
    or better: surely, where figures are exact or where its interval excludes no change and the false discovery rate
    over all judged rows stays at 5 %.

    Args:
        rows: of all levels.
        threshold: relative change that counts.
        least_share: smallest share of either total at which a row is judged.
        exact: whether figures vary from no run to the next.
        worse: word for a larger cost, such as `slower`.
        better: word for a smaller one.
    """
    p_values = {
        i: row.change.p_value
        for i, row in enumerate(rows)
        if row.change is not None and row.change.p_value is not None and max(row.share_a, row.share_b) >= least_share
    }
    sure = {i for i, is_real in zip(p_values, discoveries(list(p_values.values())), strict=True) if is_real}
    judged = []
    for i, row in enumerate(rows):
        verdict, certainty, direction = _verdict(row, threshold, least_share, exact, (worse, better), i in sure)
        judged.append(replace(row, verdict=verdict, certainty=certainty, is_regression=direction and verdict == worse))
    return tuple(judged)


def _verdict(
    row: DiffRow, threshold: float, least_share: float, exact: bool, words: tuple[str, str], is_sure: bool
) -> tuple[str, str, bool]:
    """Verdict, certainty in words, and whether it is sure."""
    if not row.calls_a or not row.calls_b:
        return f"only in {'B' if row.calls_b else 'A'}", "", False
    if row.ratio is None:
        return "not compared", "no figures, or none above zero, in one of them", False
    certainty = "exact" if exact else _certainty(row.change)
    if max(row.share_a, row.share_b) < least_share:
        return "small", certainty, False
    if 1 / (1 + threshold) <= row.ratio <= 1 + threshold:
        return "similar", certainty, False
    word = words[0] if row.ratio > 1 else words[1]
    doubt = "" if exact else _doubt(row.change, is_sure)
    return f"{word}{doubt}", certainty, not doubt


def _doubt(change: Change | None, is_sure: bool) -> str:
    if change is None or change.low is None or change.high is None:
        return ", not known how sure"
    return "" if is_sure and not change.low <= 1 <= change.high else ", not sure"


def _certainty(change: Change | None) -> str:
    if change is None:
        return "not known how sure"
    if change.low is None or change.high is None:
        return f"not known how sure ({change.samples} {'sample' if change.samples == 1 else 'samples'})"
    return f"{100 * (change.low - 1):+.1f} % to {100 * (change.high - 1):+.1f} %"


def rows_frame(rows: Sequence[DiffRow]) -> pd.DataFrame:
    """Rows as a frame; what is unknown is NaN or None."""
    listed = []
    for row in rows:
        change = asdict(row.change) if row.change else {}
        values = {name: getattr(row, name) for name in _FRAME_COLUMNS if hasattr(row, name)}
        listed.append({**dict.fromkeys(_FRAME_COLUMNS), **dict(row.key), **change, **values})
    frame = frame_of(listed, _FRAME_COLUMNS)
    frame["is_regression"] = frame["is_regression"].astype(np.bool_)
    return frame
