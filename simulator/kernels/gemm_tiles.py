"""Tiles and splits of matrix products: what each of them costs on every chip."""

from dataclasses import dataclass, replace

import numpy as np

from simulator.chip_columns import ChipFigures
from simulator.kernels.gemm_constants import STEP_BYTES, GemmConstants
from simulator.kernels.gemm_rules import is_offered
from simulator.kernels.systolic import Arrays, occupied_macs
from simulator.op_columns import BoolArray, FloatArray, IntArray
from simulator.stages import missed_overlap_s

SIDES = (16, 32, 64, 96, 128, 192, 256)  # of tiles
LARGEST_TILE = 128 * 256  # 32-bit accumulators of a larger tile do not fit the registers of a core
_SUMS_PART = 0.25  # of the memory beside an array; operands on their way in and out have the rest (assumed)
_SHORTEST_S = 1e-300  # stands for no time at all where one is divided by another
_STAGES_HELD = 3  # of operands, by a tile that shares its core with others


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
        beside_s: fixed cost of kernels whose blocks of threads share K or take tiles by a counter.
        constants: of the chips.
        chips: their figures.
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
    beside_s: FloatArray
    constants: GemmConstants
    chips: ChipFigures

    def __len__(self) -> int:
        return len(self.m)

    @property
    def chip_count(self) -> int:
        """How many chips they are on."""
        return len(self.chips.cores)

    def take(self, rows: IntArray | slice) -> "Products":
        """Some of the products."""
        return replace(
            self, arrays=self.arrays.take(rows), **{name: getattr(self, name)[rows] for name in _OF_PRODUCTS}
        )

    def pairs(self, rows: IntArray, chips: IntArray) -> "Products":
        """Some of the products, each on a chip of its own: every column [pairs]."""
        columns = {name: _cells(getattr(self, name), rows, chips) for name in _OF_PRODUCTS}
        arrays = {name: _cells(getattr(self.arrays, name), rows, chips) for name in Arrays.__slots__}
        is_one = len(self.chips.cores) == 1
        return Products(
            constants=self.constants if is_one else self.constants.take(chips),
            chips=self.chips if is_one else self.chips.take(chips),
            arrays=Arrays(**arrays),
            **columns,
        )


_OF_PRODUCTS = tuple(name for name in Products.__slots__ if name not in ("arrays", "constants", "chips"))


def _cells(column: FloatArray, rows: IntArray, chips: IntArray) -> FloatArray:
    """Cells of a column [O, 1] or [O, C]."""
    return column[rows, 0] if column.shape[1] == 1 else column[rows, chips]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tiling:
    """One tiling of every product on every chip, [..., O, C]."""

    tiles: FloatArray
    per_core: FloatArray
    waves: FloatArray
    steps: FloatArray
    stages: FloatArray
    matrix_s: FloatArray
    core_s: FloatArray
    step_bytes: FloatArray
    tile_bytes: FloatArray
    prologue_s: FloatArray
    epilogue_s: FloatArray
    reduction_s: FloatArray
    fits: BoolArray

    @property
    def core_bytes(self) -> FloatArray:
        """Operands that all cores take in."""
        return self.tiles * self.steps * self.step_bytes


def tiling(products: Products, tile_m: FloatArray, tile_n: FloatArray, split: FloatArray) -> Tiling:
    """What a tile and a split make of every product on every chip."""
    constants, chips = products.constants, products.chips
    step_k = STEP_BYTES / products.element_bytes
    rows, columns = np.ceil(products.m / tile_m), np.ceil(products.n / tile_n)
    # Whole units of padding: half steps where kernels go along K by 64 bytes.
    padded = constants.k_padding_bytes / STEP_BYTES
    steps = np.ceil(products.k / (step_k * padded * split)) * padded
    tiles = products.batch * rows * columns * split
    per_core = np.ceil(tiles / chips.cores)
    area = tile_m * tile_n
    step_bytes = (tile_m + tile_n) * STEP_BYTES
    waves = np.ceil(per_core / _co_resident(chips, area, step_bytes))
    is_vector = tile_m == 1
    occupied = occupied_macs(products.arrays, tile_m, tile_n, steps * step_k)
    matrix_s = per_core * occupied / products.macs_per_s
    stages = per_core * steps
    core_s = _core_s(products, waves, steps, stages, step_bytes, matrix_s, is_vector)
    # A cluster of neighbors along one side of the output fetches the panel that they have in common once.
    shared_side = np.maximum(
        tile_n * (1.0 - 1.0 / np.clip(rows, 1.0, constants.cluster_cores)),
        tile_m * (1.0 - 1.0 / np.clip(columns, 1.0, constants.cluster_cores)),
    )
    shared_side = np.where(is_vector, tile_m, shared_side)
    tile_s = area * products.output_bytes / (constants.epilogue_bytes_per_clock_per_core * chips.clock_hz)
    exposed_tiles = per_core - (per_core - 1.0) * constants.epilogue_overlap
    sizes = (products.batch, products.m, products.n, products.k)
    return Tiling(
        tiles=tiles,
        per_core=per_core,
        waves=waves,
        steps=steps,
        stages=stages,
        matrix_s=matrix_s,
        core_s=core_s,
        step_bytes=step_bytes,
        tile_bytes=tiles * steps * (step_bytes - shared_side * STEP_BYTES),
        prologue_s=_unless(is_vector, waves * constants.wave_s + products.beside_s, constants.vector_s),
        epilogue_s=_unless(is_vector, exposed_tiles * tile_s, 0.0),
        reduction_s=np.where(split > 1, _second_pass_s(products, split), 0.0),
        fits=_tile_fits(products, tile_m, tile_n)
        & (_split_fits(products, split) & is_offered(sizes, chips, constants, area, split)),
    )


