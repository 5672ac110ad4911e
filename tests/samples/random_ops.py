"""Random tables of ops of every kind that `predict` takes, with all their options: what invariants are held on."""

from collections.abc import Callable

import numpy as np
import pandas as pd

Columns = dict[str, object]


def random_ops(kind: str, count: int, seed: int) -> pd.DataFrame:
    """Rows of one kind, sizes even over their orders of magnitude; the same for the same seed."""
    draw = np.random.default_rng(seed)
    rows = pd.DataFrame({"dtype": draw.choice(["bfloat16", "bfloat16", "float32"], count), **_SIZES[kind](draw, count)})
    return rows.assign(kind=kind, weight_copies=draw.choice([0, 0, 3], count))


def _even(draw: np.random.Generator, count: int, low: float, high: float) -> np.ndarray:
    return np.exp2(draw.uniform(low, high, count)).astype(np.int64)


def _gemm(draw: np.random.Generator, n: int) -> Columns:
    narrow = draw.choice(["bfloat16", "float8_e4m3fn", "int8"], n)
    sizes = {name: _even(draw, n, 0, 14) for name in ("m", "n", "k")}
    return {**sizes, "batch": draw.choice([1, 1, 1, 24], n), "dtype": narrow, "quantizes_input": draw.integers(0, 2, n)}


def _attention(draw: np.random.Generator, n: int) -> Columns:
    kv_heads, keys = draw.choice([1, 4, 8], n), _even(draw, n, 0, 14)
    queries = np.where(draw.random(n) < 0.5, keys, np.minimum(keys, draw.choice([1, 1, 4, 32], n)))
    return {
        **{
            "batch": _even(draw, n, 0, 6),
            "queries": queries,
            "keys": keys,
            "heads": kv_heads * draw.choice([1, 4, 7], n),
        },
        **{"kv_heads": kv_heads, "head_dim": draw.choice([64, 72, 128, 192], n), "causal": draw.integers(0, 2, n)},
        **{"window": draw.choice([0, 0, 512], n), "stores_kv": draw.integers(0, 2, n)},
    }


def _moe(draw: np.random.Generator, n: int) -> Columns:
    return {
        **{"tokens": _even(draw, n, 0, 13), "hidden": _even(draw, n, 8, 13), "inter": _even(draw, n, 6, 12)},
        **{"experts": draw.choice([8, 128], n), "topk": draw.choice([1, 2, 8], n), "skew": draw.choice([0, 0, 1.2], n)},
        **{"expert_ranks": draw.choice([1, 1, 8], n), "gated": draw.integers(0, 2, n)},
    }


def _conv(draw: np.random.Generator, n: int) -> Columns:
    update = draw.integers(0, 2, n)
    positions = np.where(update > 0, 1, _even(draw, n, 0, 14))
    return {
        **{"sequences": _even(draw, n, 0, 7), "positions": positions, "channels": _even(draw, n, 6, 14)},
        **{"window": draw.choice([3, 4], n), "update": update},
    }


def _scan(draw: np.random.Generator, n: int) -> Columns:
    """Sums along rows; Mamba along channels; Mamba-2 and the delta rule in chunks, and one position of each."""
    case = draw.integers(0, 4, n)
    head_dim = np.where(case >= 2, 64, 1)
    sequences = _even(draw, n, 0, 6)
    return {
        **{
            "rows": sequences * head_dim * draw.choice([8, 64], n),
            "columns": np.where(case == 3, 1, _even(draw, n, 0, 13)),
        },
        **{"state": np.choose(case, [0, 16, 128, 128]), "sequences": sequences, "head_dim": head_dim},
        **{"groups": np.where(case >= 2, 8, 1), "chunk": np.where(case == 2, 128, 0), "starts": draw.integers(0, 2, n)},
        "delta": np.where(case >= 2, draw.integers(0, 2, n), 0),
    }


def _elements(*extras: str) -> Callable[[np.random.Generator, int], Columns]:
    def sizes(draw: np.random.Generator, n: int) -> Columns:
        options: Columns = {"elements": _even(draw, n, 0, 27)}
        if "name" in extras:
            options["name"] = draw.choice(["add", "silu", "div"], n)
        if "single" in extras:
            is_single = draw.integers(0, 2, n)
            options["single_accesses"] = is_single * options["elements"]
            options["single_dimensions"] = draw.choice([1, 4], n)
            options["converts"] = draw.integers(0, 2, n)
        return options

    return sizes


def _rows(draw: np.random.Generator, n: int) -> Columns:
    return {"rows": _even(draw, n, 0, 12), "columns": _even(draw, n, 0, 17)}


def _topk(draw: np.random.Generator, n: int) -> Columns:
    sizes = _rows(draw, n)
    return {**sizes, "k": np.minimum(sizes["columns"], draw.choice([1, 8, 64], n))}


def _indexed(draw: np.random.Generator, n: int) -> Columns:
    return {"rows": _even(draw, n, 0, 20), "row_bytes": _even(draw, n, 1, 14)}


def _collective(draw: np.random.Generator, n: int) -> Columns:
    names = ["all_reduce", "all_gather", "reduce_scatter", "alltoall", "broadcast"]
    return {"elements": _even(draw, n, 0, 28), "ranks": draw.choice([1, 2, 4, 8, 16], n), "name": draw.choice(names, n)}


_SIZES: dict[str, Callable[[np.random.Generator, int], Columns]] = {
    "gemm": _gemm,
    "attention": _attention,
    "moe": _moe,
    "conv": _conv,
    "scan": _scan,
    "pointwise": _elements("name", "single"),
    "copy": _elements("single"),
    "random": _elements(),
    **dict.fromkeys(("reduction", "norm", "softmax", "sort"), _rows),
    "topk": _topk,
    **dict.fromkeys(("gather", "scatter"), _indexed),
    "collective": _collective,
}
