"""A layer of experts as grouped products: rows of each expert in tiles of their own, weights of touched experts once.

Up (and gate) and down projections run one after another; tokens are sorted to their experts before and summed behind.
The busiest of several ranks that share the experts counts.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from profiler.op import Kind
from simulator.chip_columns import ChipColumns
from simulator.kernels.constants import Constant
from simulator.kernels.expert_loads import expert_rows, local_experts
from simulator.kernels.state_cache import held_part
from simulator.kernels.systolic import arrays_of, occupied_macs
from simulator.op_columns import DTYPES, FloatArray, OpColumns
from simulator.stages import PlanColumns, level_traffic, plan_parts, smooth_max

KINDS: tuple[Kind, ...] = ("moe",)

CONSTANTS: tuple[Constant, ...] = (
    Constant(name="matrix_efficiency", low=0.3, high=1.0, start=0.8, unit="", meaning="part of the matrix peak"),
    Constant(name="memory_efficiency", low=0.4, high=1.0, start=0.9, unit="", meaning="part of the memory's bandwidth"),
    Constant(
        name="held_ratio", low=0.1, high=2.0, start=0.7, unit="", meaning="part of the last cache that holds data"
    ),
    Constant(name="routing_s", low=1e-7, high=1e-4, start=2e-5, unit="s", meaning="kernels that sort, permute and sum"),
    Constant(name="pick_s", low=1e-11, high=1e-7, start=2e-9, unit="s", meaning="picking top-k, per pick and expert"),
    Constant(
        name="sort_s", low=1e-13, high=1e-8, start=1e-11, unit="s", meaning="sorting, per token and pick of all ranks"
    ),
    Constant(name="permute_efficiency", low=0.1, high=3.0, start=0.7, unit="", meaning="bandwidth of moving rows"),
    Constant(name="smooth_max_p", low=1.0, high=10.0, start=2.0, unit="", meaning="exponent of the smooth maximum"),
    Constant(name="wave_s", low=1e-8, high=5e-6, start=5e-7, unit="s", meaning="exposed latency of a wave"),
    Constant(
        name="ingest_bytes_per_clock_per_core", low=5, high=400, start=40, unit="B/clock", meaning="operands of a core"
    ),
    Constant(
        name="default_tile_ratio",
        low=1.0,
        high=5.0,
        start=1.2,
        unit="",
        meaning="time of a default tile, 1 as a tuned one's",
        condition="untuned",
    ),
    Constant(
        name="partial_tile_ratio",
        low=1.0,
        high=5.0,
        start=1.5,
        unit="",
        meaning="cost of a default tile's empty rows, 1 as filled ones",
        condition="untuned",
    ),
)
_ROWS = (16.0, 32.0, 64.0, 128.0, 256.0)
_COLUMNS = (64.0, 128.0, 256.0)
_LARGEST_TILE = 128 * 256
_STEP_BYTES = 128.0


def plan(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Plan layers of experts: the tile of least time for both projections."""
    codes = np.unique(ops.dtype[:, 0])
    return plan_parts(
        ops, chips, [(partial(_plan_dtype, dtype=DTYPES[code]), ops.dtype[:, 0] == code) for code in codes]
    )


