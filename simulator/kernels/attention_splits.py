"""Into how many parts attention kernels split the keys, by kernel generation and by what they do.

The rules are those of the libraries' launchers: FlashAttention-2 and -3 (BSD-3), FlashAttention-4, and TensorRT-LLM's
kernels in FlashInfer (`fmhaKernels.cuh`, Apache-2.0).
"""

import numpy as np

from simulator.op_columns import BoolArray, FloatArray

# FlashAttention-2 and -3: splitting pays for itself below this part of the slots, and the split taken is the smallest
# that reaches this part of the best wave efficiency.
_FILLED, _NEARLY_BEST = 0.8, 0.85
_FEWEST_BLOCKS = 4.0  # FlashAttention-3 and -4 never split so few


def equal_split(tiles: FloatArray, blocks: FloatArray, slots: FloatArray, limit: FloatArray) -> FloatArray:
    """Parts of equal numbers of blocks that fill the slots once, with a tenth more a part (FlashAttention-3, paged)."""
    share = np.ceil(1.1 * tiles * blocks / slots)
    parts = np.minimum(np.ceil(blocks / np.maximum(share, 1.0)), limit)
    steps = np.ceil(blocks / np.maximum(parts, 1.0))
    split: FloatArray = np.maximum(1.0, np.ceil(blocks / np.maximum(steps, 1.0)))
    return split


def fullest_split(
    tiles: FloatArray, blocks: FloatArray, slots: FloatArray, where: BoolArray, *, most: int
) -> FloatArray:
    """Smallest number of parts whose rounds are nearly as full as those of the best; 1 where not asked for."""
    split = np.ones(np.broadcast_shapes(tiles.shape, blocks.shape, slots.shape, where.shape))
    tiles, blocks, slots, where = np.broadcast_arrays(tiles, blocks, slots, where)
    cells = np.nonzero(where & (tiles > 0) & (tiles < _FILLED * slots))
    parts = np.arange(1.0, most + 1.0)
    rounds = tiles[cells][:, None] * parts / slots[cells][:, None]
    is_possible = (parts <= blocks[cells][:, None]) & (parts <= slots[cells][:, None])
    fill = np.where(is_possible, rounds / np.ceil(rounds), 0.0)
    split[cells] = 1.0 + np.argmax(fill >= _NEARLY_BEST * fill.max(axis=1, keepdims=True), axis=1)
    return split


def decoding_split(
    tiles: FloatArray, keys: FloatArray, window: FloatArray, block: FloatArray, cores: FloatArray
) -> FloatArray:
    """Parts of at least two blocks, as many as the cores take at once (TensorRT-LLM's kernels on Blackwell)."""
    reach = np.where(window > 0, np.minimum(keys, window + block - 1.0), keys)
    split: FloatArray = np.maximum(
        1.0, np.minimum(np.ceil(reach / (2.0 * block)), np.floor(cores / np.maximum(tiles, 1.0)))
    )
    return split


def split_keys(
    generation: FloatArray,
    tiles: FloatArray,
    blocks: FloatArray,
    cores: FloatArray,
    limit: FloatArray,
    *,
    is_whole: BoolArray,
    is_plain: BoolArray,
) -> FloatArray:
    """Parts of the keys in every kernel but those of `decoding_split`.

    Args:
        generation: of the kernels, [1, C].
        tiles: query tiles of all heads, [O, C].
        blocks: blocks of all keys, [O, C].
        cores: of the chip, [1, C].
        limit: most parts, [1, C].
        is_whole: kernels that never split, [O, C].
        is_plain: no mask and no cache, [O, 1].
    """
    is_second, is_third, is_fourth = (generation == number for number in (2.0, 3.0, 4.0))
    slots = np.where(is_second, 2.0, 1.0) * cores
    split = np.where(is_whole, 1.0, equal_split(tiles, blocks, slots, limit))
    split = np.where(is_second, fullest_split(tiles, blocks, slots, is_second & ~is_whole, most=128), split)
    enough = is_plain & (blocks > _FEWEST_BLOCKS)
    third = fullest_split(tiles, blocks, slots, is_third & enough, most=32)
    fourth = np.where(enough, np.clip(np.floor(cores / np.maximum(tiles, 1.0)), 1.0, blocks), 1.0)
    chosen: FloatArray = np.where(is_plain & is_third, third, np.where(is_plain & is_fourth, fourth, split))
    return chosen
