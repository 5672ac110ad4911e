"""A layer of experts as grouped products: rows of each expert in tiles of their own, weights of touched experts once.

Up (and gate) and down projections run one after another; tokens are sorted to their experts before and summed behind.
The busiest of several ranks that share the experts counts.
"""

from dataclasses import dataclass

import numpy as np

from profiler.op import Kind
from simulator.chip_columns import ChipColumns
from simulator.kernels.constants import Constant
from simulator.kernels.systolic import array_sides, occupied_macs
from simulator.op_columns import FloatArray, OpColumns
from simulator.stages import PlanColumns, level_traffic, smooth_max

KINDS: tuple[Kind, ...] = ("moe",)

CONSTANTS: tuple[Constant, ...] = (
    Constant(name="matrix_efficiency", low=0.3, high=1.0, start=0.8, unit="", meaning="part of the matrix peak"),
    Constant(name="memory_efficiency", low=0.4, high=1.0, start=0.9, unit="", meaning="part of the memory's bandwidth"),
    Constant(name="routing_s", low=1e-7, high=1e-4, start=2e-5, unit="s", meaning="kernels that sort, permute and sum"),
    Constant(name="k_step_clocks", low=1, high=1000, start=200, unit="clocks", meaning="latency of a step along K"),
    Constant(name="permute_efficiency", low=0.1, high=3.0, start=0.7, unit="", meaning="bandwidth of moving rows"),
    Constant(name="smooth_max_p", low=1.0, high=10.0, start=2.0, unit="", meaning="exponent of the smooth maximum"),
    Constant(name="wave_s", low=1e-8, high=5e-6, start=5e-7, unit="s", meaning="exposed latency of a wave"),
    Constant(
        name="ingest_bytes_per_clock_per_core", low=10, high=400, start=60, unit="B/clock", meaning="operands of a core"
    ),
)
_ROWS = (16.0, 32.0, 64.0, 128.0, 256.0)
_COLUMNS = (64.0, 128.0, 256.0)
_LARGEST_TILE = 128 * 256
_STEP_BYTES = 128.0
_QUANTILES = (np.arange(32) + 0.5) / 32  # experts from the least to the most loaded
_HEAVIEST_SHARE = 0.8  # of all tokens, at the busy end of the power law


def expert_rows(ops: OpColumns) -> FloatArray:
    """Rows of an expert at each quantile, on the busiest rank, [O, quantiles].

    Balanced routing gives all experts alike. With skew a > 0 loads are the quantiles of a power law x^-a between 1 and
    0.8 tokens, scaled to the rows there are; no expert has more rows than there are tokens. The busiest of r ranks has
    sqrt(2 ln r) standard deviations more than the mean, at most its most loaded experts' mean, and one row at least.

    >>> from simulator.op_frame import ops_from_frame
    >>> import pandas as pd
    >>> row = {"kind": "moe", "dtype": "bfloat16", "tokens": 64, "hidden": 1, "inter": 1, "experts": 8, "topk": 2}
    >>> float(expert_rows(ops_from_frame(pd.DataFrame([row]))).mean())
    16.0
    """
    tokens, experts, skew = ops.size("tokens"), ops.size("experts"), ops.size("skew")
    ranks = np.maximum(1.0, ops.size("expert_ranks"))
    mean = tokens * ops.size("topk") / np.maximum(experts, 1.0)
    power = np.where(skew > 0, skew + np.where(skew == 1.0, 1e-6, 0.0), 1.5)
    heaviest = np.maximum(_HEAVIEST_SHARE * tokens, 1.0001)
    law = np.power((np.power(heaviest, 1 - power) - 1) * _QUANTILES + 1, 1 / (1 - power))
    rows = np.where(skew > 0, law, 1.0)
    rows = rows / rows.mean(axis=1, keepdims=True) * mean
    for _ in range(6):  # what is above the limit goes to the others
        rows = np.minimum(rows, tokens)
        room = rows < tokens
        lacking = (mean - rows.mean(axis=1, keepdims=True)) * rows.shape[1]
        rows = np.where(room, rows * (1 + lacking / np.maximum((rows * room).sum(axis=1, keepdims=True), 1e-12)), rows)
    rows = np.minimum(rows, tokens)
    local = experts / ranks
    spread = rows.std(axis=1, keepdims=True) * np.sqrt(2 * np.log(ranks)) / np.sqrt(np.maximum(local, 1.0))
    busiest = np.minimum(mean + spread, rows.max(axis=1, keepdims=True))
    rows = np.minimum(rows * busiest / np.maximum(mean, 1e-12), tokens)
    at_least_one: FloatArray = rows * np.maximum(1.0, 1.0 / np.maximum(rows.mean(axis=1, keepdims=True) * local, 1e-12))
    return at_least_one


