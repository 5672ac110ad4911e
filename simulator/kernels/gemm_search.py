"""The search for tiles and splits of matrix products: the candidates, and the fastest of them on every chip.

The choice is that of costing every candidate; two bounds spare most of that. The time without re-reads from afar
(`gemm_tiles.far_bytes`) is never longer than the whole and shares its parts among candidates: of a hundred, one to
three have a bound within the time of the one of least bound, and only those are costed whole. And what any split takes
at least (`gemm_tiles.least_split_s`) is more than most products take whole: their splits are not even bounded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from simulator.kernels.gemm_constants import STEP_BYTES
from simulator.kernels.gemm_tiles import (
    LARGEST_TILE,
    SIDES,
    Products,
    cost_s,
    far_bytes,
    least_split_s,
    main_bytes,
    tiling,
)
from simulator.op_columns import BoolArray, FloatArray, IntArray

_SPLITS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 32, 64])
# Largest split, and sides of outputs, of products that are bounded together: few classes are few evaluations.
_SPLIT_CLASSES = (8, 64)
_SIDE_CLASSES = (16, 64, 256)
# Sides on systolic arrays, whose sums lie in the memory beside them and not in a core's registers.
_ARRAY_SIDES = (128, 256, 512, 1024, 2048, 4096)
_VECTOR_COLUMNS = (4, 16)  # of a block of threads where one row runs on the vector units
_CORE_TILES = np.array([(m, n) for m in SIDES for n in SIDES if m * n <= LARGEST_TILE], dtype=np.float64)
_VECTOR_TILES = np.array([(1, n) for n in _VECTOR_COLUMNS], dtype=np.float64)
_ARRAY_TILES = np.array([(m, n) for m in _ARRAY_SIDES for n in _ARRAY_SIDES if m * n > LARGEST_TILE], dtype=np.float64)
_NEXT_SMALLER = np.array([-1, *SIDES[:-1]])[np.searchsorted(SIDES, _CORE_TILES)]  # sides
_BETWEEN_POWERS = np.isin(_CORE_TILES[:, :1], (96, 192)) | np.isin(_CORE_TILES[:, 1:], (96, 192))
_BLOCK_ELEMENTS = 40_000  # keeps the arrays of one evaluation in cache
_BATCH_BLOCKS = 64  # whose bounds are held at once
_ROUNDING = 1e-9  # a bound may round up to this part beyond the time that it bounds


def _split_up(tiles: FloatArray, splits: IntArray) -> FloatArray:
    """(rows, columns, split) of each tile with each split, [T * S, 3]."""
    return np.column_stack([np.repeat(tiles, len(splits), axis=0), np.tile(splits, len(tiles))])


CANDIDATES = np.concatenate(
    [_split_up(_CORE_TILES, _SPLITS), _split_up(_VECTOR_TILES, _SPLITS[:1]), _split_up(_ARRAY_TILES, _SPLITS[:1])]
)
_FIRST_VECTOR = len(_CORE_TILES) * len(_SPLITS)
_FIRST_ARRAY = _FIRST_VECTOR + len(_VECTOR_TILES)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Block:
    """Products in a row that no candidate beyond the same few can suit.

    Attributes:
        rows: the products.
        grids: candidates, [tiles, splits] each; first those of a core's tiles.
        is_open: whether these tiles are worth bounding for each product, [tiles, O].
    """

    rows: slice
    grids: tuple[IntArray, ...]
    is_open: BoolArray

    @property
    def candidates(self) -> IntArray:
        """All of them, in order."""
        return np.concatenate([grid.ravel() for grid in self.grids])


def best_candidates(products: Products) -> IntArray:
    """Index of the fastest candidate, [O, C]; the first of equals."""
    best, least_s = _fastest(products, np.full((len(products), products.chip_count), np.inf), is_split=False)
    # Most products are faster whole than any split can be.
    rows = np.flatnonzero((least_split_s(products) <= least_s * (1.0 + _ROUNDING)).any(axis=1))
    split, split_s = _fastest(products.take(rows), least_s[rows], is_split=True)
    is_better = (split_s < least_s[rows]) | ((split_s == least_s[rows]) & (split < best[rows]))
    best[rows] = np.where(is_better, split, best[rows])
    return best


def _fastest(products: Products, within_s: FloatArray, *, is_split: bool) -> tuple[IntArray, FloatArray]:
    """The fastest candidate of those that split K, or of the others, and its time, [O, C] both.

    Where none is as fast as `within_s`, [O, C], any of them will do.
    """
    columns = [np.searchsorted(_SIDE_CLASSES, side[:, 0]) for side in (products.m, products.n)]
    classes = np.column_stack([*columns, _split_class(products) if is_split else np.zeros_like(columns[0])])
    order = np.lexsort(classes.T)
    in_order = products.take(order)
    blocks = list(_blocks(in_order, classes[order], is_split=is_split))
    best, least_s = np.zeros(within_s.shape, dtype=np.int64), within_s.copy()
    for start in range(0, len(blocks), _BATCH_BLOCKS):
        batch = blocks[start : start + _BATCH_BLOCKS]
        rows = order[batch[0].rows.start : batch[-1].rows.stop]
        best[rows], least_s[rows] = _best(in_order, batch, within_s[rows])
    return best, least_s


def _blocks(products: Products, classes: IntArray, *, is_split: bool) -> Iterator[_Block]:
    """Products of a class together, as many at a time as a cache holds; the products lie class by class."""
    is_first = np.append(True, (classes[1:] != classes[:-1]).any(axis=1))[: len(classes)]
    starts = np.flatnonzero(is_first).tolist()
    for first, end in zip(starts, [*starts[1:], len(classes)], strict=False):
        some = products.take(slice(first, end))
        is_open = _are_open(some)
        tiles = np.flatnonzero(is_open.any(axis=1))
        splits = np.flatnonzero((_SPLITS > 1) & (_SPLIT_CLASSES[classes[first, 2]] >= _SPLITS)) if is_split else [0]
        special = () if is_split else tuple(_special(some))
        grids = (tiles[:, None] * len(_SPLITS) + splits, *special)
        rows = max(1, _BLOCK_ELEMENTS // (sum(grid.size for grid in grids) * products.chip_count))
        for start in range(first, end, rows):
            end_row = min(start + rows, end)
            yield _Block(
                rows=slice(start, end_row), grids=grids, is_open=is_open[tiles, start - first : end_row - first]
            )


def _split_class(products: Products) -> IntArray:
    """The class of the most parts that K can be split into, one step each at least."""
    steps = np.ceil(products.k * products.element_bytes / STEP_BYTES)[:, 0]
    return np.searchsorted(_SPLIT_CLASSES, np.minimum(steps, _SPLIT_CLASSES[-1]))


def _are_open(products: Products) -> BoolArray:
    """Which tiles of cores are worth bounding: no side beyond the next one above the output's, [T, O]."""
    m, n = products.m[:, 0], products.n[:, 0]
    tile_m, tile_n = _CORE_TILES.T[..., None]
    is_open: BoolArray = (_NEXT_SMALLER[:, :1] < m) & (_NEXT_SMALLER[:, 1:] < n)
    # Tiles far smaller than the output only take in more.
    is_open &= (tile_m >= 64) | (m <= SIDES[-1]) | (n <= 64)
    is_open &= (tile_n >= 64) | (n <= SIDES[-1]) | (m <= 64)
    if products.constants.has_power_of_two_tiles.all():
        is_open &= ~_BETWEEN_POWERS
    return is_open


