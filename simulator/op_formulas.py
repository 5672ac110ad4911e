"""Columns, FLOPs and bytes of each kind of op, for whole columns at once, counted as in `profiler.costs`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from profiler.costs.pointwise import FLOPS_PER_ELEMENT
from profiler.op import KINDS
from simulator.errors import SimulationError
from simulator.op_columns import SPECIAL_PER_ELEMENT, BoolArray, FloatArray
from simulator.sequence_formulas import conv, scan

Rows = dict[str, Any]
Formula = Callable[[Rows], dict[str, FloatArray]]
_MOST_EXPERTS = 65_536  # more than any network has; the load of each is drawn

# Columns that a kind needs, and columns that it may have with the value taken where they are absent or empty. The
# defaults None follow from other columns: see the formula of the kind.
FRAME_SIZES: dict[str, tuple[str, ...]] = {
    "gemm": ("m", "n", "k"),
    "attention": ("batch", "queries", "keys", "heads", "head_dim"),
    "conv": ("sequences", "positions", "channels", "window"),
    "pointwise": ("elements",),
    "copy": ("elements",),
    "random": ("elements",),
    "reduction": ("rows", "columns"),
    "norm": ("rows", "columns"),
    "softmax": ("rows", "columns"),
    "scan": ("rows", "columns"),
    "sort": ("rows", "columns"),
    "topk": ("rows", "columns", "k"),
    "gather": ("rows", "row_bytes"),
    "scatter": ("rows", "row_bytes"),
    "collective": ("elements", "ranks"),
    "moe": ("tokens", "hidden", "inter", "experts", "topk"),
}
_SINGLE = {"single_accesses": 0.0, "single_dimensions": 0.0, "converts": 0.0, "scattered_bytes": 0.0}
FRAME_OPTIONS: dict[str, dict[str, float | None]] = {
    "gemm": {"batch": 1.0},
    "attention": {"kv_heads": None, "value_dim": None, "causal": 0.0, "window": 0.0},
    "conv": {"update": 0.0},
    "pointwise": {"inputs": 1.0, **_SINGLE},
    "copy": {**_SINGLE, "joins": 0.0},
    "reduction": {"apart": 0.0},
    "scan": {"state": 0.0, "sequences": 1.0, "head_dim": 1.0, "groups": 1.0, "chunk": 0.0, "delta": 0.0, "starts": 0.0},
    "moe": {"gated": 1.0, "skew": 0.0, "expert_ranks": 1.0, "running": 0.0},
}
# Type of a second operand or of the output, where it is not the type computed in.
FRAME_DTYPES: dict[str, tuple[str, ...]] = {
    "gemm": ("weight_dtype", "output_dtype"),
    "attention": ("kv_dtype", "output_dtype"),
    "moe": ("weight_dtype", "output_dtype"),
    "scan": ("state_dtype", "output_dtype"),
    **dict.fromkeys(("pointwise", "copy", "norm"), ("output_dtype",)),
}
# Their products of narrow types accumulate in 32 bits and hand on 16; other kinds hand on the type computed in.
WIDENING: frozenset[str] = frozenset({"gemm", "attention", "moe", "scan"})


def _require(holds: BoolArray, what: str, v: Rows, *shown: str) -> None:
    """Refuse sizes that do not fit one another, with those of the first such row."""
    if not holds.all():
        first = int(np.flatnonzero(~holds)[0])
        raise SimulationError(f"{what}, got {' and '.join(f'{name} {v[name][first]:g}' for name in shown)}")


def _gemm(v: Rows) -> dict[str, FloatArray]:
    flops = 2.0 * v["batch"] * v["m"] * v["n"] * v["k"]
    read = v["batch"] * (v["m"] * v["k"] * v["element_bytes"] + v["n"] * v["k"] * v["second_bytes"])
    return {
        "matrix_flops": flops,
        "required_matrix_flops": flops,
        "read_bytes": read,
        "write_bytes": v["batch"] * v["m"] * v["n"] * v["output_bytes"],
    }


def _attention(v: Rows) -> dict[str, FloatArray]:
    """Dense FLOPs, and those of the pairs that a causal mask (aligned at the end) and a window leave.

    A window begins at its query's own place and goes back; keys behind the query are hidden by a causal mask alone.
    """
    v["kv_heads"] = np.where(np.isnan(v["kv_heads"]), v["heads"], v["kv_heads"])
    v["value_dim"] = np.where(np.isnan(v["value_dim"]), v["head_dim"], v["value_dim"])
    for name in ("kv_heads", "value_dim"):
        _require(v[name] >= 1, f"{name} must be at least 1", v, name)
    _require(v["heads"] % v["kv_heads"] == 0, "heads must be a multiple of kv_heads", v, "heads", "kv_heads")
    queries, keys, depth = v["queries"], v["keys"], v["head_dim"] + v["value_dim"]
    per_pair = 2.0 * v["batch"] * v["heads"] * depth
    before = np.maximum(0.0, keys - queries)
    rows = np.minimum(queries, keys)
    visible = np.where(v["causal"] > 0, rows * before + rows * (rows + 1.0) / 2.0, queries * keys)
    window = np.where(v["window"] > 0, np.minimum(v["window"], keys), keys)
    # Rows that see fewer keys than the window: those at the start, which see 1, 2, ... keys behind `before`.
    short = np.where(v["causal"] > 0, np.clip(window - before, 0.0, rows), 0.0)
    windowed = short * before + short * (short + 1.0) / 2.0 + (rows - short) * window
    # Without a mask the last query misses `beyond` keys before its window, each query before it one fewer.
    beyond = keys - window
    missing = np.minimum(queries, beyond)
    unmasked = queries * keys - missing * beyond + missing * (missing - 1.0) / 2.0
    visible = np.where(v["window"] > 0, np.where(v["causal"] > 0, np.minimum(visible, windowed), unmasked), visible)
    kept = np.where(v["window"] > 0, np.minimum(keys, window + queries - 1.0), keys)
    return {
        "matrix_flops": per_pair * queries * keys,
        "required_matrix_flops": per_pair * visible,
        "read_bytes": v["batch"]
        * (
            v["heads"] * queries * v["head_dim"] * v["element_bytes"] + v["kv_heads"] * kept * depth * v["second_bytes"]
        ),
        "write_bytes": v["batch"] * v["heads"] * queries * v["value_dim"] * v["output_bytes"],
    }


def _moe(v: Rows) -> dict[str, FloatArray]:
    """One rank's layer of experts: up (and gate), activation, down.

    A rank has its share of the rows, one at least; as many experts as it has rows, at most its own, are read once, or
    its share of those that run, where they are known.
    """
    ranks = np.maximum(1.0, v["expert_ranks"])
    if v["experts"].max(initial=0.0) > _MOST_EXPERTS:
        raise SimulationError(f"experts must be at most {_MOST_EXPERTS:,}, got {v['experts'].max():,.0f}")
    _require(v["topk"] <= v["experts"], "topk must be at most experts", v, "topk", "experts")
    _require(v["running"] <= v["experts"], "running must be at most experts", v, "running", "experts")
    _require(v["experts"] % ranks == 0, "experts must be a multiple of expert_ranks", v, "experts", "expert_ranks")
    rows = np.maximum(1.0, v["tokens"] * v["topk"] / ranks)
    touched = np.minimum(rows, np.maximum(1.0, np.where(v["running"] > 0, v["running"], v["experts"]) / ranks))
    per_expert = (2.0 + (v["gated"] > 0)) * v["hidden"] * v["inter"]
    return {
        "matrix_flops": 2.0 * rows * per_expert,
        "required_matrix_flops": 2.0 * rows * per_expert,
        "vector_flops": rows * v["inter"] * FLOPS_PER_ELEMENT["silu"],
        "special_flops": rows * v["inter"] * SPECIAL_PER_ELEMENT["silu"],
        # Skewed routing may leave experts untouched, so that only one is certain.
        "read_bytes": np.where(v["skew"] > 0, 1.0, touched) * per_expert * v["second_bytes"]
        + v["tokens"] * v["hidden"] * v["element_bytes"],
        "write_bytes": v["tokens"] * v["hidden"] * v["output_bytes"],
    }


def _pointwise(v: Rows) -> dict[str, FloatArray]:
    names, index = np.unique(v["name"], return_inverse=True)
    unknown = [name for name in names if name not in FLOPS_PER_ELEMENT]
    if unknown:
        raise SimulationError(
            f"name of a pointwise op must be an elementwise ATen function such as add or silu, got {str(unknown[0])!r}"
        )
    flops = np.array([FLOPS_PER_ELEMENT[name] for name in names], dtype=np.float64)[index]
    special = np.array([SPECIAL_PER_ELEMENT.get(name, 0) for name in names], dtype=np.float64)[index]
    return {
        "vector_flops": flops * v["elements"],
        "special_flops": special * v["elements"],
        "read_bytes": v["inputs"] * v["elements"] * v["element_bytes"],
        "write_bytes": v["elements"] * v["output_bytes"],
    }


def _stream(v: Rows) -> dict[str, FloatArray]:
    return {"read_bytes": v["elements"] * v["element_bytes"], "write_bytes": v["elements"] * v["output_bytes"]}


def _random(v: Rows) -> dict[str, FloatArray]:
    return {"write_bytes": v["elements"] * v["element_bytes"]}


def _rows(flops: float, *, special: float = 0.0, written: str = "elements") -> Formula:
    def formula(v: Rows) -> dict[str, FloatArray]:
        elements = v["rows"] * v["columns"]
        out = {"elements": elements, "rows": v["rows"]}[written]
        return {
            "vector_flops": flops * elements,
            "special_flops": special * elements,
            "read_bytes": elements * v["element_bytes"],
            "write_bytes": out * v["output_bytes"],
        }

    return formula


def _sort(v: Rows) -> dict[str, FloatArray]:
    """Keys and 64-bit indices are written; n log2(n) comparisons a row."""
    elements = v["rows"] * v["columns"]
    return {
        "vector_flops": elements * np.maximum(1.0, np.ceil(np.log2(np.maximum(2.0, v["columns"])))),
        "read_bytes": elements * v["element_bytes"],
        "write_bytes": elements * (v["element_bytes"] + 8.0),
    }


def _topk(v: Rows) -> dict[str, FloatArray]:
    _require(v["k"] <= v["columns"], "k of a topk must be at most columns", v, "k", "columns")
    elements = v["rows"] * v["columns"]
    return {
        "vector_flops": elements,
        "read_bytes": elements * v["element_bytes"],
        "write_bytes": v["rows"] * v["k"] * (v["element_bytes"] + 8.0),
    }


def _gather(v: Rows) -> dict[str, FloatArray]:
    moved = v["rows"] * v["row_bytes"]
    return {"read_bytes": moved + 8.0 * v["rows"], "write_bytes": moved}


def _collective(v: Rows) -> dict[str, FloatArray]:
    """The payload of every rank is read and written once; an all-reduce passes the ring twice."""
    known = ("all_reduce", "all_gather", "reduce_scatter", "alltoall", "broadcast")
    wrong = sorted(set(v["name"]) - set(known))
    if wrong:
        raise SimulationError(f"name of a collective must be one of {', '.join(known)}, got {str(wrong[0])!r}")
    moved = v["elements"] * v["element_bytes"]
    v["direct"] = (v["name"] == "alltoall").astype(np.float64)
    return {
        "read_bytes": moved,
        "write_bytes": moved,
        "collective_passes": np.where(v["name"] == "all_reduce", 2.0, 1.0),
    }


FORMULAS: dict[str, Formula] = {
    "gemm": _gemm,
    "attention": _attention,
    "conv": conv,
    "pointwise": _pointwise,
    "copy": _stream,
    "random": _random,
    "reduction": _rows(1.0, written="rows"),
    "norm": _rows(4.0),  # RMS norm: square, sum, scale twice
    "softmax": _rows(5.0, special=1.0),
    "scan": scan,
    "sort": _sort,
    "topk": _topk,
    "gather": _gather,
    "scatter": _gather,
    "collective": _collective,
    "moe": _moe,
}
assert set(FRAME_SIZES) == set(FORMULAS)
assert set(FRAME_SIZES) <= set(KINDS)
