"""Shapes of attention kernels: query tile, block of keys, GQA packing and the split of the keys, by kernel generation.

Generation 0 is a generic kernel. 2 and 3 are FlashAttention-2 and -3 as their authors' launchers choose tiles (kernel
traits of Dao-AILab/flash-attention, BSD-3, from memory), with a paged KV cache where keys and values are stored; 4 is
a kernel of two 128-row tiles a core (FlashAttention-4, TensorRT-LLM on Blackwell).
"""

from dataclasses import dataclass

import numpy as np

from simulator.chip_columns import ChipColumns
from simulator.kernels.attention_constants import AttentionConstants
from simulator.kernels.systolic import Arrays, arrays_of
from simulator.op_columns import BoolArray, FloatArray, OpColumns

# Head sizes that each generation has kernels for; a head between two of them is padded to the larger.
_HEAD_SIZES = {
    2.0: (32, 64, 96, 128, 192, 256, 512),
    3.0: (64, 96, 128, 192, 256, 512),
    4.0: (64, 96, 128, 192, 256, 512),
}
# Splitting pays for itself below this part of the cores, and the split taken is the smallest that reaches this part of
# the best wave efficiency (FlashAttention's heuristic for the number of splits).
_FILLED, _NEARLY_BEST, _MOST_TRIED = 0.8, 0.85, 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttentionTiles:
    """How every op is cut on every chip, [O, C].

    Attributes:
        rows: rows of a query tile.
        block: keys of a block.
        query_depth: head size of Q and K, padded as the kernel takes it.
        value_depth: head size of V, likewise.
        is_padded: whether operands are copied to pad their heads.
        group: query heads that share a KV head and are packed into the rows of one tile.
        row_tiles: query tiles of one head or group.
        tiles: of all heads, each counted once per part of the keys.
        blocks: blocks of all keys.
        split: parts of the keys.
        resident: tiles that a core works on at once.
        copies_queries: whether packing needs the queries and the output copied.
    """

    rows: FloatArray
    block: FloatArray
    query_depth: FloatArray
    value_depth: FloatArray
    is_padded: BoolArray
    group: FloatArray
    row_tiles: FloatArray
    tiles: FloatArray
    blocks: FloatArray
    split: FloatArray
    resident: FloatArray
    copies_queries: BoolArray


def attention_tiles(ops: OpColumns, chips: ChipColumns, constants: AttentionConstants) -> AttentionTiles:
    """Cut every op as the kernels of the chip's generation do."""
    generation = constants.generation
    queries, keys, causal = ops.size("queries"), ops.size("keys"), ops.size("causal") > 0
    shared = np.maximum(1.0, ops.size("heads") / np.maximum(ops.size("kv_heads"), 1.0))
    query_depth, value_depth = (_padded(ops.size(name), generation) for name in ("head_dim", "value_dim"))
    depth = np.maximum(query_depth, value_depth)
    # FlashAttention-2 packs only single queries without a window, and copies them unless a view will do.
    packs = (generation != 2.0) | ((queries <= 1.0) & (ops.size("window") <= 0))
    group = np.where(packs, shared, 1.0)
    packed_rows = queries * group
    is_paged = (ops.size("stores_kv") > 0) | (keys > queries)
    arrays = arrays_of(chips, chips.has_matrix[ops.dtype[:, 0]])
    rows, block = _shape(generation, depth, packed_rows, causal, is_paged, ops.size("window") > 0)
    rows, block = _fill_arrays(arrays, packed_rows, rows, block)
    row_tiles = np.ceil(packed_rows / rows)
    tiles = ops.size("batch") * ops.size("heads") / group * row_tiles
    blocks = np.ceil(keys / block)
    resident = np.where(generation == 2.0, 2.0, 1.0)
    split = _split(tiles, blocks, chips.cores * resident, constants, is_whole=(causal & (keys <= queries)) | ~packs)
    whole = (generation == 3.0) & ~causal & (keys <= queries) & (queries > 1.0)
    if whole.any():
        split = np.where(whole, _filling_split(tiles, blocks, chips.cores), split)
    return AttentionTiles(
        rows=rows,
        block=block,
        query_depth=query_depth,
        value_depth=value_depth,
        is_padded=(generation > 0.0) & ((query_depth != ops.size("head_dim")) | (value_depth != ops.size("value_dim"))),
        group=group,
        row_tiles=row_tiles,
        tiles=tiles * split,
        blocks=blocks,
        split=split,
        resident=resident,
        copies_queries=(generation == 2.0) & (group > 1.0) & (ops.size("batch") > 1.0) & (ops.size("kv_heads") > 1.0),
    )


