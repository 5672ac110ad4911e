"""Matrix units that are systolic arrays: how many multiply-adds a product takes up on them, those of padding included.

An array of R rows and C columns holds R x C weights while rows of the other operand stream through, one a clock
(weight-stationary; Kung, "Why systolic architectures?", IEEE Computer 1982; Jouppi et al., ISCA 2017). The next weights
are shifted in meanwhile, which takes R clocks, so fewer than R streamed rows leave the array idle; a reduction that is
no multiple of R, or an output width that is no multiple of C, leaves part of it empty. Either operand may be the one
that stays. A unit of one row and one column is a GPU's: nothing is padded beyond the tile.
"""

import numpy as np

from simulator.chip_columns import ChipColumns
from simulator.op_columns import BoolArray, FloatArray


def array_sides(chips: ChipColumns, on_matrix: BoolArray) -> tuple[FloatArray, FloatArray]:
    """(rows, columns) of the arrays that ops run on, [O, C]; 1 where the vector units take the type.

    Args:
        chips: the chips.
        on_matrix: whether the matrix units take an op's type, [O, C].
    """
    return np.where(on_matrix, chips.array_rows, 1.0), np.where(on_matrix, chips.array_columns, 1.0)


def occupied_macs(
    sides: tuple[FloatArray, FloatArray], m: FloatArray | float, n: FloatArray | float, k: FloatArray | float
) -> FloatArray:
    """Multiply-adds that a product of m x k and k x n takes up, with the better operand stationary.

    Args:
        sides: of the arrays, see `array_sides`.
        m: rows of the output tile.
        n: its columns.
        k: length of the reduction.

    >>> one = np.ones((1, 1))
    >>> float(occupied_macs((128 * one, 128 * one), 256, 128, 100)[0, 0]) == 256 * 128 * 128  # a shallow reduction
    True
    >>> float(occupied_macs((128 * one, 128 * one), 8, 512, 128)[0, 0]) == 512 * 128 * 128  # 8 rows that stay, padded
    True
    >>> float(occupied_macs((one, one), 8, 512, 100)[0, 0]) == 8 * 512 * 100
    True
    """
    rows, columns = sides
    if not (rows * columns > 1.0).any():
        return np.asarray(m * n * k) + 0.0 * rows
    depth = np.ceil(k / rows) * rows
    weights_stay = np.maximum(m, rows) * (np.ceil(n / columns) * columns)
    others_stay = np.maximum(n, rows) * (np.ceil(m / columns) * columns)
    occupied: FloatArray = depth * np.minimum(weights_stay, others_stay)
    return occupied