def plan(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Plan layers of experts: the tile of least time for both projections."""
    rows_per_expert = expert_rows(ops)
    local = ops.size("experts") / np.maximum(1.0, ops.size("expert_ranks"))
    rows = rows_per_expert.mean(axis=1, keepdims=True) * local
    hidden, inter, gates = ops.size("hidden"), ops.size("inter"), 1.0 + (ops.size("gated") > 0)
    weights = np.maximum(1.0, np.minimum(1.0, rows_per_expert).mean(axis=1, keepdims=True) * local)
    weights = weights * hidden * inter * (gates + 1.0) * ops.input_element_bytes
    shape = np.zeros((len(ops), len(chips)))
    weight_s = weights / (chips.level_peak_bandwidth[0] * chips.constant("memory_efficiency", "moe", default=1.0))
    best = dict.fromkeys(("core_s", "matrix_s", "tiles", "waves", "tile_m", "tile_n", "steps"), shape)
    least = np.full(shape.shape, np.inf)
    p = chips.constant("smooth_max_p", "moe", default=np.inf)
    wave_s = chips.constant("wave_s", "moe", default=0.0)
    rates = _Rates.from_chips(ops, chips)
    for tile_m in _ROWS:
        row_tiles = (np.ceil(rows_per_expert / tile_m) * np.minimum(1.0, rows_per_expert)).mean(axis=1, keepdims=True)
        for tile_n in _COLUMNS:
            if tile_m * tile_n > _LARGEST_TILE:
                continue
            made = _tiled(ops, chips, rates, np.maximum(1.0, row_tiles * local), tile_m, tile_n)
            cost = smooth_max(made["core_s"], weight_s, p) + made["waves"] * wave_s
            is_better = cost < least
            best = {name: np.where(is_better, made[name], best[name]) for name in best}
            least = np.where(is_better, cost, least)
    longest = np.maximum(best["core_s"], weight_s)
    waves_s = best["waves"] * wave_s
    # Permuted input, both projections' outputs, the activation, and the sum over each token's experts.
    moved = ops.size("tokens") * hidden * 4.0 + rows * (hidden * 4.0 + inter * (2.0 + gates)) * 2.0
    rate = chips.level_peak_bandwidth[0] * chips.constant("permute_efficiency", "moe", default=1.0)
    zero = np.zeros_like(weights)
    vector_s = ops.vector_flops / (chips.vector_flops[ops.dtype[:, 0]] * chips.cores * chips.clock_hz)
    special_s = ops.special_flops / (chips.special_flops * chips.cores * chips.clock_hz)
    return PlanColumns(
        tile_m=best["tile_m"],
        tile_n=best["tile_n"],
        tiles=best["tiles"],
        waves=best["waves"],
        cores_used=np.minimum(best["tiles"], chips.cores),
        split=shape + 1.0,
        stages=np.maximum(1.0, best["steps"]),
        core_s=best["core_s"],
        matrix_s=best["matrix_s"],
        vector_s=vector_s + shape,
        special_s=special_s + shape,
        traffic_bytes=level_traffic(
            chips, compulsory=np.maximum(ops.moved_bytes, weights), repeated=zero, far_repeated=zero, working_set=zero
        ),
        link_s=shape,
        prologue_s=chips.first_access_s + waves_s,
        epilogue_s=least - longest - waves_s + moved / rate,
        reduction_s=shape + chips.constant("routing_s", "moe", default=4.0 * chips.launch_s),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rates:
    """What a core does per second, whatever the tile."""

    macs_per_s: FloatArray
    array_sides: tuple[FloatArray, FloatArray]
    ingest_bytes_per_s: FloatArray
    step_s: FloatArray

    @classmethod
    def from_chips(cls, ops: OpColumns, chips: ChipColumns) -> "_Rates":
        """Rates of every op on every chip, [O, C] or [C]."""
        efficiency = chips.constant("matrix_efficiency", "moe", default=1.0)
        ingest = chips.constant("ingest_bytes_per_clock_per_core", "moe", default=chips.ingest)
        return cls(
            macs_per_s=chips.macs[ops.dtype[:, 0]] * efficiency * chips.clock_hz,
            array_sides=array_sides(chips, chips.has_matrix[ops.dtype[:, 0]]),
            ingest_bytes_per_s=ingest * chips.clock_hz,
            step_s=chips.constant("k_step_clocks", "moe", default=0.0) / chips.clock_hz,
        )


def _tiled(
    ops: OpColumns, chips: ChipColumns, rates: _Rates, row_tiles: FloatArray, tile_m: float, tile_n: float
) -> dict[str, FloatArray]:
    """Both projections in tiles of one size: times and counts, [O, C]."""
    inter, gates = ops.size("inter"), 1.0 + (ops.size("gated") > 0)
    step_k = _STEP_BYTES / ops.input_element_bytes
    zero = np.zeros((len(ops), len(chips)))
    made = dict.fromkeys(("core_s", "matrix_s", "tiles", "waves", "steps"), zero)
    for columns, depth in ((inter * gates, ops.size("hidden")), (ops.size("hidden"), inter)):
        tiles = row_tiles * np.ceil(columns / tile_n)
        steps = np.ceil(depth / step_k)
        waves = np.ceil(tiles / chips.cores)
        busiest = 0.5 * (np.maximum(tiles / chips.cores, 1.0) + waves)  # a persistent kernel evens out the last wave
        matrix_s = busiest * occupied_macs(rates.array_sides, tile_m, tile_n, steps * step_k) / rates.macs_per_s
        ingest_s = busiest * steps * (tile_m + tile_n) * _STEP_BYTES / rates.ingest_bytes_per_s
        core_s = np.maximum(np.maximum(matrix_s, ingest_s), np.ceil(waves / 2.0) * steps * rates.step_s)
        parts = {"core_s": core_s, "matrix_s": matrix_s, "tiles": tiles, "waves": waves, "steps": busiest * steps}
        made = {name: made[name] + parts[name] for name in made}
    return made | {"tile_m": zero + tile_m, "tile_n": zero + tile_n}