def _second_pass_s(products: Products, split: FloatArray | float) -> FloatArray:
    """Summing the parts of a split reduction."""
    constants = products.constants
    partial_bytes = 8.0 * products.batch * products.m * products.n * split
    shared_bandwidth = products.chips.shared_bandwidth * constants.shared_efficiency
    seconds: FloatArray = (
        constants.split_k_s
        + constants.split_part_s * split
        + constants.reduction_passes * partial_bytes / shared_bandwidth
    )
    return seconds


def _tile_fits(products: Products, tile_m: FloatArray, tile_n: FloatArray) -> BoolArray:
    """Whether two stages of a tile's operands fit a core's own memory, and there are kernels with it."""
    constants, chips = products.constants, products.chips
    area = tile_m * tile_n
    has_room = 2.0 * (tile_m + tile_n) * STEP_BYTES <= chips.core_memory_bytes
    is_smallest = (tile_m <= SIDES[0]) & (tile_n <= SIDES[0])
    has_room_for_sums = products.arrays.exist & (4.0 * area <= _SUMS_PART * chips.beside_core_bytes)
    # Sides of array tiles are powers of two: none beyond the next one above the output's.
    is_needed = ((tile_m <= 128) | (tile_m < 2.0 * products.m)) & ((tile_n <= 128) | (tile_n < 2.0 * products.n))
    vector_runs = (products.m <= 1) & (constants.vector_ingest_bytes_per_clock_per_core > 0)
    fits: BoolArray = (
        ((has_room | is_smallest) & (~constants.has_power_of_two_tiles | ~_is_between_powers(tile_m, tile_n)))
        & ((products.m >= constants.least_rows_of_96_tiles) | ((tile_m != 96) & (tile_n != 96)))
        & ((area <= LARGEST_TILE) | (has_room_for_sums & is_needed))
        & ((tile_m > 1) | vector_runs)
    )
    return fits


def _split_fits(products: Products, split: FloatArray) -> BoolArray:
    """Whether each part of a split has a step, and a split can be of use."""
    steps = np.ceil(products.k / (STEP_BYTES / products.element_bytes))
    fits: BoolArray = (split == 1) | ((split <= steps) & ~are_filled(products, products.chips.cores))
    return fits


def are_filled(products: Products, cores: FloatArray) -> BoolArray:
    """Whether the largest tiles fill the cores 4 times over, so that no split can help, [O, 1] or [O, C]."""
    filled: BoolArray = products.batch * products.m * products.n / LARGEST_TILE >= 4.0 * cores
    return filled


def _co_resident(chips: ChipFigures, area: FloatArray, step_bytes: FloatArray) -> FloatArray:
    """Tiles that share a core."""
    room = np.maximum(1.0, np.floor(chips.core_memory_bytes / (_STAGES_HELD * step_bytes)))
    return np.minimum(np.where(area > 128 * 128, 1.0, np.where(area > 64 * 64, 2.0, 4.0)), room)


def _core_s(
    products: Products,
    waves: FloatArray,
    steps: FloatArray,
    stages: FloatArray,
    step_bytes: FloatArray,
    matrix_s: FloatArray,
    is_vector: BoolArray,
) -> FloatArray:
    """Main loop of the busiest core, operands given: products, latency of steps, or what it takes in."""
    constants, chips = products.constants, products.chips
    step_s = constants.k_step_clocks / chips.clock_hz
    latency_s = waves * (steps * products.step_ratio + constants.pipeline_steps) * step_s
    ingest_s = stages * step_bytes / (constants.ingest_bytes_per_clock_per_core * chips.clock_hz)
    tiled_s = np.maximum(np.maximum(matrix_s, latency_s), ingest_s)
    weights = stages * (step_bytes - STEP_BYTES)
    rate = np.where(
        constants.vector_ingest_bytes_per_clock_per_core > 0, constants.vector_ingest_bytes_per_clock_per_core, 1.0
    )
    return _unless(is_vector, tiled_s, weights / (rate * chips.clock_hz))


