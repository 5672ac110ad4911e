"""Shapes of attention kernels: query tile, block of keys, GQA packing and the split of the keys, by kernel generation.

Generation 0 is a generic kernel. 2 and 3 are FlashAttention-2 and -3 as their authors' launchers and vLLM's choose
tiles (Dao-AILab/flash-attention and its fork, BSD-3), with a paged KV cache where keys and values are stored. 4 are the
kernels of Blackwell: TensorRT-LLM's through FlashInfer (`fmhaKernels.cuh`, Apache-2.0), one for prompts and one that
packs the tokens and heads of a few queries on a cache; and FlashAttention-4 without a mask.
"""

from dataclasses import dataclass

import numpy as np

from simulator.chip_columns import ChipColumns
from simulator.kernels.attention_constants import AttentionConstants
from simulator.kernels.attention_splits import decoding_split, split_keys
from simulator.kernels.systolic import Arrays, arrays_of
from simulator.op_columns import BoolArray, FloatArray, OpColumns

# Head sizes that each generation has kernels for; a head between two of them is padded to the larger.
_HEAD_SIZES = {
    2.0: (32, 64, 96, 128, 192, 256, 512),
    3.0: (64, 96, 128, 192, 256, 512),
    4.0: (64, 96, 128, 192, 256, 512),
}
# Most rows of tokens and heads that kernels of Blackwell take for decoding: eight tiles (assumed).
_PACKED_ROWS = 1024.0
_COMBINED_ROWS = 8.0  # of outputs in a block of the kernels that sum the parts of FlashAttention-2 and -3


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
        combined_rows: rows of outputs whose parts one core sums, where keys are split.
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
    combined_rows: FloatArray
    copies_queries: BoolArray


def attention_tiles(ops: OpColumns, chips: ChipColumns, constants: AttentionConstants) -> AttentionTiles:
    """Cut every op as the kernels of the chip's generation do."""
    generation, window = constants.generation, ops.size("window")
    queries, keys = ops.size("queries"), ops.size("keys")
    query_depth, value_depth = (_padded(ops.size(name), generation) for name in ("head_dim", "value_dim"))
    is_padded = (query_depth != ops.size("head_dim")) | (value_depth != ops.size("value_dim"))
    depth = np.maximum(query_depth, value_depth)
    is_paged = (ops.size("stores_kv") > 0) | (keys > queries)
    packs, group, decodes = _packing(ops, generation)
    packed_rows = queries * group
    rows, block = _shape(
        generation,
        depth,
        packed_rows,
        plain=(ops.size("causal") <= 0) & ~is_paged,
        paged=is_paged,
        local=(window > 0) & (window < keys),
        decodes=decodes,
    )
    arrays = arrays_of(chips, chips.has_matrix[ops.dtype[:, 0]])
    rows, block = _fill_arrays(arrays, packed_rows, rows, block)
    row_tiles = np.ceil(packed_rows / rows)
    # Two cores share the values of wide heads, and each works out all scores, but where keys take the place of rows.
    halves = np.where((generation == 4.0) & (value_depth > 256.0) & ~(decodes & (packed_rows <= 32.0)), 2.0, 1.0)
    value_depth = value_depth / halves
    tiles = ops.size("batch") * ops.size("heads") / group * row_tiles * halves
    blocks = np.ceil(keys / block)
    split = _split(ops, constants, tiles, blocks, chips.cores, packs=packs)
    split = np.where(decodes, decoding_split(tiles, keys, window, block, chips.cores), split)
    return AttentionTiles(
        rows=rows,
        block=block,
        query_depth=query_depth,
        value_depth=value_depth,
        is_padded=(generation > 0.0) & is_padded,
        group=group,
        row_tiles=row_tiles,
        tiles=tiles * split,
        blocks=blocks,
        split=split,
        resident=np.where(generation == 2.0, 2.0, 1.0),
        combined_rows=np.where(generation == 4.0, np.clip(packed_rows, 1.0, rows), _COMBINED_ROWS),
        copies_queries=(generation == 2.0) & (group > 1.0) & (ops.size("batch") > 1.0) & (ops.size("kv_heads") > 1.0),
    )