def _special(products: Products) -> Iterator[IntArray]:
    """Candidates that never split K, worth bounding: for one row on vector units, and for systolic arrays."""
    if (products.m <= 1).any() and (products.constants.vector_ingest_bytes_per_clock_per_core > 0).any():
        yield _FIRST_VECTOR + np.arange(len(_VECTOR_TILES))[:, None]
    if products.arrays.exist.any() and len(suited := _suited_to_arrays(products)):
        yield _FIRST_ARRAY + suited[:, None]


def _suited_to_arrays(products: Products) -> IntArray:
    """Tiles for arrays that are no larger than the outputs of some products need."""
    needed = [
        min((side for side in _ARRAY_SIDES if side >= size), default=_ARRAY_SIDES[-1])
        for size in (float(products.m.max()), float(products.n.max()))
    ]
    return np.flatnonzero((_ARRAY_TILES[:, 0] <= needed[0]) & (_ARRAY_TILES[:, 1] <= needed[1]))


def _best(products: Products, blocks: Sequence[_Block], within_s: FloatArray) -> tuple[IntArray, FloatArray]:
    """What `_fastest` finds for the products of some blocks that follow one another."""
    bounds = [_bounds(products.take(block.rows), block) for block in blocks]
    least = [block.candidates[bound.argmin(axis=0)] for block, bound in zip(blocks, bounds, strict=True)]
    some = products.take(slice(blocks[0].rows.start, blocks[-1].rows.stop))
    best = np.concatenate(least).ravel()
    least_s = _pair_s(some, np.arange(len(best)), best)
    limit_s = np.minimum(least_s, within_s.ravel()) * (1.0 + _ROUNDING)
    pairs, candidates = [], []
    start = 0
    for block, bound in zip(blocks, bounds, strict=True):
        cells = bound.reshape(len(bound), -1)
        count = cells.shape[1]
        # Not "shorter": what is no number is costed, too.
        may_win = np.flatnonzero(~(cells > limit_s[start : start + count]))
        pairs.append(may_win % count + start)
        candidates.append(block.candidates[may_win // count])
        start += count
    pair, candidate = np.concatenate(pairs), np.concatenate(candidates)
    has_several = np.bincount(pair, minlength=len(best))[pair] > 1
    pair, candidate = pair[has_several], candidate[has_several]
    if len(pair):
        order = np.argsort(pair, kind="stable")  # the candidates of a pair are in order already
        pair, candidate = pair[order], candidate[order]
        seconds = _pair_s(some, pair, candidate)
        firsts = _first_of_least(pair, seconds)
        best[pair[firsts]], least_s[pair[firsts]] = candidate[firsts], seconds[firsts]
    return best.reshape(within_s.shape), least_s.reshape(within_s.shape)


def _bounds(products: Products, block: _Block) -> FloatArray:
    """Least time of each candidate, [K, O, C]; what depends on the tile alone, or the split, is worked out once."""
    bounds = []
    for number, grid in enumerate(block.grids):
        tile_m, tile_n = (CANDIDATES[grid[:, 0], side][:, None, None, None] for side in (0, 1))
        split = CANDIDATES[grid[0], 2][:, None, None]
        bound = cost_s(products, tiling(products, tile_m, tile_n, split), products.main_bytes)
        if number == 0:
            bound = np.where(block.is_open[:, None, :, None], bound, np.inf)
        bounds.append(bound.reshape(grid.size, *bound.shape[2:]))
    return bounds[0] if len(bounds) == 1 else np.concatenate(bounds)


def _pair_s(products: Products, pair: IntArray, candidate: IntArray) -> FloatArray:
    """Time of one candidate each of some pairs of a product and a chip, numbered chip by chip, [pairs]."""
    seconds = np.empty(len(pair))
    for start in range(0, len(pair), _BLOCK_ELEMENTS):
        part = slice(start, start + _BLOCK_ELEMENTS)
        some = products.pairs(*np.divmod(pair[part], products.chip_count))
        tile = CANDIDATES[candidate[part]].T
        seconds[part] = cost_s(some, tiling(some, *tile), main_bytes(some, far_bytes(some, *tile)))
    return seconds


def _first_of_least(pair: IntArray, seconds: FloatArray) -> IntArray:
    """Position of the first least time of each pair; equal pairs lie together."""
    starts = np.flatnonzero(np.r_[True, pair[1:] != pair[:-1]])
    least = np.repeat(np.minimum.reduceat(seconds, starts), np.diff(np.r_[starts, len(pair)]))
    positions = np.where(seconds > least, len(pair), np.arange(len(pair)))
    first: IntArray = np.minimum.reduceat(positions, starts)
    return first
