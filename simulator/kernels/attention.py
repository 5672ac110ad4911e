"""Attention as one IO-aware kernel: query tiles over cores, blocks of keys streamed, split keys where queries are few.

FlashAttention-2/3 (arXiv 2307.08691, 2407.08608) for many queries, flash-decoding for few. One set of equations holds
for causal prefill, bidirectional attention, decoding, and a block of queries against a cache; constants and shapes are
those of `attention_constants` and `attention_tiles`. Storing keys and values in a cache is a kernel of its own, counted
where the condition `stores_kv` says that a measurement holds it.
"""

from dataclasses import dataclass, replace

import numpy as np

from profiler.op import Kind
from simulator.chip_columns import ChipColumns
from simulator.kernels.attention_constants import CONSTANTS, SCOPES, AttentionConstants, attention_constants
from simulator.kernels.attention_tiles import AttentionTiles, attention_tiles
from simulator.kernels.systolic import arrays_of, occupied_macs
from simulator.op_columns import DTYPES, FloatArray, OpColumns
from simulator.stages import PlanColumns, level_traffic, smooth_max

__all__ = ("CONSTANTS", "KINDS", "SCOPES", "plan")

KINDS: tuple[Kind, ...] = ("attention",)

# Scale and subtract (one fused multiply-add), running maximum, running sum and conversion of every query-key pair: four
# vector instructions, each in the slot of a fused multiply-add, which counts 2 in the peak.
_VECTOR_FLOPS_PER_PAIR = 8.0
_FLOAT32 = DTYPES.index("float32")
_HELD_SHARPNESS = 12.0  # exponent of the change from held to missed around the capacity that keeps data
# The widest heads of flash kernels (PyTorch, `sdp_utils.cpp`). Beyond them `fmha_cutlassF_..._32x128_gmem` runs, which
# is compiled for 16 warps on a core and 4 in a block.
_FLASH_HEAD_DIM = 256.0
_WIDE_QUERIES = 32.0
_WIDE_BLOCKS = 4.0
_POWER_REACTS_S = 8e-3  # a kernel this long, replayed six times, has brought the chip to its power limit (50 ms)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Core:
    """Time of the busiest core and of its units, and its rounds, [O, C]."""

    core_s: FloatArray
    matrix_s: FloatArray
    vector_s: FloatArray
    special_s: FloatArray
    rounds: FloatArray
    steps: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Traffic:
    """Bytes through each memory and its efficiency, [levels, O, C]; time of a byte from where it lies, [O, C]."""

    traffic_bytes: FloatArray
    level_efficiency: FloatArray
    byte_s: FloatArray


