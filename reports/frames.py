"""Frames with fixed columns, so that pages and charts may rely on them even where there is nothing to show."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

# Limit of what one chart draws (Altair's own limit), and so of every frame that a chart takes.
MAX_ROWS = 5_000


def frame_of(rows: Iterable[Mapping[str, object]], columns: Mapping[str, str]) -> pd.DataFrame:
    """Rows as a frame with exactly these columns.

    Args:
        rows: one mapping per row; None is unknown.
        columns: name to `text` (object), `number` (float64, unknown is NaN).
    """
    listed = [{name: row[name] for name in columns} for row in rows]
    frame = pd.DataFrame(listed, columns=list(columns))
    for name, what in columns.items():
        frame[name] = frame[name].astype(np.float64) if what == "number" else frame[name].astype(object)
    return frame


def columns_of(*, text: str, number: str) -> dict[str, str]:
    """Column kinds from two space-separated lists.

    >>> columns_of(text="kind", number="flops bytes")
    {'kind': 'text', 'flops': 'number', 'bytes': 'number'}
    """
    return {**dict.fromkeys(text.split(), "text"), **dict.fromkeys(number.split(), "number")}


def ratio(part: float | None, whole: float | None) -> float | None:
    """Part over whole, None where either is unknown or the whole is zero.

    >>> ratio(1.0, 4.0), ratio(1.0, 0.0), ratio(None, 1.0)
    (0.25, None, None)
    """
    if part is None or whole is None or not np.isfinite(part) or not np.isfinite(whole) or whole == 0:
        return None
    return float(part) / float(whole)
