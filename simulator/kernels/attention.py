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
from simulator.kernels.attention_constants import (
    CONSTANTS,
    SCOPES,
    AttentionConstants,
    attention_constants,
    decode_weight,
)
from simulator.kernels.attention_tiles import AttentionTiles, attention_tiles
from simulator.kernels.systolic import arrays_of, occupied_macs
from simulator.op_columns import DTYPES, FloatArray, OpColumns
from simulator.stages import PlanColumns, level_traffic, smooth_max

__all__ = ("CONSTANTS", "KINDS", "SCOPES", "blocks_per_tile", "plan")

KINDS: tuple[Kind, ...] = ("attention",)

# Scale and subtract (one fused multiply-add), running maximum, running sum and conversion of every query-key pair. A
# chip may say that its kernels run more vector instructions.
_INSTRUCTIONS_PER_PAIR = 4.0
_FLOPS_PER_SLOT = 2.0  # each in the slot of a fused multiply-add, which counts 2 in the peak
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
        prologue_s=constants.setup_s + _around_s(ops, chips, constants, tiles, moved),
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
    instructions = chips.constant("softmax_instructions", "attention", default=_INSTRUCTIONS_PER_PAIR)
    vector = pairs * _FLOPS_PER_SLOT * instructions / chips.vector_flops[_FLOAT32]
    special = pairs / chips.special_flops
    computing = smooth_max(matrix, constants.softmax_ratio * (vector + special), constants.softmax_overlap_p)
    key_bytes = tiles.block * (ops.size("head_dim") + ops.size("value_dim")) * ops.input_element_bytes
    block = np.maximum(computing + constants.block_clocks, key_bytes / chips.ingest)
    mean, longest = blocks_per_tile(ops, tiles)
    first = constants.first_tile_ratio * (constants.tile_clocks + longest * block)
    next_one = constants.tile_clocks + mean * block
    per_core = tiles.tiles / chips.cores
    # A single query is the same with a mask and without, and what decodes runs its kernel.
    unequal = np.where(ops.size("causal") > 0, 1.0, decode_weight(ops, constants.generation))
    even = first + (np.maximum(np.ceil(per_core), 1.0) - 1.0) * next_one
    balanced = np.where(per_core <= 1.0, first, np.maximum(first, per_core * next_one + constants.tail_ratio * first))
    clocks = even + unequal * (balanced - even)
    whole_rounds = np.maximum(np.ceil(per_core), 1.0)
    rounds = whole_rounds + unequal * (np.maximum(per_core, 1.0) - whole_rounds)
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


def blocks_per_tile(ops: OpColumns, tiles: AttentionTiles) -> tuple[FloatArray, FloatArray]:
    """Blocks that a query tile goes through, whole ones: of the mean tile and of the longest.

    A causal mask ends a tile at the key of its last query, a window begins it at the first key that its first query
    sees; blocks in between are computed whole. Of more queries than keys, a causal mask leaves the first without any,
    and their tiles without blocks.
    """
    keys, queries, window = np.maximum(ops.size("keys"), 1.0), np.maximum(ops.size("queries"), 1.0), ops.size("window")
    is_causal = (ops.size("causal") > 0) & (queries > 1)
    all_tiles = np.maximum(tiles.row_tiles, 1.0)
    seeing = np.where(is_causal, np.minimum(queries, keys), queries)
    step = np.maximum(1.0, np.floor(np.minimum(tiles.rows / tiles.group, seeing)))
    count = np.where(seeing < queries, np.minimum(all_tiles, np.ceil(seeing / step)), all_tiles)
    before = keys - seeing
    beyond_last = np.floor((before + count * step - 1.0) / tiles.block) - np.floor((keys - 1.0) / tiles.block)
    mean_end = _mean_block(before + step - 1.0, step, tiles.block, count) - beyond_last / count
    mean_end = np.where(is_causal, mean_end, tiles.blocks - 1.0)
    opens = before - window + 1.0  # first key of the first tile; below 0 the window is still wider than what there is
    whole = np.where(window > 0, np.clip(np.ceil(-opens / step), 0.0, count), count)
    windowed = count - whole
    mean_start = windowed / count * _mean_block(opens + whole * step, step, tiles.block, np.maximum(windowed, 1.0))
    mean = np.clip(mean_end - mean_start + 1.0, 1.0, tiles.blocks)
    phase = np.gcd(step.astype(np.int64), tiles.block.astype(np.int64))
    worst_start = np.where(count > 1, np.mod(opens, phase) + tiles.block - phase, np.mod(opens, tiles.block))
    seen = window + np.where(is_causal, step, queries) - 1.0
    in_window = np.floor((worst_start + seen - 1.0) / tiles.block) + 1.0
    longest = np.where(whole < count, np.minimum(tiles.blocks, in_window), tiles.blocks)
    # Parts of split keys are whole blocks; the busiest core has the largest part.
    longest = np.ceil(np.maximum(longest, mean) / tiles.split)
    return np.where(is_causal, count / all_tiles * mean / tiles.split, longest), longest


def _mean_block(first: FloatArray, step: FloatArray, block: FloatArray, count: FloatArray) -> FloatArray:
    """Mean of `floor((first + i step) / block)` over the first `count` whole numbers i from 0.

    Remainders go through all multiples of the greatest common divisor equally often (exact over whole periods).
    """
    phase = np.gcd(step.astype(np.int64), block.astype(np.int64))
    rest = np.where(count > 1, np.mod(first, phase) + 0.5 * (block - phase), np.mod(first, block))
    mean: FloatArray = (first + 0.5 * step * (count - 1.0) - rest) / block
    return mean