def _unless(is_vector: BoolArray, tiled: FloatArray, on_vector: FloatArray | float) -> FloatArray:
    """Figures of tiles, but for kernels on vector units theirs; few products have any."""
    return np.where(is_vector, on_vector, tiled) if is_vector.any() else tiled


def _is_between_powers(tile_m: FloatArray, tile_n: FloatArray) -> BoolArray:
    between: BoolArray = (tile_m == 96) | (tile_m == 192) | (tile_n == 96) | (tile_n == 192)
    return between


def far_bytes(products: Products, tile_m: FloatArray, tile_n: FloatArray, split: FloatArray) -> FloatArray:
    """Re-reads from behind the shared caches if nothing stayed in them: each wave reads the panels of its block again.

    The tiles that run at once cover a block of the output as square as m and n allow.
    """
    area, outputs = tile_m * tile_n, products.m * products.n
    core_area = area * _co_resident(products.chips, area, (tile_m + tile_n) * STEP_BYTES) / split
    block = np.minimum(products.chips.cores * core_area, np.maximum(outputs, 1.0))
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


def played_s(core_s: FloatArray, load_s: FloatArray, stages: FloatArray | float) -> FloatArray:
    """What any plan plays: the longer of core and memory, and one stage of the shorter."""
    played: FloatArray = np.maximum(core_s, load_s) + missed_overlap_s(core_s, load_s, np.array(np.inf), stages)
    return played


def exposed_s(products: Products, core_s: FloatArray, ramped_load_s: FloatArray, played: FloatArray) -> FloatArray:
    """What the main loop takes beyond what any plan plays (`played`).

    Memory needs its latency before it streams and nears its full rate only then (`ramped_load_s`), and part of the
    shorter side is not hidden. All are nothing on a chip without calibration.
    """
    constants = products.constants
    streamed_s = ramped_load_s + constants.stream_latency_s
    longer, shorter = np.maximum(core_s, streamed_s), np.minimum(core_s, streamed_s)
    whole = longer + constants.overlap_loss * shorter * (shorter / np.maximum(longer, _SHORTEST_S))
    beyond: FloatArray = np.maximum(0.0, whole - played)
    return beyond


def main_bytes(products: Products, far: FloatArray) -> FloatArray:
    """Bytes that main memory carries, with the part of re-reads from afar that the last shared cache does not hold."""
    held = np.divide(products.chips.last_cache, np.maximum(working_set(products), 1.0))
    main: FloatArray = products.main_bytes + far * np.clip(1.0 - held, 0.0, 1.0)
    return main


def cost_s(products: Products, candidate: Tiling, behind_bytes: FloatArray) -> FloatArray:
    """Time of a candidate from main and innermost shared memory alone; infinite where it does not fit.

    Args:
        products: the products.
        candidate: a tiling of theirs.
        behind_bytes: what main memory carries behind a shared cache. No tiling does with less than the products' own
            `main_bytes`, so with these the result bounds the time from below.
    """
    taken = np.maximum(products.taken_bytes, candidate.tile_bytes + products.write_bytes)
    main_loop_s = _main_loop_s(products, candidate.core_s, taken, behind_bytes, candidate.stages)
    total = main_loop_s + candidate.prologue_s + candidate.epilogue_s + candidate.reduction_s
    fitting: FloatArray = np.where(candidate.fits, total, np.inf)
    return fitting


def least_split_s(products: Products) -> FloatArray:
    """What any split takes at least, [O, C]: cores that share the work evenly, every operand once, the second pass."""
    core_s = products.batch * products.m * products.n * products.k / (products.macs_per_s * products.chips.cores)
    main_loop_s = _main_loop_s(products, core_s, products.taken_bytes, products.main_bytes, np.inf)
    return main_loop_s + _second_pass_s(products, 2.0)


def _main_loop_s(
    products: Products,
    core_s: FloatArray,
    taken_bytes: FloatArray,
    behind_bytes: FloatArray,
    stages: FloatArray | float,
) -> FloatArray:
    """The main loop, of what the innermost shared memory gives out and what main memory gives behind a cache."""
    constants, chips = products.constants, products.chips
    has_cache = chips.last_cache > 0
    main = behind_bytes if has_cache.all() else np.where(has_cache, behind_bytes, taken_bytes)
    main_s = main / (chips.main_bandwidth * constants.memory_efficiency)
    shared_s = taken_bytes / (chips.shared_bandwidth * constants.shared_efficiency)
    load_s = np.maximum(main_s, shared_s)
    ramped_load_s = np.maximum(ramped_s(constants, main_s), shared_s)
    played = played_s(core_s, load_s, stages)
    return played + exposed_s(products, core_s, ramped_load_s, played)
