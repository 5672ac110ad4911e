"""Rules by which a measured library leaves tiles and splits out, or runs slow kernels, where a chip file says so.

Without them the fastest candidate counts. They were read off measured products (docs/kernels/products.md) and stand
for a library's choice on a chip, not for the chip; where a rule has no bound of K of its own, none beyond 8,192 was
seen.
"""

import numpy as np

from simulator.chip_columns import ChipFigures
from simulator.kernels.gemm_constants import GemmConstants
from simulator.op_columns import BoolArray, FloatArray

_LONGEST_K = 8192.0
_LARGEST_SIDES = (128.0, 256.0)
_NEXT_TO_LARGEST_SIDE = 192.0
_LARGEST_TILE = _LARGEST_SIDES[0] * _LARGEST_SIDES[1]
_LARGEST_STEP_BYTES = sum(_LARGEST_SIDES) * 128.0  # of operands, a step of 128 bytes along K
_SKINNY = 64.0  # a product with a side of at most this runs on small tiles
_SMALL_SIDES = (16.0, 32.0)  # of those tiles, as the shorter side asks for


def is_offered(
    sizes: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
    chips: ChipFigures,
    constants: GemmConstants,
    area: FloatArray,
    split: FloatArray,
) -> BoolArray:
    """Whether a library considers a candidate, [..., O, C].

    Args:
        sizes: batch, m, n and k of the products, [O, 1] each.
        chips: figures of the chips.
        constants: theirs.
        area: outputs of a tile, [..., 1, 1] or [..., O, C].
        split: parts of K, likewise.
    """
    batch, m, n, k = sizes
    may_split = (batch * m * n * k >= constants.split_least_macs) & (k >= constants.split_least_k)
    may_split &= _small_tiles(batch, m, n) <= constants.skinny_split_fill * chips.cores
    largest_tiles = batch * np.ceil(m / _LARGEST_SIDES[0]) * np.ceil(n / _LARGEST_SIDES[1])
    whole_only = constants.has_largest_tiles_first & (largest_tiles > chips.cores)
    # Both of its sides must be among those that a product of these sizes is tried with.
    whole_only &= (np.minimum(m, n) >= _LARGEST_SIDES[0]) & (np.maximum(m, n) > _NEXT_TO_LARGEST_SIDE)
    whole_only &= chips.core_memory_bytes >= 2.0 * _LARGEST_STEP_BYTES
    offered: BoolArray = (k > _LONGEST_K) | (
        ((split == 1) | may_split) & (~whole_only | ((area >= _LARGEST_TILE) & (split == 1)))
    )
    return offered


def kernel_steps(
    sizes: tuple[FloatArray, FloatArray, FloatArray, FloatArray], cores: FloatArray, constants: GemmConstants
) -> tuple[FloatArray, FloatArray]:
    """Time of a step along K over the constants' own, and what some kernels cost beside in s, [O, C] both.

    Args:
        sizes: batch, m, n and k of the products, [O, 1] each.
        cores: of the chips.
        constants: of the chips.
    """
    batch, m, n, k = sizes
    is_slow = (m <= constants.slow_most_rows) & (batch == 1)
    is_slow &= (m > 1) | (constants.vector_ingest_bytes_per_clock_per_core <= 0)
    is_slow &= (n >= constants.slow_least_columns) & (n <= constants.slow_most_columns)
    is_slow &= (k >= constants.slow_least_k) & (k <= constants.slow_most_k)
    is_sliced = (np.minimum(m, n) > _SMALL_SIDES[0]) & (k < constants.split_least_k)
    is_sliced &= batch * m * n * k < constants.slice_below_macs
    # Blocks that stay and take one tile after another by a counter, which is set to zero before.
    is_counted = (m * n > constants.counter_tiles_per_core * cores * _LARGEST_TILE) & (batch == 1)
    ratio = np.where(is_slow, constants.slow_step_ratio, 1.0)
    return ratio, np.where(is_sliced, constants.slice_s, 0.0) + np.where(is_counted, constants.counter_s, 0.0)


def _small_tiles(batch: FloatArray, m: FloatArray, n: FloatArray) -> FloatArray:
    """Small tiles that a skinny product fills, 0 for any other product, [O, 1]."""
    shorter = np.minimum(m, n)
    side = np.where(shorter <= _SMALL_SIDES[0], _SMALL_SIDES[0], _SMALL_SIDES[1])
    tiles: FloatArray = np.where(shorter <= _SKINNY, batch * np.ceil(m / side) * np.ceil(n / side), 0.0)
    return tiles
