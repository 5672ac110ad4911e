"""Matrix products, and convolutions as implicit GEMM: best tile and split of K out of a candidate set.

The latency form is that of tiled GPU GEMMs: tile and wave quantization, co-resident tiles, the latency of a K step,
what a core can take in per clock, non-overlapped prologue and epilogue per wave, a second pass for split K, re-reads of
operands that exceed the last shared cache, and the clock that a power limit leaves to long kernels. Types without
matrix units run the same tiles on the vector units.
"""

from dataclasses import fields

import numpy as np

from profiler.op import Kind
from simulator.chip_columns import ChipColumns, ChipFigures
from simulator.kernels.gemm_constants import CONSTANTS, GemmConstants
from simulator.kernels.gemm_rules import kernel_steps
from simulator.kernels.gemm_search import CANDIDATES, best_candidates
from simulator.kernels.gemm_tiles import Products, exposed_s, far_bytes, played_s, ramped_s, tiling, working_set
from simulator.kernels.systolic import arrays_of
from simulator.op_columns import DTYPES, FloatArray, OpColumns
from simulator.stages import PlanColumns, level_traffic

__all__ = ["CONSTANTS", "KINDS", "plan"]

KINDS: tuple[Kind, ...] = ("gemm",)
_ACTIVATION_SHARPNESS = 5.0  # of the loss of activations that do not fit the cache: any from 3 to 10 fits the five GPUs