def plan(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Plan attention on each chip with the tiles of its kernel generation."""
    constants = attention_constants(ops, chips)
    tiles = attention_tiles(ops, chips, constants)
    core = _wide_core(ops, chips, _core(ops, chips, constants, tiles))
    moved = _traffic(ops, chips, constants, tiles)
    prologue_s = chips.first_access_s * 0.0 + constants.setup_s + _around_s(ops, chips, constants, tiles, moved)
    return PlanColumns(
        tile_m=tiles.rows,
        tile_n=tiles.block,
        tiles=tiles.tiles,
        waves=np.ceil(np.ceil(tiles.tiles / chips.cores) / tiles.resident),
        cores_used=np.minimum(tiles.tiles, chips.cores),
        split=tiles.split,
        stages=np.maximum(1.0, core.rounds * core.steps / constants.lockstep_blocks),
        core_s=core.core_s,
        matrix_s=core.matrix_s,
        vector_s=core.vector_s,
        special_s=core.special_s,
        traffic_bytes=moved.traffic_bytes,
        link_s=np.zeros_like(core.core_s),
        prologue_s=prologue_s,
        epilogue_s=np.zeros_like(core.core_s),
        reduction_s=np.where(tiles.split > 1, _combine_s(ops, chips, constants, tiles), 0.0),
        level_efficiency=moved.level_efficiency,
        smooth_max_p=np.full_like(core.core_s, np.inf),
    )


def _core(ops: OpColumns, chips: ChipColumns, constants: AttentionConstants, tiles: AttentionTiles) -> _Core:
    """The busiest core: whole rounds of equal tiles, or of the unequal ones that a causal mask makes, the mean."""
    dtype = ops.dtype[:, 0]
    pairs = tiles.rows * tiles.block
    arrays = arrays_of(chips, chips.has_matrix[dtype])
    scores = occupied_macs(arrays, tiles.rows, tiles.block, tiles.query_depth)
    weighted = occupied_macs(arrays, tiles.rows, tiles.value_depth, tiles.block)
    matrix = (scores + weighted) / (constants.matrix_efficiency * chips.macs[dtype])
    vector = pairs * _VECTOR_FLOPS_PER_PAIR / chips.vector_flops[_FLOAT32]
    special = pairs / chips.special_flops
    computing = smooth_max(matrix, constants.softmax_ratio * (vector + special), constants.softmax_overlap_p)
    computing = np.maximum(computing, np.maximum(special, vector) * np.minimum(1.0, constants.softmax_ratio))
    key_bytes = tiles.block * (ops.size("head_dim") + ops.size("value_dim")) * ops.input_element_bytes
    block = np.maximum(computing + constants.block_clocks, key_bytes / chips.ingest)
    mean, longest = _blocks_per_tile(ops, tiles)
    first = constants.first_tile_ratio * (constants.tile_clocks + longest * block)
    next_one = constants.tile_clocks + mean * block
    per_core = tiles.tiles / chips.cores
    is_unequal = ops.size("causal") > 0
    even = first + (np.maximum(np.ceil(per_core), 1.0) - 1.0) * next_one
    balanced = np.where(per_core <= 1.0, first, np.maximum(first, per_core * next_one + constants.tail_ratio * first))
    clocks = np.where(is_unequal, balanced, even)
    rounds = np.where(is_unequal, np.maximum(per_core, 1.0), np.maximum(np.ceil(per_core), 1.0))
    done = np.where(per_core <= 1.0, longest, rounds * mean) / chips.clock_hz
    alone_s = clocks / chips.clock_hz
    slowdown = 1.0 + constants.sustained_slowdown / (1.0 + (_POWER_REACTS_S / np.maximum(alone_s, 1e-12)) ** 2)
    uses_matrix = chips.has_matrix[dtype]
    fused_s = ops.vector_flops / (chips.vector_flops[dtype] * chips.cores * chips.clock_hz)
    least_softmax = np.minimum(1.0, constants.softmax_ratio)
    return _Core(
        core_s=alone_s * slowdown * _mask_ratio(ops, chips) + fused_s,
        matrix_s=np.where(uses_matrix, done * matrix, 0.0),
        vector_s=done * vector * least_softmax + fused_s + np.where(uses_matrix, 0.0, done * matrix),
        special_s=done * special * least_softmax,
        rounds=rounds,
        steps=np.maximum(mean, 1.0),
    )


def _mask_ratio(ops: OpColumns, chips: ChipColumns) -> FloatArray:
    """Time of the kernel that takes a mask as a tensor, which flash kernels do not, over theirs, [O, C].

    Only where a chip says so, as for eager programs: engines bring kernels of their own.
    """
    ratio: FloatArray = np.where(ops.size("masked") > 0, chips.constant("mask_ratio", "attention", default=1.0), 1.0)
    return ratio


def _wide_core(ops: OpColumns, chips: ChipColumns, core: _Core) -> _Core:
    """The core's time with heads that flash kernels do not take, where a chip says what the kernel that does reaches.

    PyTorch's memory-efficient kernel keeps the outputs of such heads in global memory: blocks of 32 queries, of which
    four share a core. One alone does `wide_block_flops_per_clock`, a full core at most `wide_core_flops_per_clock`.
    """
    alone = chips.constant("wide_block_flops_per_clock", "attention", default=np.nan)
    full = chips.constant("wide_core_flops_per_clock", "attention", default=np.nan)
    blocks = ops.size("batch") * ops.size("heads") * np.ceil(ops.size("queries") / _WIDE_QUERIES)
    flops = np.divide(ops.matrix_flops, blocks, out=np.zeros_like(blocks), where=blocks > 0)
    rounds = np.ceil(blocks / (_WIDE_BLOCKS * chips.cores))
    clocks = np.maximum(rounds * flops / alone, np.ceil(blocks / chips.cores) * flops / full)
    is_wide = (ops.size("head_dim") > _FLASH_HEAD_DIM) & ~np.isnan(clocks)
    core_s = np.where(is_wide, clocks / chips.clock_hz, core.core_s)
    units = {name: np.minimum(getattr(core, name), core_s) for name in ("matrix_s", "vector_s", "special_s")}
    return replace(core, core_s=core_s, **units)


def _blocks_per_tile(ops: OpColumns, tiles: AttentionTiles) -> tuple[FloatArray, FloatArray]:
    """Blocks that a query tile goes through: of a mean tile and of the longest.

    A causal mask, and a window, leave the required part of the pairs; along their edges a tile computes what it masks:
    with q queries and blocks of n keys, half of max(n, q) keys per tile on average.
    """
    all_blocks = np.ceil(tiles.blocks / tiles.split)
    keys, queries = np.maximum(ops.size("keys"), 1.0), ops.size("queries")
    required = np.divide(
        ops.required_matrix_flops, ops.matrix_flops, out=np.ones_like(ops.matrix_flops), where=ops.matrix_flops > 0
    )
    seen = required * keys
    tile_queries = np.minimum(tiles.rows / tiles.group, queries)
    edge = 0.5 * np.maximum(1.0, tile_queries / tiles.block)
    window = ops.size("window")
    in_window = np.where(window > 0, np.ceil((window + tile_queries) / tiles.block) + 0.5, np.inf)
    mean = np.where(tiles.row_tiles > 1, np.minimum(tiles.blocks, seen / tiles.block + edge), tiles.blocks)
    longest = np.minimum(tiles.blocks, np.ceil(np.minimum(keys, seen + 0.5 * queries) / tiles.block))
    mean, longest = np.minimum(mean, in_window), np.minimum(np.maximum(longest, mean), in_window)
    is_causal = (ops.size("causal") > 0) & (queries > 1)
    # Parts of split keys are whole blocks; the busiest core has the largest part.
    mean = np.where(is_causal, mean / tiles.split, np.minimum(all_blocks, np.ceil(in_window / tiles.split)))
    longest = np.where(is_causal, np.ceil(longest / tiles.split), mean)
    return mean, longest


def _traffic(ops: OpColumns, chips: ChipColumns, constants: AttentionConstants, tiles: AttentionTiles) -> _Traffic:
    """Bytes and rates of each memory.

    What is replayed on the same data (condition `weight_copies`) finds it in the last shared cache, as far as that
    keeps it; a fresh kernel starts cold.
    """
    depth, element = ops.size("head_dim") + ops.size("value_dim"), ops.input_element_bytes
    mean, _ = _blocks_per_tile(ops, tiles)
    key_bytes = mean * tiles.block * depth * element
    query_bytes = np.minimum(tiles.rows, ops.size("queries") * tiles.group) * depth * ops.output_element_bytes
    repeated = np.maximum(0.0, tiles.tiles * (key_bytes + query_bytes) - ops.moved_bytes)
    heads = ops.size("batch") * ops.size("heads") / tiles.group
    at_once = np.minimum(heads, np.ceil(2.0 * chips.cores / np.maximum(tiles.row_tiles * tiles.split, 1.0)))
    traffic = level_traffic(
        chips,
        compulsory=ops.moved_bytes,
        repeated=repeated,
        far_repeated=repeated,
        working_set=at_once * ops.size("keys") * depth * element,
    )
    held = _held_part(ops, chips, constants)
    # Levels behind the last shared cache see only what it does not hold; that cache, what is read once more slowly.
    is_last = chips.level_capacity_bytes == chips.last_cache
    near = np.maximum.accumulate(is_last & chips.level_exists & ~chips.level_is_core, axis=0)
    traffic = np.where(near[:, None, :], traffic, traffic * (1.0 - held))
    once = np.maximum(held * ops.moved_bytes / constants.cache_efficiency, 1.0)
    efficiency = np.where((near & is_last)[:, None, :], np.clip(traffic / once, 1e-6, 1.0), 1.0)
    efficiency[0] = np.where(near[0], efficiency[0], constants.memory_efficiency)
    main_s = (1.0 - held) / (chips.level_peak_bandwidth[0] * constants.memory_efficiency)
    return _Traffic(
        traffic_bytes=traffic,
        level_efficiency=efficiency,
        byte_s=main_s + held / (chips.shared_bandwidth * constants.cache_efficiency),
    )


def _held_part(ops: OpColumns, chips: ChipColumns, constants: AttentionConstants) -> FloatArray:
    """Part of an op's data that the last shared cache holds from one replay to the next; 0 for a fresh kernel."""
    working_set = ops.moved_bytes + 2.0 * _stored_bytes(ops)
    room = constants.held_ratio * chips.last_cache
    share = np.divide(working_set, room, out=np.full(room.shape, np.inf), where=room > 0)
    held: FloatArray = np.where(ops.size("weight_copies") > 0, 1.0 / (1.0 + share**_HELD_SHARPNESS), 0.0)
    return held


def _stored_bytes(ops: OpColumns) -> FloatArray:
    """Keys and values of this op's own tokens, where it stores them in a cache."""
    tokens = ops.size("batch") * np.minimum(ops.size("queries"), ops.size("keys"))
    depth = ops.size("head_dim") + ops.size("value_dim")
    return np.where(ops.size("stores_kv") > 0, tokens * ops.size("kv_heads") * depth * ops.input_element_bytes, 0.0)


def _around_s(
    ops: OpColumns, chips: ChipColumns, constants: AttentionConstants, tiles: AttentionTiles, moved: _Traffic
) -> FloatArray:
    """Kernels around attention: storing keys and values, padding heads, copying queries to pack them."""
    tokens = ops.size("batch") * ops.size("queries")
    store_s = chips.launch_s + tokens * constants.store_token_s + 2.0 * _stored_bytes(ops) * moved.byte_s
    around: FloatArray = (
        np.where(ops.size("stores_kv") > 0, store_s, 0.0)
        + np.where(tiles.is_padded, constants.pad_s, 0.0)
        + np.where(tiles.copies_queries, 2.0 * chips.launch_s, 0.0)
    )
    return around


def _combine_s(ops: OpColumns, chips: ChipColumns, constants: AttentionConstants, tiles: AttentionTiles) -> FloatArray:
    """Second pass over split keys: 32-bit partial outputs and their normalizers are written and read once."""
    outputs = ops.size("batch") * ops.size("heads") * ops.size("queries") * (ops.size("value_dim") + 1.0)
    combined: FloatArray = constants.split_s + 8.0 * outputs * tiles.split / (
        chips.shared_bandwidth * constants.cache_efficiency
    )
    return combined