def _padded(size: FloatArray, generation: FloatArray) -> FloatArray:
    padded = np.ceil(size / 16.0) * 16.0 + 0.0 * generation
    for number, sizes in _HEAD_SIZES.items():
        known = np.array(sizes, dtype=np.float64)
        next_known = known[np.minimum(np.searchsorted(known, size), len(known) - 1)]
        padded = np.where(generation == number, np.maximum(next_known, padded), padded)
    return padded


def _shape(
    generation: FloatArray,
    depth: FloatArray,
    packed_rows: FloatArray,
    causal: BoolArray,
    is_paged: BoolArray,
    in_window: BoolArray,
) -> tuple[FloatArray, FloatArray]:
    """Rows of a query tile and keys of a block."""
    few = np.exp2(np.ceil(np.log2(np.clip(packed_rows, 16.0, 128.0))))
    third_rows = np.where((depth <= 96.0) & ((packed_rows > 128.0) | ~is_paged), 192.0, 128.0)
    plain = ~causal & ~is_paged
    third_block = np.select(
        [depth <= 64.0, depth <= 96.0, depth <= 128.0, depth <= 192.0],
        [
            np.where(plain, 192.0, 128.0),
            np.where(plain, 144.0, 128.0),
            np.where(plain, 176.0, 128.0),
            np.where(in_window, 96.0, 112.0),
        ],
        np.where(in_window, 64.0, 80.0),
    )
    second_rows = np.where(is_paged, 64.0, 128.0)
    second_block = np.where(
        is_paged, np.select([depth <= 64.0, depth <= 128.0], [256.0, 128.0], 64.0), np.where(depth <= 64.0, 128.0, 64.0)
    )
    fourth_rows = np.where(packed_rows <= 128.0, 128.0, 256.0)
    rows = np.select(
        [generation == 2.0, generation == 3.0, generation == 4.0], [second_rows, third_rows, fourth_rows], few
    )
    block = np.select([generation == 2.0, generation == 3.0], [second_block, third_block], 128.0)
    return rows, block


def _fill_arrays(
    arrays: Arrays, packed_rows: FloatArray, rows: FloatArray, block: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Rows and keys on systolic arrays: twice an array's sides, so that neither operand leaves it idle (assumed)."""
    rows_there = np.clip(np.exp2(np.ceil(np.log2(np.maximum(packed_rows, 1.0)))), 16.0, 2.0 * arrays.rows)
    block_there = 2.0 * np.maximum(arrays.rows, arrays.columns)
    return np.where(arrays.exist, rows_there, rows), np.where(arrays.exist, np.maximum(block_there, block), block)


def _split(
    tiles: FloatArray,
    blocks: FloatArray,
    slots: FloatArray,
    constants: AttentionConstants,
    *,
    is_whole: BoolArray,
) -> FloatArray:
    """Parts that fill the cores once with equal shares of the blocks; what `is_whole` says is not split."""
    share = np.ceil(1.1 * tiles * blocks / slots)
    parts = np.minimum(np.ceil(blocks / np.maximum(share, 1.0)), constants.split_limit)
    steps = np.ceil(blocks / np.maximum(parts, 1.0))
    split: FloatArray = np.where(is_whole, 1.0, np.maximum(1.0, np.ceil(blocks / np.maximum(steps, 1.0))))
    return split


def _filling_split(tiles: FloatArray, blocks: FloatArray, cores: FloatArray) -> FloatArray:
    """Smallest split whose waves are nearly as full as those of the best."""
    can = (tiles < _FILLED * cores) & (blocks > 4.0)

    def efficiency(parts: float) -> FloatArray:
        waves = tiles * parts / cores
        return np.where(parts <= blocks, waves / np.maximum(np.ceil(waves), 1.0), 0.0)

    tried = [efficiency(float(parts)) for parts in range(1, _MOST_TRIED + 1)]
    enough = _NEARLY_BEST * np.max(tried, axis=0)
    chosen = np.ones_like(enough)
    for parts in range(_MOST_TRIED, 0, -1):
        chosen = np.where(tried[parts - 1] >= enough, float(parts), chosen)
    return np.where(can, chosen, 1.0)
