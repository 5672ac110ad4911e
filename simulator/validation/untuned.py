"""Rows of a table in which the measured library fell back to a kernel that nobody tuned."""

import numpy as np
import pandas as pd

from roofline.chip import Chip
from simulator.op_columns import BoolArray, FloatArray, OpColumns

_SLOWER = 1.5  # than the same layer with more tokens: it could have run that kernel
_OVERHEAD_S = 20e-6  # of the kernels around the products
_LEAST_FRACTION = 0.4  # of the roofline, median over a sweep; tuned sweeps lie above it


def untuned_rows(frame: pd.DataFrame, ops: OpColumns, measured_s: FloatArray, chip: Chip) -> BoolArray:
    """Rows slower by half than the same layer with more tokens, or of a sweep that stays far from the roofline.

    Args:
        frame: columns `sweep` (number of the configuration) and `tokens`.
        ops: the same rows, layers of experts.
        measured_s: seconds, [rows].
        chip: that was measured.
    """
    by_tokens = pd.DataFrame({"sweep": frame["sweep"], "tokens": frame["tokens"], "s": measured_s})
    backwards = by_tokens.sort_values("tokens", ascending=False, kind="stable")
    later_s = backwards.groupby("sweep")["s"].cummin().reindex(by_tokens.index).to_numpy()
    flops_per_s = chip.matrix_flops_per_s("bfloat16")
    experts = ops.size("experts") / np.maximum(1.0, ops.size("expert_ranks"))
    rows = np.maximum(1.0, ops.size("tokens") * ops.size("topk") / np.maximum(1.0, ops.size("expert_ranks")))
    per_row = ops.required_matrix_flops / (2.0 * rows)
    weight_s = np.minimum(rows, experts) * per_row * ops.input_element_bytes / chip.main_memory.bandwidth_bytes_per_s
    roofline_s = np.maximum(weight_s, ops.required_matrix_flops / flops_per_s)[:, 0]
    fraction = pd.Series((roofline_s + _OVERHEAD_S) / measured_s).groupby(frame["sweep"].to_numpy()).transform("median")
    untuned: BoolArray = (measured_s > _SLOWER * later_s) | (fraction.to_numpy() < _LEAST_FRACTION)
    return untuned
