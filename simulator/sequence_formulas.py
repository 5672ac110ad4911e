"""FLOPs and bytes of kernels that go along sequences: causal convolutions and scans, for whole columns at once."""

from typing import Any

import numpy as np

from profiler.costs.pointwise import FLOPS_PER_ELEMENT
from simulator.op_columns import SPECIAL_PER_ELEMENT, FloatArray

Rows = dict[str, Any]
_DECAY_FLOPS = {"each": 6.0 + FLOPS_PER_ELEMENT["exp"], "head": 5.0}  # per state, as `profiler.costs` counts them


def conv(v: Rows) -> dict[str, FloatArray]:
    """A causal filter of `window` inputs for each channel; the last `window - 1` inputs of a sequence are kept.

    Whole sequences write them; with `update`, one position (or a few) reads and writes them.
    """
    v["batch"], v["m"], v["n"] = v["channels"], v["sequences"] * v["positions"], np.ones_like(v["channels"])
    v["k"], v["tokens"] = v["window"], v["m"]
    inputs = v["m"] * v["channels"] * v["element_bytes"]
    kept = v["sequences"] * v["channels"] * (v["window"] - 1.0) * v["element_bytes"]
    weights = v["channels"] * (v["window"] + 1.0) * v["element_bytes"]
    flops = 2.0 * v["m"] * v["channels"] * v["window"]
    return {
        "matrix_flops": flops,
        "required_matrix_flops": flops,
        "vector_flops": v["m"] * v["channels"] * (1.0 + FLOPS_PER_ELEMENT["silu"]),
        "special_flops": v["m"] * v["channels"] * SPECIAL_PER_ELEMENT["silu"],
        "read_bytes": inputs + weights + np.where(v["update"] > 0, kept, 0.0),
        "write_bytes": inputs + kept,
    }


def scan(v: Rows) -> dict[str, FloatArray]:
    """A cumulative sum of each row; with `state`, a recurrence of as many states for each row, which is a channel.

    The channels of a head share their step sizes and decays, the heads of a group what enters and reads the states.
    A single position without `chunk` reads its states and writes them; sequences write the last ones (and read the
    first ones if `starts`). The gated delta rule (`delta`) reads a second factor a head, and writes states in float32.
    """
    elements, has_state = v["rows"] * v["columns"], v["state"] > 0
    sequences, width = np.maximum(1.0, v["sequences"]), np.maximum(1.0, v["head_dim"])
    positions = sequences * v["columns"]
    heads, is_one = v["rows"] / (sequences * width), (v["columns"] <= 1) & (v["chunk"] <= 0)
    v["tokens"] = np.where(has_state, positions, 0.0)
    is_delta, in_chunks = v["delta"] > 0, has_state & (v["chunk"] > 0)
    both = heads * width + np.maximum(1.0, v["groups"]) * v["state"]
    states = v["rows"] * v["state"]
    shared = positions * (heads * (1.0 + is_delta) + 2.0 * np.maximum(1.0, v["groups"]) * v["state"])
    read = (elements + np.where(has_state, shared, 0.0)) * v["element_bytes"]
    read = read + np.where(is_one | (v["starts"] > 0), states * v["second_bytes"], 0.0)
    through_state = 2.0 * elements * v["state"]
    length = np.minimum(np.maximum(1.0, v["chunk"]), v["columns"])
    within = 2.0 * positions * length * both * np.where(is_delta, 2.0, 1.0)
    directly = np.minimum(through_state, positions * (v["columns"] + 1.0) * both)
    per_state = np.where(width > 1, _DECAY_FLOPS["head"], _DECAY_FLOPS["each"])
    exponentials = np.where(width > 1, positions * heads, elements * v["state"])
    by_vectors = elements * np.where(has_state, 1.0 + per_state * v["state"], 1.0)
    return {
        "matrix_flops": np.where(in_chunks, (2.0 + is_delta) * through_state + within, 0.0),
        "required_matrix_flops": np.where(in_chunks, through_state + directly, 0.0),
        "vector_flops": np.where(in_chunks, elements, by_vectors),
        "special_flops": np.where(has_state, exponentials, 0.0),
        "read_bytes": read,
        "write_bytes": elements * np.where(has_state, v["output_bytes"], v["element_bytes"])
        + states * np.where(is_delta, 4.0, v["second_bytes"]),
    }
