"""Matrix products and convolutions as implicit GEMM: best tile and split of K out of a candidate set.

The latency form is that of tiled GPU GEMMs: tile and wave quantization, co-resident tiles, the latency of a K step,
what a core can take in per clock, non-overlapped prologue and epilogue per wave, a second pass for split K, and
re-reads of operands that exceed the last shared cache. Types without matrix units run the same tiles on the vector
units.
"""

from dataclasses import dataclass

import numpy as np

from profiler.op import Kind
from simulator.chip_columns import ChipColumns
from simulator.op_columns import BoolArray, FloatArray, IntArray, OpColumns
from simulator.stages import PlanColumns, level_traffic, missed_overlap_s

KINDS: tuple[Kind, ...] = ("gemm", "conv")

_STEP_BYTES = 128.0  # one K step: 64 elements of 16 bits, a full row of shared-memory banks
_TILE_SIDES = (16, 32, 64, 96, 128, 192, 256)
_LARGEST_TILE = 128 * 256  # 32-bit accumulators of a larger tile do not fit the registers of a core
_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)
_CANDIDATES = np.array(
    [(m, n, s) for m in _TILE_SIDES for n in _TILE_SIDES if m * n <= _LARGEST_TILE for s in _SPLITS], dtype=np.float64
)
_CHUNK_ELEMENTS = 200_000  # keeps the arrays of one evaluation in cache


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Shape:
    """Sizes [O, 1] and rates [O, C] that every candidate shares."""

    batch: FloatArray
    m: FloatArray
    n: FloatArray
    k: FloatArray
    element_bytes: FloatArray
    compulsory: FloatArray
    write_bytes: FloatArray
    output_bytes: FloatArray
    macs: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Candidate:
    """One tiling of every op on every chip."""

    tiles: FloatArray
    per_core: FloatArray
    waves: FloatArray
    steps: FloatArray
    matrix_s: FloatArray
    core_s: FloatArray
    core_bytes: FloatArray
    tile_bytes: FloatArray
    far_bytes: FloatArray
    prologue_s: FloatArray
    epilogue_s: FloatArray
    reduction_s: FloatArray
    fits: BoolArray


