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
from simulator.errors import SimulationError
from simulator.op_columns import FloatArray

Conditions = Literal["benchmark", "program"]
CONDITION_SETS: tuple[Conditions, ...] = get_args(Conditions)

# As many copies as fill the last cache, or five: ai-dynamo/aiconfigurator, collector/trtllm/collect_gemm.py.
_MOST_COPIES = 5.0
_QUANTIZED_BITS = 8  # activations of so many bits and fewer come from a kernel that quantizes them


def with_conditions(frame: pd.DataFrame, chip: Chip, conditions: Conditions) -> pd.DataFrame:
    """A table of ops with a condition in every cell that does not give its own.

    Args:
        frame: one op a row, as `simulator.op_frame.ops_from_frame` reads it.
        chip: what the ops run on.
        conditions: `benchmark`: those of measured tables. `program`: cold caches, and nothing but the op itself, since
            a program's other kernels are ops of their own; the frame stays as it is.

    Raises:
        SimulationError: there are no such conditions.
    """
    if conditions not in CONDITION_SETS:
        raise SimulationError(f"conditions must be one of {', '.join(CONDITION_SETS)}, got {conditions!r}")
    if conditions == "program" or not {"kind", "dtype"} <= set(frame) or not frame.columns.is_unique:
        return frame  # a column that is missing or there twice is told by who reads them
    kind = frame["kind"].to_numpy(dtype=object)
    # Causal attention of a whole prompt, or of the newest token: both are in a cache afterwards.
    adds_tokens = (_filled(frame, "causal") > 0) | ((_filled(frame, "queries") == 1) & (_filled(frame, "keys") > 1))
    values = {
        "weight_copies": np.where(kind == "gemm", filling_copies(_weight_bytes(frame), chip), 1.0),
        "quantizes_input": ((kind == "gemm") & (_bits(frame["dtype"]) <= _QUANTIZED_BITS)).astype(float),
        "stores_kv": ((kind == "attention") & adds_tokens).astype(float),
    }
    return frame.assign(
        **{
            name: frame[name].where(frame[name].notna(), value) if name in frame else value
            for name, value in values.items()
        }
    )


def filling_copies(weight_bytes: FloatArray, chip: Chip) -> FloatArray:
    """Copies of weights of these sizes that fill the last cache which all cores share, between one and five, [rows].

    Args:
        weight_bytes: of one copy, [rows].
        chip: what they are copied on; without such a cache there is one copy.
    """
    shared_bytes = [memory.capacity_bytes for memory in chip.memories[:-1] if not memory.per_core]
    filling: FloatArray = np.ceil((shared_bytes or [0.0])[-1] / np.maximum(weight_bytes, 1.0))
    return np.clip(filling, 1.0, _MOST_COPIES)


def _weight_bytes(frame: pd.DataFrame) -> FloatArray:
    """Bytes of each product's weights, [rows]."""
    own = frame["dtype"].astype(object)
    dtype = frame["weight_dtype"].astype(object).fillna(own) if "weight_dtype" in frame else own
    return _filled(frame, "n") * _filled(frame, "k") * _bits(dtype) / 8


def _bits(dtype: "pd.Series[str]") -> FloatArray:
    bits: FloatArray = np.asarray(dtype.astype(object).map(DTYPE_BITS).fillna(16), dtype=np.float64)
    return bits


def _filled(frame: pd.DataFrame, column: str) -> FloatArray:
    """A column as numbers, 0 where there are none; wrong cells are told by who reads them."""
    if column not in frame:
        return np.zeros(len(frame))
    numbers: FloatArray = np.asarray(pd.to_numeric(frame[column], errors="coerce").fillna(0.0), dtype=np.float64)
    return numbers
