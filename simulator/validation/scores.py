"""How far predictions are from measured kernels: absolute percentage errors and bias, over all and by size class."""

from dataclasses import dataclass, replace

import numpy as np

from roofline.chip import Chip
from simulator.op_columns import FloatArray
from simulator.plans import plan_columns
from simulator.size_classes import in_order
from simulator.validation.tables import MeasuredTable

FEW_ROWS = 512  # of matrix products: decoding in batches and block diffusion have no more
_CHUNK_ROWS = 20_000  # keeps the candidates of one evaluation in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Errors of one group of rows, in percent of the measured time; bias is the mean signed error (+: too slow)."""

    chip: str
    op: str
    dtype: str
    backend: str
    size_class: str
    rows: int
    mape_percent: float
    median_percent: float
    p90_percent: float
    bias_percent: float


def predict_s(table: MeasuredTable, chip: Chip) -> FloatArray:
    """Predicted seconds of every row of a table, [rows]."""
    parts = [
        plan_columns(table.ops.take(np.arange(start, min(start + _CHUNK_ROWS, len(table)))), [chip]).duration_s[:, 0]
        for start in range(0, len(table), _CHUNK_ROWS)
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def score(table: MeasuredTable, predicted_s: FloatArray, *, size_class: str = "all") -> Score:
    """Errors over all rows of a table, or over one size class.

    Args:
        table: measured rows.
        predicted_s: prediction of each, [rows].
        size_class: `all`, or one class of the table.
    """
    chosen = np.ones(len(table), dtype=np.bool_) if size_class == "all" else table.size_class == size_class
    error = 100.0 * (predicted_s[chosen] / table.measured_s[chosen] - 1.0)
    size = np.abs(error)
    return Score(
        chip=table.chip,
        op=table.op,
        dtype=table.dtype,
        backend=table.backend,
        size_class=size_class,
        rows=int(chosen.sum()),
        mape_percent=float(size.mean()) if len(size) else np.nan,
        median_percent=float(np.median(size)) if len(size) else np.nan,
        p90_percent=float(np.percentile(size, 90)) if len(size) else np.nan,
        bias_percent=float(error.mean()) if len(size) else np.nan,
    )


def score_few_rows(table: MeasuredTable, predicted_s: FloatArray) -> list[Score]:
    """Errors of matrix products of few rows together, `m <=512`; none for other families or where there are none."""
    few = np.flatnonzero(table.ops.size("m")[:, 0] <= FEW_ROWS)
    if table.op != "gemm" or not len(few):
        return []
    return [replace(score(table.take(few), predicted_s[few]), size_class=f"m <={FEW_ROWS}")]


def scores_by_class(table: MeasuredTable, predicted_s: FloatArray) -> list[Score]:
    """Errors over all rows, then those of each size class."""
    names = ("all", *in_order(table.op, table.size_class.tolist()))
    return [score(table, predicted_s, size_class=name) for name in dict.fromkeys(names)]