def plan(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Plan products: the candidate tiling of least time, for each op on each chip."""
    shape = _shape(ops, chips)
    best = _best_candidates(shape, chips)
    tile_m, tile_n, split = (_CANDIDATES[best, column] for column in range(3))
    chosen = _tiling(shape, chips, tile_m, tile_n, split)
    share = chosen.per_core / np.maximum(chosen.tiles, 1.0)
    vector_s = share * ops.vector_flops / (chips.vector_flops[ops.dtype[:, 0]] * chips.clock_hz)
    special_s = share * ops.special_flops / (chips.special_flops * chips.clock_hz)
    uses_matrix = chips.has_matrix[ops.dtype[:, 0]]
    return PlanColumns(
        tile_m=tile_m,
        tile_n=tile_n,
        tiles=chosen.tiles,
        waves=chosen.waves,
        cores_used=np.minimum(chosen.tiles, chips.cores),
        split=split,
        stages=chosen.per_core * chosen.steps,
        core_s=chosen.core_s,
        matrix_s=np.where(uses_matrix, chosen.matrix_s, 0.0),
        vector_s=vector_s + np.where(uses_matrix, 0.0, chosen.matrix_s),
        special_s=special_s,
        traffic_bytes=level_traffic(
            chips,
            compulsory=shape.compulsory,
            repeated=np.maximum(0.0, chosen.tile_bytes + shape.write_bytes - shape.compulsory),
            core_repeated=np.maximum(0.0, chosen.core_bytes + shape.write_bytes - shape.compulsory),
            far_repeated=chosen.far_bytes,
            working_set=_working_set(shape),
        ),
        link_s=np.zeros_like(tile_m),
        prologue_s=chosen.prologue_s + chips.first_access_s,
        epilogue_s=np.maximum(chosen.epilogue_s, np.maximum(vector_s, special_s)),
        reduction_s=chosen.reduction_s,
    )


def _shape(ops: OpColumns, chips: ChipColumns) -> _Shape:
    return _Shape(
        batch=ops.size("batch"),
        m=ops.size("m"),
        n=ops.size("n"),
        k=ops.size("k"),
        element_bytes=ops.input_element_bytes,
        compulsory=ops.moved_bytes,
        write_bytes=ops.write_bytes,
        output_bytes=ops.output_element_bytes,
        macs=chips.macs[ops.dtype[:, 0]],
    )


def _best_candidates(shape: _Shape, chips: ChipColumns) -> IntArray:
    """Index of the fastest candidate, [O, C]; the first of equals."""
    best_cost = np.full((len(shape.m), len(chips)), np.inf)
    best = np.zeros(best_cost.shape, dtype=np.int64)
    chunk = max(1, _CHUNK_ELEMENTS // max(1, best_cost.size))
    for start in range(0, len(_CANDIDATES), chunk):
        tile_m, tile_n, split = (_CANDIDATES[start : start + chunk, column][:, None, None] for column in range(3))
        cost = _cost_s(shape, chips, _tiling(shape, chips, tile_m, tile_n, split))
        nearest = cost.argmin(axis=0)
        least = np.take_along_axis(cost, nearest[None], axis=0)[0]
        is_better = least < best_cost
        best = np.where(is_better, nearest + start, best)
        best_cost = np.where(is_better, least, best_cost)
    return best


def _tiling(shape: _Shape, chips: ChipColumns, tile_m: FloatArray, tile_n: FloatArray, split: FloatArray) -> _Candidate:
    step_k = _STEP_BYTES / shape.element_bytes
    rows, columns = np.ceil(shape.m / tile_m), np.ceil(shape.n / tile_n)
    all_steps = np.ceil(shape.k / step_k)
    steps = np.ceil(all_steps / split)
    tiles = shape.batch * rows * columns * split
    per_core = np.ceil(tiles / chips.cores)
    area = tile_m * tile_n
    co_resident = np.where(area > 128 * 128, 1.0, np.where(area > 64 * 64, 2.0, 4.0))
    waves = np.ceil(per_core / co_resident)
    matrix_s = per_core * steps * area * step_k / (chips.matrix_efficiency * shape.macs * chips.clock_hz)
    latency_s = waves * steps * chips.k_step_clocks / chips.clock_hz
    step_bytes = (tile_m + tile_n) * _STEP_BYTES
    ingest_s = per_core * steps * step_bytes / (chips.ingest * chips.clock_hz)
    # A cluster of neighbors along one side of the output fetches the panel that they have in common once.
    shared_side = np.maximum(
        tile_n * (1.0 - 1.0 / np.clip(rows, 1.0, chips.cluster_cores)),
        tile_m * (1.0 - 1.0 / np.clip(columns, 1.0, chips.cluster_cores)),
    )
    is_smallest = (tile_m == _TILE_SIDES[0]) & (tile_n == _TILE_SIDES[0])
    outputs = shape.batch * shape.m * shape.n
    combined_s = chips.split_k_s + 2.0 * outputs * split / chips.shared_bandwidth
    return _Candidate(
        tiles=tiles,
        per_core=per_core,
        waves=waves,
        steps=steps,
        matrix_s=matrix_s,
        core_s=np.maximum(np.maximum(matrix_s, latency_s), ingest_s),
        core_bytes=tiles * steps * step_bytes,
        tile_bytes=tiles * steps * (step_bytes - shared_side * _STEP_BYTES),
        far_bytes=_far_bytes(shape, chips, area * co_resident / split, shape.m * shape.n),
        prologue_s=waves * chips.wave_s,
        epilogue_s=per_core * area * shape.output_bytes / (chips.epilogue * chips.clock_hz),
        reduction_s=np.where(split > 1, combined_s, 0.0),
        # Two stages of operands must fit a core's own memory, and each part of a split must have a step.
        fits=((2.0 * step_bytes <= chips.core_memory_bytes) | is_smallest) & ((split <= all_steps) | (split == 1)),
    )


def _far_bytes(shape: _Shape, chips: ChipColumns, core_area: FloatArray, outputs: FloatArray) -> FloatArray:
    """Re-reads from behind the shared caches if nothing stayed in them: each wave reads the panels of its block again.

    The tiles that run at once cover a block of the output as square as m and n allow.
    """
    block = np.minimum(chips.cores * core_area, np.maximum(outputs, 1.0))
    height = np.minimum(shape.m, np.sqrt(block))
    width = np.minimum(shape.n, block / np.maximum(height, 1.0))
    height = np.minimum(shape.m, block / np.maximum(width, 1.0))
    panels = np.maximum(outputs / block, 1.0) * (height + width)
    far: FloatArray = np.maximum(0.0, panels - shape.m - shape.n) * shape.batch * shape.k * shape.element_bytes
    return far


def _working_set(shape: _Shape) -> FloatArray:
    return (shape.m + shape.n) * shape.k * shape.element_bytes


def _cost_s(shape: _Shape, chips: ChipColumns, candidate: _Candidate) -> FloatArray:
    """Time of a candidate from main and innermost shared memory alone; infinite where it does not fit."""
    held = np.divide(chips.last_cache, np.maximum(_working_set(shape), 1.0))
    taken = np.maximum(shape.compulsory, candidate.tile_bytes + shape.write_bytes)
    far = shape.compulsory + candidate.far_bytes * np.clip(1.0 - held, 0.0, 1.0)
    main = np.where(chips.last_cache > 0, far, taken)
    load_s = np.maximum(main / chips.level_bandwidth[0], taken / chips.shared_bandwidth)
    missed = missed_overlap_s(candidate.core_s, load_s, chips.smooth_max_p, candidate.per_core * candidate.steps)
    main_loop_s: FloatArray = np.maximum(candidate.core_s, load_s) + missed
    total = main_loop_s + candidate.prologue_s + candidate.epilogue_s + candidate.reduction_s
    fitting: FloatArray = np.where(candidate.fits, total, np.inf)
    return fitting