def _packing(ops: OpColumns, generation: FloatArray) -> tuple[BoolArray, FloatArray, BoolArray]:
    """Whether kernels pack rows, heads in a tile, and whether they are Blackwell's for decoding."""
    queries, keys = ops.size("queries"), ops.size("keys")
    shared = np.maximum(1.0, ops.size("heads") / np.maximum(ops.size("kv_heads"), 1.0))
    is_single = queries <= 1.0
    decodes = (generation == 4.0) & (queries * shared <= _PACKED_ROWS) & ((keys > queries) | is_single)
    # FlashAttention-2 packs the heads of single queries without a window, and copies them unless a view will do.
    packs_two = is_single & (shared > 1.0) & (ops.size("window") <= 0)
    packs = np.select([generation == 2.0, generation == 4.0], [packs_two, decodes], True)
    return packs, np.where(packs, shared, 1.0), decodes


def _split(
    ops: OpColumns,
    constants: AttentionConstants,
    tiles: FloatArray,
    blocks: FloatArray,
    cores: FloatArray,
    *,
    packs: BoolArray,
) -> FloatArray:
    """Parts of the keys in every kernel but Blackwell's for decoding, by what kernels never split."""
    generation, causal = constants.generation, ops.size("causal") > 0
    has_no_cache = ops.size("keys") <= ops.size("queries")
    is_plain = ~causal & has_no_cache
    is_whole = (causal & has_no_cache) | (~packs & ~((generation == 4.0) & is_plain))
    return split_keys(generation, tiles, blocks, cores, constants.split_limit, is_whole=is_whole, is_plain=is_plain)


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
    *,
    plain: BoolArray,
    paged: BoolArray,
    local: BoolArray,
    decodes: BoolArray,
) -> tuple[FloatArray, FloatArray]:
    """Rows of a query tile and keys of a block; `local` says that a window hides keys."""

    def power_of_two(least: float) -> FloatArray:
        return np.exp2(np.ceil(np.log2(np.clip(packed_rows, least, 128.0))))

    is_narrow = paged & ~local & ((depth == 64.0) | (depth == 128.0)) & (packed_rows <= 64.0)
    third_rows = np.where(is_narrow, 64.0, np.where(depth <= 96.0, 192.0, 128.0))
    third_block = np.select(
        [depth <= 64.0, depth <= 96.0, depth <= 128.0, depth <= 192.0],
        [
            np.where(plain, 192.0, 128.0),
            np.where(plain, 144.0, 128.0),
            np.where(plain, 176.0, 128.0),
            np.where(local | paged, 96.0, 112.0),
        ],
        np.where(local, 64.0, 80.0),
    )
    second_rows = np.where(paged, 64.0, 128.0)
    second_block = np.where(
        paged, np.select([depth <= 64.0, depth <= 128.0], [256.0, 128.0], 64.0), np.where(depth <= 64.0, 128.0, 64.0)
    )
    one_tile = (depth > 128.0) | (plain & (packed_rows <= 128.0))  # of 128 rows a core, else two
    fourth_rows = np.where(decodes, power_of_two(8.0), np.where(one_tile, 128.0, 256.0))
    rows = np.select(
        [generation == 2.0, generation == 3.0, generation == 4.0],
        [second_rows, third_rows, fourth_rows],
        power_of_two(16.0),
    )
    block = np.select(
        [generation == 2.0, generation == 3.0, decodes], [second_block, third_block, np.full_like(rows, 256.0)], 128.0
    )
    return rows, block


def _fill_arrays(
    arrays: Arrays, packed_rows: FloatArray, rows: FloatArray, block: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Rows and keys on systolic arrays: twice an array's sides, so that neither operand leaves it idle (assumed)."""
    rows_there = np.clip(np.exp2(np.ceil(np.log2(np.maximum(packed_rows, 1.0)))), 16.0, 2.0 * arrays.rows)
    block_there = 2.0 * np.maximum(arrays.rows, arrays.columns)
    return np.where(arrays.exist, rows_there, rows), np.where(arrays.exist, np.maximum(block_there, block), block)
