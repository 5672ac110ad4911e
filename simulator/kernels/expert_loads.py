"""Rows that each expert of a layer gets: all alike, or drawn from a power law on the busiest of several ranks."""

from functools import lru_cache

import numpy as np

from simulator.op_columns import FloatArray, OpColumns

_QUANTILES = 64  # experts from the least to the most loaded
_DRAWS = 8  # of the power law: a few hundred experts show its mean tile counts within about 3 %
_HEAVIEST_SHARE = 0.8  # of all tokens, at the busy end of the law
_FEW_TOKENS_LAW = (0.01, 2.0)  # its ends where there are fewer rows than experts


def local_experts(ops: OpColumns) -> FloatArray:
    """Experts of one rank that may have tokens, one at least, [O, 1]: those that run, where an op says it, else all."""
    running, experts = ops.size("running"), ops.size("experts")
    local: FloatArray = np.maximum(
        1.0, np.where(running > 0, running, experts) / np.maximum(1.0, ops.size("expert_ranks"))
    )
    return local


def expert_rows(ops: OpColumns) -> FloatArray:
    """Rows of an expert at each quantile, on the busiest rank, [O, quantiles].

    Balanced routing gives all experts alike, and a rank one row at least; below one, a part of the experts has a row.
    With skew a > 0 loads are drawn from a power law x^-a, as benchmarks of such layers do (aiconfigurator's collectors,
    for one): between 1 and 0.8 tokens, or between 0.01 and 2 where there are fewer rows than experts. The draws are the
    same for every layer, so more tokens are more rows.

    >>> from simulator.op_frame import ops_from_frame
    >>> import pandas as pd
    >>> row = {"kind": "moe", "dtype": "bfloat16", "tokens": 64, "hidden": 1, "inter": 1, "experts": 8, "topk": 2}
    >>> float(expert_rows(ops_from_frame(pd.DataFrame([row]))).mean())
    16.0
    """
    tokens, local = ops.size("tokens"), local_experts(ops)
    ranks = np.maximum(1.0, ops.size("expert_ranks"))
    mean = np.maximum(tokens * ops.size("topk") / ranks, 1.0) / local
    rows = np.minimum(mean, np.maximum(tokens, 1.0)) + np.zeros(_QUANTILES)
    skewed = np.flatnonzero((ops.size("skew")[:, 0] > 0) & (tokens[:, 0] > 0))
    if len(skewed):
        sizes = np.hstack([ops.size(name)[skewed] for name in ("tokens", "experts", "topk", "expert_ranks", "skew")])
        layers, index = np.unique(sizes, axis=0, return_inverse=True)
        rows[skewed] = np.array([_busiest_rank(*layer) for layer in layers.tolist()])[index.reshape(-1)]
    return rows


@lru_cache(maxsize=16384)
def _busiest_rank(tokens: float, experts: float, topk: float, expert_ranks: float, skew: float) -> FloatArray:
    """Rows of the busiest rank's experts, means over all draws at each quantile, [quantiles].

    Loads are whole rows, no expert has more than there are tokens, and what rounding and that limit leave over goes to
    the ranks alike, there to the experts with the fewest rows.
    """
    local = max(1, int(experts / max(1.0, expert_ranks)))
    ranks = max(1, round(experts / local))
    wanted = tokens * topk
    low, high = (1.0, _HEAVIEST_SHARE * tokens) if wanted > experts else _FEW_TOKENS_LAW
    power = skew if skew != 1.0 else 1.0 + 1e-6
    draws = np.random.default_rng(0).random((_DRAWS, ranks * local))
    ends = low ** (1.0 - power), max(high, 1.0001 * low) ** (1.0 - power)
    loads = (ends[0] + (ends[1] - ends[0]) * draws) ** (1.0 / (1.0 - power))
    rows = np.minimum(np.round(loads / loads.sum(axis=1, keepdims=True) * wanted), tokens)
    rows = np.sort(rows.reshape(_DRAWS, ranks, local), axis=2)
    lacking = (wanted - rows.sum(axis=(1, 2)))[:, None, None] / ranks
    whole = np.floor(np.maximum(lacking, 0.0) / local)
    rows += whole + np.clip(np.maximum(lacking, 0.0) - whole * local - np.arange(local), 0.0, 1.0)
    rows[:, :, -1:] = np.maximum(0.0, rows[:, :, -1:] + np.minimum(lacking, 0.0))
    rows = np.minimum(rows, tokens)
    busiest = rows[np.arange(_DRAWS), rows.sum(axis=2).argmax(axis=1)]
    ordered = np.sort(busiest, axis=None)
    at = ((np.arange(_QUANTILES) + 0.5) / _QUANTILES * ordered.size).astype(np.int64)
    drawn = ordered[at]
    if not drawn.any():  # so few experts have rows that no quantile meets one
        drawn = np.array([part.mean() for part in np.array_split(ordered, _QUANTILES)])
    mean = max(float(ordered.mean()), 1.0 / local)
    found: FloatArray = np.minimum(drawn * mean / max(float(drawn.mean()), 1e-12), tokens)
    found.flags.writeable = False
    return found
