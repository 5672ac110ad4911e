"""Attention as one IO-aware kernel: query tiles over cores, key tiles streamed, split keys where queries are few.

FlashAttention-2/3 (arXiv 2307.08691, 2407.08608) for many queries, flash-decoding for few; GQA packing puts the query
heads that share a KV head into the rows of one tile. Left out: the kernel that appends to a KV
cache, which is its own op.
"""

from dataclasses import dataclass

import numpy as np

from profiler.op import Kind
from simulator.chip_columns import ChipColumns
from simulator.op_columns import DTYPES, BoolArray, FloatArray, OpColumns
from simulator.stages import PlanColumns, level_traffic, missed_overlap_s

KINDS: tuple[Kind, ...] = ("attention",)

_KEY_TILE = 128.0
_STEP_BYTES = 128.0
# Scale and subtract (one fused multiply-add), running maximum, running sum and conversion of every query-key pair: four
# vector instructions, each in the slot of a fused multiply-add, which counts 2 in the peak.
_VECTOR_FLOPS_PER_PAIR = 8.0
# Part of a tile's softmax that hides behind the products of another tile. Without pipelining and warp specialization
# FlashAttention-3 reaches 570 instead of 661 TFLOP/s (its table 2, head size 128): 14 % of the time, which with these
# rates is a third of the softmax. The products of a tile wait for the rest.
_HIDDEN_SOFTMAX = 1.0 / 3.0
_FLOAT32 = DTYPES.index("float32")
_CANDIDATES = np.array(
    [(rows, packed, split) for rows in (16, 64, 128) for packed in (0, 1) for split in (1, 2, 4, 8, 16, 32, 64, 128)],
    dtype=np.float64,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Candidate:
    """One tiling of every op on every chip, [..., O, C]."""

    tiles: FloatArray
    per_core: FloatArray
    waves: FloatArray
    key_tiles: FloatArray
    matrix_s: FloatArray
    vector_s: FloatArray
    special_s: FloatArray
    core_s: FloatArray
    taken_bytes: FloatArray
    active_bytes: FloatArray
    epilogue_s: FloatArray
    reduction_s: FloatArray
    fits: BoolArray


def plan(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Plan attention: query tile, GQA packing and split of the keys of least time, for each op on each chip."""
    tile_rows, packed, split = (_CANDIDATES[:, column][:, None, None] for column in range(3))
    best = np.zeros((len(ops), len(chips)), dtype=np.int64)
    least = np.full(best.shape, np.inf)
    for i in range(len(_CANDIDATES)):
        cost = _cost_s(ops, chips, _tiling(ops, chips, tile_rows[i], packed[i], split[i]))
        best, least = np.where(cost < least, i, best), np.minimum(cost, least)
    tile_m, packing, parts = (_CANDIDATES[best, column] for column in range(3))
    chosen = _tiling(ops, chips, tile_m, packing, parts)
    uses_matrix = chips.has_matrix[ops.dtype[:, 0]]
    return PlanColumns(
        tile_m=tile_m,
        tile_n=np.full_like(tile_m, _KEY_TILE),
        tiles=chosen.tiles,
        waves=chosen.waves,
        cores_used=np.minimum(chosen.tiles, chips.cores),
        split=parts,
        stages=chosen.per_core * chosen.key_tiles,
        core_s=chosen.core_s,
        matrix_s=np.where(uses_matrix, chosen.matrix_s, 0.0),
        vector_s=chosen.vector_s + np.where(uses_matrix, 0.0, chosen.matrix_s),
        special_s=chosen.special_s,
        traffic_bytes=_traffic(ops, chips, chosen),
        link_s=np.zeros_like(tile_m),
        prologue_s=chosen.waves * chips.wave_s + chips.first_access_s,
        epilogue_s=chosen.epilogue_s,
        reduction_s=chosen.reduction_s,
    )


def _tiling(
    ops: OpColumns, chips: ChipColumns, tile_rows: FloatArray, packed: FloatArray, split: FloatArray
) -> _Candidate:
    heads, kv_heads, keys = ops.size("heads"), np.maximum(ops.size("kv_heads"), 1.0), ops.size("keys")
    depth = ops.size("head_dim") + ops.size("value_dim")
    group = np.where(packed > 0, np.maximum(1.0, heads / kv_heads), 1.0)
    rows = ops.size("queries") * group
    parallel_heads = ops.size("batch") * heads / group
    row_tiles = np.ceil(rows / tile_rows)
    tiles = parallel_heads * row_tiles * split
    visited = _visited_part(ops, tile_rows / group)
    even = np.ceil(tiles / chips.cores)
    # A causal mask makes tiles unequal; the longest starts first, so the busiest core has the mean or the longest tile.
    per_core = np.where(ops.size("causal") > 0, np.maximum(tiles * visited / chips.cores, np.minimum(1.0, tiles)), even)
    key_tiles = np.ceil(keys / split / _KEY_TILE)
    pairs = per_core * tile_rows * np.minimum(key_tiles * _KEY_TILE, np.ceil(keys / split / 16.0) * 16.0)
    matrix_s, vector_s, special_s = _unit_times_s(ops, chips, pairs)
    softmax_s = vector_s + special_s
    computing_s = np.maximum(matrix_s + (1.0 - _HIDDEN_SOFTMAX) * softmax_s, softmax_s)
    waves = np.ceil(per_core / 2.0)
    steps_per_tile = np.ceil(depth * ops.input_element_bytes / _STEP_BYTES)
    latency_s = waves * key_tiles * steps_per_tile * chips.k_step_clocks / chips.clock_hz
    key_bytes = keys / split * depth * ops.input_element_bytes
    query_bytes = np.minimum(tile_rows, rows) * depth * ops.output_element_bytes
    ingest_s = per_core * key_bytes / (chips.ingest * chips.clock_hz)
    tile_output_bytes = np.minimum(tile_rows, rows) * ops.size("value_dim") * ops.output_element_bytes
    concurrent_heads = np.minimum(parallel_heads, np.ceil(2.0 * chips.cores / np.maximum(row_tiles * split, 1.0)))
    return _Candidate(
        tiles=tiles,
        per_core=per_core,
        waves=waves,
        key_tiles=key_tiles,
        matrix_s=matrix_s,
        vector_s=vector_s,
        special_s=special_s,
        core_s=np.maximum(np.maximum(computing_s, latency_s), ingest_s),
        taken_bytes=tiles * (key_bytes * visited + query_bytes),
        active_bytes=concurrent_heads * keys * depth * ops.input_element_bytes,
        epilogue_s=np.ceil(per_core) * tile_output_bytes / (chips.epilogue * chips.clock_hz),
        reduction_s=np.where(split > 1, _combine_s(ops, chips, split), 0.0),
        fits=(split == 1) | ((split <= np.ceil(keys / _KEY_TILE)) & (ops.size("causal") == 0)),
    )


def _unit_times_s(ops: OpColumns, chips: ChipColumns, pairs: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Time of matrix, vector and special-function units for this many query-key pairs on the busiest core."""
    dtype = ops.dtype[:, 0]
    depth = ops.size("head_dim") + ops.size("value_dim")
    matrix_s = pairs * depth / (chips.matrix_efficiency * chips.macs[dtype] * chips.clock_hz)
    softmax_s = pairs * _VECTOR_FLOPS_PER_PAIR / (chips.vector_flops[_FLOAT32] * chips.clock_hz)
    fused_s = ops.vector_flops / (chips.vector_flops[dtype] * chips.cores * chips.clock_hz)
    return matrix_s, softmax_s + fused_s, pairs / (chips.special_flops * chips.clock_hz)


def _combine_s(ops: OpColumns, chips: ChipColumns, split: FloatArray) -> FloatArray:
    """Second pass over split keys: 32-bit partial outputs and their normalizers are written and read once."""
    outputs = ops.size("batch") * ops.size("heads") * ops.size("queries") * (ops.size("value_dim") + 1.0)
    combined: FloatArray = chips.split_k_s + 4.0 * 2.0 * outputs * split / chips.shared_bandwidth
    return combined


def _visited_part(ops: OpColumns, queries_per_tile: FloatArray) -> FloatArray:
    """Part of the query-key pairs that is computed: what the mask requires, and half a tile along its diagonal."""
    required = np.divide(
        ops.required_matrix_flops, ops.matrix_flops, out=np.ones_like(ops.matrix_flops), where=ops.matrix_flops > 0
    )
    keys = np.maximum(ops.size("keys"), 1.0)
    diagonal = 0.5 * (np.minimum(queries_per_tile, ops.size("queries")) + np.minimum(_KEY_TILE, keys)) / keys
    return np.where(ops.size("causal") > 0, np.minimum(1.0, required + diagonal), 1.0)


def _traffic(ops: OpColumns, chips: ChipColumns, candidate: _Candidate) -> FloatArray:
    repeated = np.maximum(0.0, candidate.taken_bytes - ops.moved_bytes)
    return level_traffic(
        chips,
        compulsory=ops.moved_bytes,
        repeated=repeated,
        far_repeated=repeated,
        working_set=candidate.active_bytes,
    )


def _cost_s(ops: OpColumns, chips: ChipColumns, candidate: _Candidate) -> FloatArray:
    traffic = _traffic(ops, chips, candidate)
    load_s: FloatArray = (traffic / chips.level_bandwidth[:, None, :]).max(axis=0)
    stages = candidate.per_core * candidate.key_tiles
    missed = missed_overlap_s(candidate.core_s, load_s, chips.smooth_max_p, stages)
    total = (
        np.maximum(candidate.core_s, load_s)
        + missed
        + candidate.waves * chips.wave_s
        + candidate.epilogue_s
        + candidate.reduction_s
    )
    return np.where(candidate.fits, total, np.inf)
