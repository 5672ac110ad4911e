"""Under which conditions a table of ops is predicted: as benchmarks measure kernels, or as a program runs them.

Measured tables repeat one kernel in a graph: operands that fit the last cache are found there, a product goes through
several copies of its weights in turn, one in eight or four bits is timed with the quantizing of its activations, and
causal attention with the storing of new keys and values. Error bands were found under these conditions.
"""

from typing import Literal, get_args

import numpy as np
import pandas as pd

from profiler.op import DTYPE_BITS
from roofline.chip import Chip
from simulator.op_columns import FloatArray

Conditions = Literal["benchmark", "program"]
CONDITION_SETS: tuple[Conditions, ...] = get_args(Conditions)

_MOST_COPIES = (
    5.0  # as many as fill the last cache, or five: ai-dynamo/aiconfigurator, collector/trtllm/collect_gemm.py
)
_QUANTIZED_BITS = 8  # activations of so many bits and fewer come from a kernel that quantizes them


def with_conditions(frame: pd.DataFrame, chip: Chip, conditions: Conditions) -> pd.DataFrame:
    """A table of ops with a condition in every cell that does not give its own.

    Args:
        frame: one op a row, as `simulator.op_frame.ops_from_frame` reads it.
        chip: what the ops run on.
        conditions: `benchmark`: those of measured tables. `program`: cold caches, and nothing but the op itself, since
            a program's other kernels are ops of their own; the frame stays as it is.
    """
    if conditions == "program" or not {"kind", "dtype"} <= set(frame) or not frame.columns.is_unique:
        return frame  # a column that is missing or there twice is told by who reads them
    kind = frame["kind"].to_numpy(dtype=object)
    # Causal attention of a whole prompt, or of the newest token: both are in a cache afterwards.
    adds_tokens = (_filled(frame, "causal") > 0) | ((_filled(frame, "queries") == 1) & (_filled(frame, "keys") > 1))
    values = {
        "weight_copies": np.where(kind == "gemm", _copies(frame, chip), 1.0),
        "quantizes_input": ((kind == "gemm") & (_bits(frame["dtype"]) <= _QUANTIZED_BITS)).astype(float),
        "stores_kv": ((kind == "attention") & adds_tokens).astype(float),
    }
    given = {name: frame[name].isna().to_numpy() for name in values if name in frame}
    return frame.assign(
        **{name: frame[name].where(~given[name], value) if name in given else value for name, value in values.items()}
    )


def _copies(frame: pd.DataFrame, chip: Chip) -> FloatArray:
    """Copies of each product's weights that a benchmark goes through, [rows]: as many as fill the last shared cache."""
    if len(chip.memories) < 2:
        return np.ones(len(frame))
    dtype = frame["dtype"] if "weight_dtype" not in frame else frame["weight_dtype"].fillna(frame["dtype"])
    weight_bytes = np.maximum(_filled(frame, "n") * _filled(frame, "k") * _bits(dtype) / 8, 1.0)
    copies: FloatArray = np.clip(np.ceil(chip.memories[-2].capacity_bytes / weight_bytes), 1.0, _MOST_COPIES)
    return copies


def _bits(dtype: "pd.Series[str]") -> FloatArray:
    bits: FloatArray = np.asarray(dtype.map(DTYPE_BITS).fillna(16), dtype=np.float64)
    return bits


def _filled(frame: pd.DataFrame, column: str) -> FloatArray:
    """A column as numbers, 0 where there are none; wrong cells are told by who reads them."""
    if column not in frame:
        return np.zeros(len(frame))
    numbers: FloatArray = np.asarray(pd.to_numeric(frame[column], errors="coerce").fillna(0.0), dtype=np.float64)
    return numbers