def _plan_dtype(ops: OpColumns, chips: ChipColumns, dtype: str) -> PlanColumns:
    """Plan layers of one type."""
    constants = _Constants.from_chips(chips, dtype)
    layers = _Layers.from_ops(ops, chips, constants)
    best = _chosen_tile(ops, chips, layers, constants)
    shape, zero = np.zeros((len(ops), len(chips))), np.zeros_like(layers.taken_bytes)
    # Permuted input, both projections' outputs, the activation, and the sum over each token's experts.
    hidden, inter, gates = ops.size("hidden"), ops.size("inter"), 1.0 + (ops.size("gated") > 0)
    moved = layers.rows * (hidden * 4.0 + inter * (2.0 + gates)) * 2.0
    # Every rank picks and sorts for all tokens, whatever falls to it.
    picking_s = ops.size("topk") * (ops.size("experts") * constants.pick_s + ops.size("tokens") * constants.sort_s)
    vector_s = ops.vector_flops / (chips.vector_flops[ops.dtype[:, 0]] * chips.cores * chips.clock_hz)
    special_s = ops.special_flops / (chips.special_flops * chips.cores * chips.clock_hz)
    traffic = level_traffic(chips, compulsory=layers.taken_bytes, repeated=zero, far_repeated=zero, working_set=zero)
    traffic[0] -= layers.taken_bytes - layers.main_bytes
    efficiency = np.ones((chips.levels, 1, len(chips)))
    efficiency[0] = constants.memory_efficiency
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
        traffic_bytes=traffic,
        link_s=shape,
        prologue_s=chips.first_access_s + best["waves"] * constants.wave_s,
        epilogue_s=shape + moved / (constants.permute_efficiency * chips.level_peak_bandwidth[0]),
        reduction_s=shape + constants.routing_s + picking_s,
        level_efficiency=np.broadcast_to(efficiency, traffic.shape),
        smooth_max_p=shape + constants.smooth_max_p,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Constants:
    """Constants of every chip for one type, [C] each; see `CONSTANTS`. A default tile of no rows is not known."""

    matrix_efficiency: FloatArray
    memory_efficiency: FloatArray
    held_ratio: FloatArray
    routing_s: FloatArray
    pick_s: FloatArray
    sort_s: FloatArray
    default_tile_ratio: FloatArray
    permute_efficiency: FloatArray
    smooth_max_p: FloatArray
    wave_s: FloatArray
    ingest_bytes_per_clock_per_core: FloatArray
    partial_tile_ratio: FloatArray
    untuned_tile_rows: FloatArray
    untuned_tile_columns: FloatArray

    @classmethod
    def from_chips(cls, chips: ChipColumns, dtype: str) -> "_Constants":
        """Those of the type, else those of all."""
        defaults: dict[str, float | FloatArray] = {
            **dict.fromkeys(("matrix_efficiency", "memory_efficiency", "permute_efficiency"), 1.0),
            **dict.fromkeys(("held_ratio", "partial_tile_ratio", "default_tile_ratio"), 1.0),
            **dict.fromkeys(("pick_s", "sort_s", "wave_s", "untuned_tile_rows", "untuned_tile_columns"), 0.0),
            "routing_s": 4.0 * chips.launch_s,
            "smooth_max_p": np.inf,
            "ingest_bytes_per_clock_per_core": chips.ingest,
        }
        scopes = (f"moe.{dtype}", "moe")
        return cls(**{name: chips.constant(name, *scopes, default=value) for name, value in defaults.items()})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Layers:
    """Work of each layer on the busiest rank.

    Attributes:
        expert_rows: rows of an expert at each quantile, [O, quantiles].
        local: experts of the rank, [O, 1].
        rows: of all of them, [O, 1].
        taken_bytes: weights of touched experts, and the tokens in and out, [O, 1].
        main_bytes: what main memory carries of them, [O, C].
    """

    expert_rows: FloatArray
    local: FloatArray
    rows: FloatArray
    taken_bytes: FloatArray
    main_bytes: FloatArray

    @classmethod
    def from_ops(cls, ops: OpColumns, chips: ChipColumns, constants: _Constants) -> "_Layers":
        """Layers of every op; where they are repeated, the last cache holds a part."""
        rows, local = expert_rows(ops), local_experts(ops)
        touched = np.maximum(1.0, np.minimum(1.0, rows).mean(axis=1, keepdims=True) * local)
        hidden, inter, gates = ops.size("hidden"), ops.size("inter"), 1.0 + (ops.size("gated") > 0)
        given = ops.size("weight_element_bytes")
        element_bytes = np.where(given > 0, given, ops.input_element_bytes)
        weights = touched * hidden * inter * (gates + 1.0) * element_bytes
        tokens = ops.size("tokens") * hidden * (ops.input_element_bytes + ops.output_element_bytes)
        taken = np.maximum(ops.moved_bytes, weights + tokens)
        found = np.where(ops.size("weight_copies") > 0, held_part(chips, constants.held_ratio, taken), 0.0)
        return cls(
            expert_rows=rows,
            local=local,
            rows=rows.mean(axis=1, keepdims=True) * local,
            taken_bytes=taken,
            main_bytes=taken * (1.0 - found),
        )

    def row_tiles(self, tile_m: float) -> FloatArray:
        """Tiles along the rows of all experts, [O, 1]."""
        some = np.minimum(1.0, self.expert_rows)
        tiles: FloatArray = np.maximum(
            1.0, (np.ceil(self.expert_rows / tile_m) * some).mean(axis=1, keepdims=True) * self.local
        )
        return tiles


