"""Matrix units that are systolic arrays: how many multiply-adds a product takes up on them, those of padding included.

An array of R rows and C columns holds R x C weights while rows of the other operand stream through, one a clock
(weight-stationary; Kung, "Why systolic architectures?", IEEE Computer 1982; Jouppi et al., ISCA 2017). The next weights
are shifted in meanwhile, which takes R clocks (or `array_load_clocks`, where a chip fills its arrays faster), so fewer
streamed rows than that leave the array idle; a reduction that is no multiple of R, or an output width that is no
multiple of C, leaves part of it empty. Either operand may be the one that stays. A unit of one row and one column is a
GPU's: nothing is padded beyond the tile.
"""

from dataclasses import dataclass

import numpy as np

from simulator.chip_columns import ChipColumns
from simulator.op_columns import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arrays:
    """The arrays that ops run on, [O, C] each; 1 where the vector units take the type, or a GPU's matrix units.

    Attributes:
        rows: of one array, along the reduction.
        columns: of one array, along the output.
        load_clocks: that the next weights take to come in.
    """

    rows: FloatArray
    columns: FloatArray
    load_clocks: FloatArray

    @property
    def exist(self) -> BoolArray:
        """Whether there are any."""
        exist: BoolArray = self.rows * self.columns > 1.0
        return exist

    def take(self, ops: IntArray | slice) -> "Arrays":
        """Those of some ops."""
        return Arrays(rows=self.rows[ops], columns=self.columns[ops], load_clocks=self.load_clocks[ops])


def arrays_of(chips: ChipColumns, on_matrix: BoolArray) -> Arrays:
    """The arrays that ops run on.

    Args:
        chips: the chips.
        on_matrix: whether the matrix units take an op's type, [O, C].
    """
    return Arrays(
        rows=np.where(on_matrix, chips.array_rows, 1.0),
        columns=np.where(on_matrix, chips.array_columns, 1.0),
        load_clocks=np.where(on_matrix, chips.array_load_clocks, 1.0),
    )


def occupied_macs(arrays: Arrays, m: FloatArray | float, n: FloatArray | float, k: FloatArray | float) -> FloatArray:
    """Multiply-adds that a product of m x k and k x n takes up, with the better operand stationary.

    Args:
        arrays: see `arrays_of`.
        m: rows of the output tile.
        n: its columns.
        k: length of the reduction.

    >>> one = np.ones((1, 1))
    >>> square, unit = (Arrays(rows=side * one, columns=side * one, load_clocks=side * one) for side in (128, 1))
    >>> float(occupied_macs(square, 256, 128, 100)[0, 0]) == 256 * 128 * 128  # a shallow reduction
    True
    >>> float(occupied_macs(square, 8, 512, 128)[0, 0]) == 512 * 128 * 128  # 8 rows that stay, padded
    True
    >>> float(occupied_macs(unit, 8, 512, 100)[0, 0]) == 8 * 512 * 100
    True
    """
    rows, columns, load = arrays.rows, arrays.columns, arrays.load_clocks
    if not arrays.exist.any():
        return np.broadcast_to(m * n * k, np.broadcast_shapes(np.shape(m * n * k), rows.shape))
    depth = np.ceil(k / rows) * rows
    weights_stay = np.maximum(m, load) * (np.ceil(n / columns) * columns)
    others_stay = np.maximum(n, load) * (np.ceil(m / columns) * columns)
    occupied: FloatArray = depth * np.minimum(weights_stay, others_stay)
    return occupied
