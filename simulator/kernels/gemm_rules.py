"""Rules by which a measured library leaves tiles and splits out of its choice, where a chip's calibration says so.

Without them the fastest candidate counts. They were read off measured products (docs/simulator.md) and stand for a
library's choice on a chip, not for the chip; beyond a K of 8,192 none of them was seen to hold.
"""

import numpy as np

from simulator.chip_columns import ChipColumns
from simulator.kernels.gemm_constants import GemmConstants
from simulator.op_columns import BoolArray, FloatArray

_LONGEST_K = 8192.0
_LARGEST_TILE = 128.0 * 256.0
_LARGEST_STEP_BYTES = (128.0 + 256.0) * 128.0  # of operands, a step of 128 bytes along K
_SKINNY = 64.0  # a product with a side of at most this runs on small tiles
_SMALL_SIDES = (16.0, 32.0)  # of those tiles, as the shorter side asks for


def is_offered(
    sizes: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
    chips: ChipColumns,
    constants: GemmConstants,
    area: FloatArray,
    split: FloatArray,
) -> BoolArray:
    """Whether a library considers a candidate, [..., O, C].

    Args:
        sizes: batch, m, n and k of the products, [O, 1] each.
        chips: the chips.
        constants: theirs.
        area: outputs of a tile, [..., 1, 1] or [..., O, C].
        split: parts of K, likewise.
    """
    batch, m, n, k = sizes
    may_split = (batch * m * n * k >= constants.split_least_macs) & (
        _small_tiles(batch, m, n) <= constants.skinny_split_fill * chips.cores
    )
    whole_only = constants.has_largest_tiles_first & (batch * m * n > chips.cores * _LARGEST_TILE)
    whole_only &= (np.minimum(m, n) >= 128.0) & (chips.core_memory_bytes >= 2.0 * _LARGEST_STEP_BYTES)
    offered: BoolArray = (k > _LONGEST_K) | (
        ((split == 1) | may_split) & (~whole_only | ((area >= _LARGEST_TILE) & (split == 1)))
    )
    return offered


def _small_tiles(batch: FloatArray, m: FloatArray, n: FloatArray) -> FloatArray:
    """Small tiles that a skinny product fills, 0 for any other product, [O, 1]."""
    shorter = np.minimum(m, n)
    side = np.where(shorter <= _SMALL_SIDES[0], _SMALL_SIDES[0], _SMALL_SIDES[1])
    tiles: FloatArray = np.where(shorter <= _SKINNY, batch * np.ceil(m / side) * np.ceil(n / side), 0.0)
    return tiles