def plan(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Plan products: the candidate tiling of least time, for each op on each chip."""
    codes = np.unique(ops.dtype[:, 0])
    if len(codes) == 1:
        return _plan_dtype(ops, chips, DTYPES[codes[0]])
    rows = [np.flatnonzero(ops.dtype[:, 0] == code) for code in codes]
    parts = [_plan_dtype(ops.take(some), chips, DTYPES[code]) for some, code in zip(rows, codes, strict=True)]
    order = np.argsort(np.concatenate(rows)) if rows else np.array([], dtype=np.int64)
    columns = {}
    for column in fields(PlanColumns):
        whole = np.concatenate([np.atleast_2d(getattr(part, column.name)) for part in parts], axis=-2)
        columns[column.name] = whole[..., order, :]
    return PlanColumns(**columns)


def held_clock_ratio(ops: OpColumns, chips: ChipColumns) -> FloatArray:
    """Part of the full clock at which the matrix units of each product run by its length and the chip's file, [O, C].

    Args:
        ops: products.
        chips: the chips.
    """
    ratio = np.ones((len(ops), len(chips)))
    for code in np.unique(ops.dtype[:, 0]):
        rows = np.flatnonzero(ops.dtype[:, 0] == code)
        some = ops.take(rows)
        constants = GemmConstants.from_chips(chips, DTYPES[code])
        ratio[rows] = _mean_clock_ratio(some, chips, constants, chips.macs[some.dtype[:, 0]])
    return ratio


def _plan_dtype(ops: OpColumns, chips: ChipColumns, dtype: str) -> PlanColumns:
    """Plan products of one type."""
    constants = GemmConstants.from_chips(chips, dtype)
    products = products_of(ops, chips, constants)
    best = best_candidates(products)
    tile_m, tile_n, split = (CANDIDATES[best, column] for column in range(3))
    chosen = tiling(products, tile_m, tile_n, split)
    share = chosen.per_core / np.maximum(chosen.tiles, 1.0)
    vector_s = share * ops.vector_flops / (chips.vector_flops[ops.dtype[:, 0]] * chips.clock_hz)
    special_s = share * ops.special_flops / (chips.special_flops * chips.clock_hz)
    on_matrix = chips.has_matrix[ops.dtype[:, 0]] & (tile_m > 1)
    traffic = level_traffic(
        chips,
        compulsory=products.taken_bytes,
        repeated=np.maximum(0.0, chosen.tile_bytes + products.write_bytes - products.taken_bytes),
        core_repeated=np.maximum(0.0, chosen.core_bytes + products.write_bytes - products.taken_bytes),
        far_repeated=far_bytes(products, tile_m, tile_n, split),
        working_set=working_set(products),
    )
    traffic[0] -= np.where(chips.last_cache > 0, products.taken_bytes - products.main_bytes, 0.0)
    efficiency = _level_efficiency(constants, chips)
    level_s = traffic / (efficiency * chips.level_peak_bandwidth)[:, None, :]
    load_s = level_s.max(axis=0)
    ramped_load_s = np.maximum(load_s, ramped_s(constants, level_s[0]))
    beyond_s = exposed_s(products, chosen.core_s, ramped_load_s, played_s(chosen.core_s, load_s, chosen.stages))
    first_s = np.where(constants.stream_latency_s > 0, 0.0, chips.first_access_s)
    return PlanColumns(
        tile_m=tile_m,
        tile_n=tile_n,
        tiles=chosen.tiles,
        waves=chosen.waves,
        cores_used=np.minimum(chosen.tiles, chips.cores),
        split=split,
        stages=chosen.stages,
        core_s=chosen.core_s,
        matrix_s=np.where(on_matrix, np.minimum(chosen.matrix_s, chosen.core_s), 0.0),
        vector_s=vector_s + np.where(on_matrix, 0.0, np.minimum(chosen.matrix_s, chosen.core_s)),
        special_s=special_s,
        traffic_bytes=traffic,
        link_s=np.zeros_like(tile_m),
        prologue_s=chosen.prologue_s + beyond_s + first_s + _conversion_s(ops, chips, constants),
        epilogue_s=np.maximum(chosen.epilogue_s, np.maximum(vector_s, special_s)),
        reduction_s=chosen.reduction_s,
        level_efficiency=np.broadcast_to(efficiency[:, None, :], traffic.shape),
        smooth_max_p=np.full(tile_m.shape, np.inf),
        launch_s=np.zeros_like(tile_m) + constants.t0_s,
    )


def products_of(ops: OpColumns, chips: ChipColumns, constants: GemmConstants) -> Products:
    """What all candidates of products of one type share."""
    macs = chips.macs[ops.dtype[:, 0]]
    clock_ratio = _mean_clock_ratio(ops, chips, constants, macs)
    batch, m, n, k = (ops.size(name) for name in ("batch", "m", "n", "k"))
    step_ratio, beside_s = kernel_steps((batch, m, n, k), chips.cores, constants)
    return Products(
        batch=batch,
        m=m,
        n=n,
        k=k,
        element_bytes=ops.input_element_bytes,
        output_bytes=ops.output_element_bytes,
        write_bytes=ops.write_bytes,
        taken_bytes=ops.moved_bytes,
        main_bytes=_main_bytes(ops, chips, constants),
        macs_per_s=constants.matrix_efficiency * clock_ratio * macs * chips.clock_hz,
        arrays=arrays_of(chips, chips.has_matrix[ops.dtype[:, 0]]),
        step_ratio=step_ratio,
        beside_s=beside_s,
        constants=constants,
        chips=ChipFigures.of(chips),
    )


def _mean_clock_ratio(ops: OpColumns, chips: ChipColumns, constants: GemmConstants, macs: FloatArray) -> FloatArray:
    """Mean clock over full clock, [O, C]: it decays to the sustained one while the matrix units work.

    The mean of `s + (1 - s) exp(-t / settle)` over the time t that the products take at the peak.
    """
    peak_s = ops.matrix_flops / (2.0 * macs * chips.cores * chips.clock_hz)
    settled = np.maximum(peak_s / constants.clock_settle_s, 1e-9)
    sustained = constants.sustained_clock_ratio
    ratio: FloatArray = sustained - (1.0 - sustained) * np.expm1(-settled) / settled
    return ratio


def _main_bytes(ops: OpColumns, chips: ChipColumns, constants: GemmConstants) -> FloatArray:
    """Bytes that main memory must carry once, [O, C]: all of them, unless the op runs again and again.

    A benchmark goes through `weight_copies` copies of the weights in turn and keeps the activations. What fits the last
    shared cache between two uses is found there.
    """
    copies = ops.size("weight_copies")
    moved = ops.moved_bytes + np.zeros((1, len(chips)))
    if not (copies > 0).any():
        return moved
    share = ops.size("n") / np.maximum(ops.size("m") + ops.size("n"), 1.0)
    weights = np.where(ops.size("k") > 0, ops.read_bytes * share, 0.0)
    others = ops.moved_bytes - weights
    cache = np.maximum(chips.last_cache, 1.0)
    turn = (copies * weights + others) / (constants.weight_cache_ratio * cache)
    between = ops.moved_bytes / (constants.activation_cache_ratio * cache)
    held = weights * _held(turn, constants.weight_cache_sharpness) + others * _held(between, _ACTIVATION_SHARPNESS)
    main: FloatArray = np.where((copies > 0) & (chips.last_cache > 0), moved - held, moved)
    return main


def _held(fill: FloatArray, sharpness: FloatArray | float) -> FloatArray:
    """Part that a cache still holds after `fill` times its usable capacity has gone through it."""
    held: FloatArray = 1.0 / (1.0 + np.minimum(fill, 1e3) ** sharpness)
    return held


def _conversion_s(ops: OpColumns, chips: ChipColumns, constants: GemmConstants) -> FloatArray:
    """The kernels before a product of a narrow type that quantize its 16-bit activations, where the op counts them."""
    activations = ops.size("batch") * ops.size("m") * ops.size("k")
    moved = constants.conversion_passes * activations * (2.0 + ops.input_element_bytes)
    bandwidth = constants.memory_efficiency * chips.level_peak_bandwidth[0]
    busy_s = np.maximum(moved / bandwidth, constants.conversion_element_s * ops.size("k"))
    seconds: FloatArray = np.where(ops.size("quantizes_input") > 0, constants.conversion_s + busy_s, 0.0)
    return seconds


def _level_efficiency(constants: GemmConstants, chips: ChipColumns) -> FloatArray:
    """Achievable part of each memory's bandwidth, [levels, C]: fitted for main memory and the innermost shared one."""
    efficiency = np.ones((chips.levels, len(chips)))
    innermost = np.max(np.where(chips.level_exists & ~chips.level_is_core, np.arange(chips.levels)[:, None], 0), axis=0)
    efficiency[innermost, np.arange(len(chips))] = constants.shared_efficiency
    efficiency[0] = constants.memory_efficiency
    return efficiency
