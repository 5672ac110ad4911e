"""Tiles and splits of matrix products: the candidates, and what each of them costs on every chip."""

from dataclasses import dataclass

import numpy as np

from simulator.chip_columns import ChipColumns
from simulator.kernels.gemm_constants import STEP_BYTES, GemmConstants
from simulator.kernels.gemm_rules import is_offered
from simulator.kernels.systolic import Arrays, occupied_macs
from simulator.op_columns import BoolArray, FloatArray, IntArray
from simulator.stages import missed_overlap_s

SIDES = (16, 32, 64, 96, 128, 192, 256)
_LARGEST_TILE = 128 * 256  # 32-bit accumulators of a larger tile do not fit the registers of a core
_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)
# Sides on systolic arrays, whose sums lie in the memory beside them and not in a core's registers.
_ARRAY_SIDES = (128, 256, 512, 1024, 2048, 4096)
_SUMS_PART = 0.25  # of that memory; operands on their way in and out have the rest (assumed)
_VECTOR_TILES = (4, 16)  # columns of a block of threads where one row runs on the vector units
_STAGES_HELD = 3  # of operands, by a tile that shares its core with others
CANDIDATES = np.array(
    [(m, n, s) for m in SIDES for n in SIDES if m * n <= _LARGEST_TILE for s in _SPLITS]
    + [(1, n, 1) for n in _VECTOR_TILES]
    + [(m, n, 1) for m in _ARRAY_SIDES for n in _ARRAY_SIDES if m * n > _LARGEST_TILE],
    dtype=np.float64,
)
_BETWEEN_POWERS = np.array([any(side in (96, 192) for side in row[:2]) for row in CANDIDATES])
_IS_VECTOR = CANDIDATES[:, 0] == 1
_ON_ARRAYS = CANDIDATES[:, 0] * CANDIDATES[:, 1] > _LARGEST_TILE
_BLOCK_ELEMENTS = 50_000  # keeps the arrays of one evaluation in cache


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Products:
    """What all candidates of some products share: sizes [O, 1], figures on chips [O, C].

    Attributes:
        batch: independent products.
        m: rows of the output.
        n: columns of the output.
        k: length of the reduction.
        element_bytes: of the wider operand.
        output_bytes: of an element of the output.
        write_bytes: of all outputs.
        taken_bytes: operands and outputs once.
        main_bytes: of those, what main memory carries.
        macs_per_s: multiply-adds of one core per second, at the clock that a kernel of this size keeps.
        arrays: systolic arrays that the products run on.
        step_ratio: time of a step along K over the constants' own.
        slice_s: fixed cost of kernels whose blocks of threads share K.
        constants: of the chips.
    """

    batch: FloatArray
    m: FloatArray
    n: FloatArray
    k: FloatArray
    element_bytes: FloatArray
    output_bytes: FloatArray
    write_bytes: FloatArray
    taken_bytes: FloatArray
    main_bytes: FloatArray
    macs_per_s: FloatArray
    arrays: Arrays
    step_ratio: FloatArray
    slice_s: FloatArray
    constants: GemmConstants

    def take(self, rows: IntArray) -> "Products":
        """Some of the products."""
        names = [name for name in Products.__slots__ if name not in ("arrays", "constants")]
        return Products(
            constants=self.constants,
            arrays=self.arrays.take(rows),
            **{name: getattr(self, name)[rows] for name in names},
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tiling:
    """One tiling of every product on every chip, [..., O, C]."""

    tiles: FloatArray
    per_core: FloatArray
    waves: FloatArray
    steps: FloatArray
    matrix_s: FloatArray
    core_s: FloatArray
    core_bytes: FloatArray
    tile_bytes: FloatArray
    far_bytes: FloatArray
    prologue_s: FloatArray
    epilogue_s: FloatArray
    reduction_s: FloatArray
    fits: BoolArray


def best_candidates(products: Products, chips: ChipColumns) -> IntArray:
    """Index of the fastest candidate, [O, C]; the first of equals.

    Products that no candidate beyond the same few can suit are costed together, a block at a time.
    """
    best = np.zeros((len(products.m), len(chips)), dtype=np.int64)
    classes = np.column_stack(
        [
            np.searchsorted(SIDES, products.m[:, 0]),
            np.searchsorted(SIDES, products.n[:, 0]),
            _split_class(products, chips),
        ]
    )
    kinds, kind_of = np.unique(classes, axis=0, return_inverse=True)
    for index, (m_class, n_class, split_class) in enumerate(kinds):
        members = np.flatnonzero(kind_of.reshape(-1) == index)
        few = _open_candidates(products.constants, m_class, n_class, split_class, members, products)
        tile_m, tile_n, split = (CANDIDATES[few, column][:, None, None] for column in range(3))
        block = max(1, _BLOCK_ELEMENTS // (len(few) * len(chips)))
        for start in range(0, len(members), block):
            rows = members[start : start + block]
            some = products.take(rows)
            cost = cost_s(some, chips, tiling(some, chips, tile_m, tile_n, split))
            # The class is that of the chip with the most cores; a split that is no use on another one is closed there.
            cost = np.where((split > 1) & _fills(some, chips.cores), np.inf, cost)
            best[rows] = few[cost.argmin(axis=0)]
    return best


def _split_class(products: Products, chips: ChipColumns) -> IntArray:
    """How many of the splits can be of use: none longer than K, none where the largest tiles fill the cores 4 times."""
    steps = np.ceil(products.k * products.element_bytes / STEP_BYTES)[:, 0]
    useful = np.minimum(steps, np.where(_fills(products, chips.cores.max())[:, 0], 1.0, np.inf))
    return np.searchsorted(_SPLITS, np.maximum(useful, 1.0), side="right")


def _fills(products: Products, cores: FloatArray) -> BoolArray:
    """Whether the largest tiles fill the cores 4 times over, so that no split can help, [O, 1] or [O, C]."""
    tiles = products.batch * products.m * products.n / _LARGEST_TILE
    fills: BoolArray = tiles >= 4.0 * cores
    return fills


def _open_candidates(
    constants: GemmConstants, m_class: int, n_class: int, split_class: int, members: IntArray, products: Products
) -> IntArray:
    """Candidates worth costing: no side beyond the next one above the output's, no split without use."""
    side_m, side_n = (SIDES[min(index, len(SIDES) - 1)] for index in (m_class, n_class))
    is_open = (CANDIDATES[:, 0] <= side_m) & (CANDIDATES[:, 1] <= side_n)
    is_open &= CANDIDATES[:, 2] <= _SPLITS[split_class - 1]
    # Tiles far smaller than the output only take in more.
    is_open &= (CANDIDATES[:, 0] >= 64) | (m_class < len(SIDES)) | (n_class < 3)
    is_open &= (CANDIDATES[:, 1] >= 64) | (n_class < len(SIDES)) | (m_class < 3)
    if constants.has_power_of_two_tiles.all():
        is_open &= ~_BETWEEN_POWERS
    is_vector = bool((products.m[members] <= 1).any() and (constants.vector_ingest_bytes_per_clock_per_core > 0).any())
    is_open = np.where(_ON_ARRAYS, _open_on_arrays(members, products), is_open)
    found: IntArray = np.flatnonzero(np.where(_IS_VECTOR, is_vector, is_open))
    return found


def _open_on_arrays(members: IntArray, products: Products) -> BoolArray:
    """Whether a candidate suits arrays and is no larger than the outputs of some products need, [K]."""
    if not products.arrays.exist.any():
        return np.zeros(len(CANDIDATES), dtype=np.bool_)
    needed = [
        min((side for side in _ARRAY_SIDES if side >= size), default=_ARRAY_SIDES[-1])
        for size in (float(products.m[members].max()), float(products.n[members].max()))
    ]
    is_open: BoolArray = (CANDIDATES[:, 0] <= needed[0]) & (CANDIDATES[:, 1] <= needed[1])
    return is_open


def tiling(products: Products, chips: ChipColumns, tile_m: FloatArray, tile_n: FloatArray, split: FloatArray) -> Tiling:
    """What a tile and a split make of every product on every chip."""
    constants = products.constants
    step_k = STEP_BYTES / products.element_bytes
    rows, columns = np.ceil(products.m / tile_m), np.ceil(products.n / tile_n)
    all_steps = np.ceil(products.k / step_k)
    # Whole units of padding: half steps where kernels go along K by 64 bytes.
    padded = constants.k_padding_bytes / STEP_BYTES
    steps = np.ceil(products.k / (step_k * padded * split)) * padded
    tiles = products.batch * rows * columns * split
    per_core = np.ceil(tiles / chips.cores)
    area = tile_m * tile_n
    step_bytes = (tile_m + tile_n) * STEP_BYTES
    room = np.maximum(1.0, np.floor(chips.core_memory_bytes / (_STAGES_HELD * step_bytes)))
    co_resident = np.minimum(np.where(area > 128 * 128, 1.0, np.where(area > 64 * 64, 2.0, 4.0)), room)
    waves = np.ceil(per_core / co_resident)
    is_vector = tile_m == 1
    occupied = occupied_macs(products.arrays, tile_m, tile_n, steps * step_k)
    matrix_s = per_core * occupied / products.macs_per_s
    core_s = _core_s(products, chips, per_core, waves, steps, step_bytes, matrix_s, is_vector)
    # A cluster of neighbors along one side of the output fetches the panel that they have in common once.
    shared_side = np.maximum(
        tile_n * (1.0 - 1.0 / np.clip(rows, 1.0, constants.cluster_cores)),
        tile_m * (1.0 - 1.0 / np.clip(columns, 1.0, constants.cluster_cores)),
    )
    shared_side = np.where(is_vector, tile_m, shared_side)
    tile_s = area * products.output_bytes / (constants.epilogue_bytes_per_clock_per_core * chips.clock_hz)
    exposed_tiles = per_core - (per_core - 1.0) * constants.epilogue_overlap
    partial_bytes = 8.0 * products.batch * products.m * products.n * split
    shared_bandwidth = chips.shared_bandwidth * constants.shared_efficiency
    combined_s = (
        constants.split_k_s
        + constants.split_part_s * split
        + constants.reduction_passes * partial_bytes / shared_bandwidth
    )
    is_smallest = (tile_m <= SIDES[0]) & (tile_n <= SIDES[0])
    vector_runs = (products.m <= 1) & (constants.vector_ingest_bytes_per_clock_per_core > 0)
    return Tiling(
        tiles=tiles,
        per_core=per_core,
        waves=waves,
        steps=steps,
        matrix_s=matrix_s,
        core_s=core_s,
        core_bytes=tiles * steps * step_bytes,
        tile_bytes=tiles * steps * (step_bytes - shared_side * STEP_BYTES),
        far_bytes=_far_bytes(products, chips, area * co_resident / split, products.m * products.n),
        prologue_s=np.where(is_vector, constants.vector_s, waves * constants.wave_s + products.slice_s),
        epilogue_s=np.where(is_vector, 0.0, exposed_tiles * tile_s),
        reduction_s=np.where(split > 1, combined_s, 0.0),
        # Two stages of operands must fit a core's own memory, and each part of a split must have a step.
        fits=((2.0 * step_bytes <= chips.core_memory_bytes) | is_smallest)
        & ((split <= all_steps) | (split == 1))
        & (~constants.has_power_of_two_tiles | ~_is_between_powers(tile_m, tile_n))
        & ((products.m >= constants.least_rows_of_96_tiles) | ((tile_m != 96) & (tile_n != 96)))
        & is_offered((products.batch, products.m, products.n, products.k), chips, constants, area, split)
        & (~is_vector | vector_runs)
        & ((area <= _LARGEST_TILE) | (products.arrays.exist & (4.0 * area <= _SUMS_PART * chips.beside_core_bytes))),
    )


def _core_s(
    products: Products,
    chips: ChipColumns,
    per_core: FloatArray,
    waves: FloatArray,
    steps: FloatArray,
    step_bytes: FloatArray,
    matrix_s: FloatArray,
    is_vector: BoolArray,
) -> FloatArray:
    """Main loop of the busiest core, operands given: products, latency of steps, or what it takes in."""
    constants = products.constants
    step_s = constants.k_step_clocks / chips.clock_hz
    latency_s = waves * (steps * products.step_ratio + constants.pipeline_steps) * step_s
    ingest_s = per_core * steps * step_bytes / (constants.ingest_bytes_per_clock_per_core * chips.clock_hz)
    tiled_s = np.maximum(np.maximum(matrix_s, latency_s), ingest_s)
    if not is_vector.any():
        return tiled_s
    weights = per_core * steps * (step_bytes - STEP_BYTES)
    rate = np.where(
        constants.vector_ingest_bytes_per_clock_per_core > 0, constants.vector_ingest_bytes_per_clock_per_core, 1.0
    )
    vector_s: FloatArray = np.where(is_vector, weights / (rate * chips.clock_hz), tiled_s)
    return vector_s


def _is_between_powers(tile_m: FloatArray, tile_n: FloatArray) -> BoolArray:
    between: BoolArray = (tile_m == 96) | (tile_m == 192) | (tile_n == 96) | (tile_n == 192)
    return between


def _far_bytes(products: Products, chips: ChipColumns, core_area: FloatArray, outputs: FloatArray) -> FloatArray:
    """Re-reads from behind the shared caches if nothing stayed in them: each wave reads the panels of its block again.

    The tiles that run at once cover a block of the output as square as m and n allow.
    """
    block = np.minimum(chips.cores * core_area, np.maximum(outputs, 1.0))
    height = np.minimum(products.m, np.sqrt(block))
    width = np.minimum(products.n, block / np.maximum(height, 1.0))
    height = np.minimum(products.m, block / np.maximum(width, 1.0))
    panels = np.maximum(outputs / block, 1.0) * (height + width)
    again = np.maximum(0.0, panels - products.m - products.n)
    far: FloatArray = again * products.batch * products.k * products.element_bytes
    return far


def working_set(products: Products) -> FloatArray:
    """Bytes of both operands of one product, [O, 1]."""
    return (products.m + products.n) * products.k * products.element_bytes


def ramped_s(constants: GemmConstants, main_s: FloatArray) -> FloatArray:
    """Time of a stream from main memory, which begins at three quarters of its rate and nears the full one.

    A byte that would pass at the time t takes `1 + exp(-t / (3 ramp)) / 3` times as long: the ramp is lost in all.
    """
    lost = constants.memory_ramp_s
    passed = np.expm1(-main_s / (3.0 * np.where(lost > 0, lost, 1.0)))
    ramped: FloatArray = main_s - lost * passed
    return ramped


def exposed_s(
    products: Products, core_s: FloatArray, load_s: FloatArray, ramped_load_s: FloatArray, stages: FloatArray
) -> FloatArray:
    """What the main loop takes beyond what any plan plays, the longer of core and memory and one stage of the shorter.

    Memory needs its latency before it streams and nears its full rate only then (`ramped_load_s`), and part of the
    shorter side is not hidden. All are nothing on a chip without calibration.
    """
    constants = products.constants
    streamed_s = ramped_load_s + constants.stream_latency_s
    longer, shorter = np.maximum(core_s, streamed_s), np.minimum(core_s, streamed_s)
    part = np.divide(shorter, longer, out=np.zeros_like(longer), where=longer > 0)
    whole = longer + constants.overlap_loss * shorter * part
    played = np.maximum(core_s, load_s) + missed_overlap_s(core_s, load_s, np.array(np.inf), stages)
    beyond: FloatArray = np.maximum(0.0, whole - played)
    return beyond


def cost_s(products: Products, chips: ChipColumns, candidate: Tiling) -> FloatArray:
    """Time of a candidate from main and innermost shared memory alone; infinite where it does not fit."""
    constants = products.constants
    held = np.divide(chips.last_cache, np.maximum(working_set(products), 1.0))
    taken = np.maximum(products.taken_bytes, candidate.tile_bytes + products.write_bytes)
    far = products.main_bytes + candidate.far_bytes * np.clip(1.0 - held, 0.0, 1.0)
    main = np.where(chips.last_cache > 0, far, taken)
    main_s = main / (chips.level_peak_bandwidth[0] * constants.memory_efficiency)
    shared_s = taken / (chips.shared_bandwidth * constants.shared_efficiency)
    load_s = np.maximum(main_s, shared_s)
    ramped_load_s = np.maximum(ramped_s(constants, main_s), shared_s)
    stages = candidate.per_core * candidate.steps
    missed = missed_overlap_s(candidate.core_s, load_s, np.array(np.inf), stages)
    beyond_s = exposed_s(products, candidate.core_s, load_s, ramped_load_s, stages)
    main_loop_s = np.maximum(candidate.core_s, load_s) + missed + beyond_s
    total = main_loop_s + candidate.prologue_s + candidate.epilogue_s + candidate.reduction_s
    fitting: FloatArray = np.where(candidate.fits, total, np.inf)
    return fitting