def _chosen_tile(ops: OpColumns, chips: ChipColumns, layers: _Layers, constants: _Constants) -> dict[str, FloatArray]:
    """Times and counts of the tile of least time, or of a library's default where it was not tuned, [O, C] each."""
    load_s = layers.main_bytes / (constants.memory_efficiency * chips.level_peak_bandwidth[0])
    shape = np.zeros((len(ops), len(chips)))
    best = dict.fromkeys(("core_s", "matrix_s", "tiles", "waves", "tile_m", "tile_n", "steps"), shape)
    least = np.full(shape.shape, np.inf)
    for tile_m in _ROWS:
        row_tiles = layers.row_tiles(tile_m)
        for tile_n in _COLUMNS:
            if tile_m * tile_n > _LARGEST_TILE:
                continue
            made = _tiled(ops, chips, constants, row_tiles, tile_m, tile_n)
            cost = smooth_max(made["core_s"], load_s, constants.smooth_max_p) + made["waves"] * constants.wave_s
            is_better = cost < least
            best = {name: np.where(is_better, made[name], best[name]) for name in best}
            least = np.where(is_better, cost, least)
    return _with_default_tiles(ops, chips, layers, constants, best)


def _with_default_tiles(
    ops: OpColumns, chips: ChipColumns, layers: _Layers, constants: _Constants, best: dict[str, FloatArray]
) -> dict[str, FloatArray]:
    """Where a library had not been tuned for the layer (`untuned`), the tile that it then takes, if the chip names one.

    A full one takes `default_tile_ratio` times what the rates of tuned tiles say; rows that stay empty cost
    `partial_tile_ratio` times what filled ones do.
    """
    untuned = ops.size("untuned") > 0
    if not untuned.any():
        return best
    all_rows, all_columns = constants.untuned_tile_rows, constants.untuned_tile_columns
    for tile_m, tile_n in sorted(set(zip(all_rows.tolist(), all_columns.tolist(), strict=True))):
        if tile_m * tile_n <= 0:
            continue
        row_tiles = layers.row_tiles(tile_m)
        empty = np.maximum(0.0, row_tiles - layers.rows / tile_m)
        made = _tiled(ops, chips, constants, row_tiles + (constants.partial_tile_ratio - 1.0) * empty, tile_m, tile_n)
        made["core_s"] = made["core_s"] * constants.default_tile_ratio
        takes = untuned & (all_rows == tile_m) & (all_columns == tile_n)
        best = {name: np.where(takes, made[name], best[name]) for name in best}
    return best


def _tiled(
    ops: OpColumns, chips: ChipColumns, constants: _Constants, row_tiles: FloatArray, tile_m: float, tile_n: float
) -> dict[str, FloatArray]:
    """Both projections in tiles of one size: times and counts, [O, C]."""
    inter, gates = ops.size("inter"), 1.0 + (ops.size("gated") > 0)
    step_k = _STEP_BYTES / ops.input_element_bytes
    macs_per_s = chips.macs[ops.dtype[:, 0]] * constants.matrix_efficiency * chips.clock_hz
    ingest_bytes_per_s = constants.ingest_bytes_per_clock_per_core * chips.clock_hz
    arrays = arrays_of(chips, chips.has_matrix[ops.dtype[:, 0]])
    zero = np.zeros((len(ops), len(chips)))
    made = dict.fromkeys(("core_s", "matrix_s", "tiles", "waves", "steps"), zero)
    for columns, depth in ((inter * gates, ops.size("hidden")), (ops.size("hidden"), inter)):
        tiles = row_tiles * np.ceil(columns / tile_n)
        steps = np.ceil(depth / step_k)
        waves = np.ceil(tiles / chips.cores)
        busiest = 0.5 * (np.maximum(tiles / chips.cores, 1.0) + waves)  # a persistent kernel evens out the last wave
        matrix_s = busiest * occupied_macs(arrays, tile_m, tile_n, steps * step_k) / macs_per_s
        ingest_s = busiest * steps * (tile_m + tile_n) * _STEP_BYTES / ingest_bytes_per_s
        core_s = np.maximum(matrix_s, ingest_s)
        parts = {"core_s": core_s, "matrix_s": matrix_s, "tiles": tiles, "waves": waves, "steps": busiest * steps}
        made = {name: made[name] + parts[name] for name in made}
    return made | {"tile_m": zero + tile_m, "tile_n": zero + tile_n}