def _traffic(ops: OpColumns, chips: ChipColumns, constants: AttentionConstants, tiles: AttentionTiles) -> _Traffic:
    """Bytes and rates of each memory.

    What is replayed on the same data (condition `weight_copies`) finds it in the last shared cache, as far as that
    keeps it; a fresh kernel starts cold.
    """
    depth, element = ops.size("head_dim") + ops.size("value_dim"), ops.input_element_bytes
    mean, _ = blocks_per_tile(ops, tiles)
    key_bytes = mean * tiles.block * depth * element
    query_bytes = np.minimum(tiles.rows, ops.size("queries") * tiles.group) * depth * ops.output_element_bytes
    repeated = np.maximum(0.0, tiles.tiles * (key_bytes + query_bytes) - ops.moved_bytes)
    sharing = np.maximum(1.0, ops.size("heads") / np.maximum(ops.size("kv_heads"), 1.0)) / tiles.group
    readers = tiles.row_tiles * sharing
    tiles_of_keys = np.maximum(readers * tiles.split, 1.0)
    at_once = np.minimum(ops.size("batch") * ops.size("kv_heads"), np.ceil(2.0 * chips.cores / tiles_of_keys))
    span = np.where(ops.size("window") > 0, ops.size("window") + ops.size("queries"), np.inf)
    traffic = level_traffic(
        chips,
        compulsory=ops.moved_bytes,
        repeated=repeated,
        far_repeated=repeated * _read_again(readers, tiles.resident * chips.cores),
        working_set=at_once * np.minimum(ops.size("keys"), span) * depth * element,
    )
    held = _held_part(ops, chips, constants)
    # Levels behind the last shared cache see only what it does not hold; that cache, what is read once more slowly.
    is_last = chips.level_capacity_bytes == chips.last_cache
    near = np.maximum.accumulate(is_last & chips.level_exists & ~chips.level_is_core, axis=0)
    traffic = np.where(near[:, None, :], traffic, traffic * (1.0 - held))
    # The cache gives what it holds no slower than main memory would.
    main_rate = chips.level_peak_bandwidth[0] * constants.memory_efficiency
    rate = np.maximum(chips.shared_bandwidth * constants.cache_efficiency, main_rate)
    once = np.maximum(held * ops.moved_bytes * chips.shared_bandwidth / rate, 1.0)
    efficiency = np.where((near & is_last)[:, None, :], np.clip(traffic / once, 1e-6, 1.0), 1.0)
    efficiency[0] = constants.memory_efficiency
    return _Traffic(
        traffic_bytes=traffic,
        level_efficiency=efficiency,
        byte_s=(1.0 - held) / main_rate + held / rate,
    )


def _read_again(readers: FloatArray, at_a_time: FloatArray) -> FloatArray:
    """Part of the repeated reads of keys that tiles at work at a time do not share, [O, C].

    Tiles of one head, and of heads that share its keys, begin together and go along these together, so the first of
    them brings each block for all; only those of a later round read it again, from the cache if that holds what lies
    in between.
    """
    rounds = np.maximum(1.0, readers / at_a_time)
    again: FloatArray = np.divide(rounds - 1.0, readers - 1.0, out=np.zeros_like(rounds), where=readers > 1.0)
    return again


def _held_part(ops: OpColumns, chips: ChipColumns, constants: AttentionConstants) -> FloatArray:
    """Part of an op's data that the last shared cache holds from one replay to the next; 0 for a fresh kernel."""
    working_set = ops.moved_bytes + 2.0 * _stored_bytes(ops)
    room = constants.held_ratio * chips.last_cache
    share = np.divide(working_set, room, out=np.full(room.shape, np.inf), where=room > 0)
    held: FloatArray = np.where(ops.size("weight_copies") > 0, 1.0 / (1.0 + share**_HELD_SHARPNESS), 0.0)
    return held


def _stored_bytes(ops: OpColumns) -> FloatArray:
    """Keys and values of this op's own tokens, as far as it stores them in a cache."""
    tokens = ops.size("batch") * np.minimum(ops.size("queries"), ops.size("keys")) * ops.size("stores_kv")
    stored: FloatArray = (
        tokens * ops.size("kv_heads") * (ops.size("head_dim") + ops.size("value_dim")) * ops.input_element_bytes
    )
    return stored


def _around_s(
    ops: OpColumns, chips: ChipColumns, constants: AttentionConstants, tiles: AttentionTiles, moved: _Traffic
) -> FloatArray:
    """Kernels around attention: storing keys and values, padding heads, copying queries to pack them."""
    tokens = ops.size("batch") * ops.size("queries") * ops.size("stores_kv")
    store_s = chips.launch_s + tokens * constants.store_token_s + 2.0 * _stored_bytes(ops) * moved.byte_s
    around: FloatArray = (
        np.where(ops.size("stores_kv") > 0, store_s, 0.0)
        + np.where(tiles.is_padded, constants.pad_s, 0.0)
        + np.where(tiles.copies_queries, 2.0 * chips.launch_s, 0.0)
    )
    return around


def _combine_s(ops: OpColumns, chips: ChipColumns, constants: AttentionConstants, tiles: AttentionTiles) -> FloatArray:
    """Second pass over split keys: 32-bit partial outputs and their normalizers are written and read once.

    The cores that read them, one for each tile of outputs, take in no more than any core does.
    """
    rows = ops.size("batch") * ops.size("heads") * ops.size("queries")
    partial_bytes = 4.0 * rows * (ops.size("value_dim") + 1.0) * tiles.split
    readers = np.clip(np.ceil(rows / tiles.combined_rows), 1.0, chips.cores)
    shared_s = 2.0 * partial_bytes / (chips.shared_bandwidth * constants.cache_efficiency)
    read_s = partial_bytes / (readers * chips.ingest * chips.clock_hz)
    combined: FloatArray = constants.split_s + np.maximum(shared_s, read_s)
    return combined
