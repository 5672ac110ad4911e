"""Reductions, norms, softmax and cumulative sums: rows over cores, and a second read of those that no core holds.

A row that is kept gives its core a block of threads: blocks follow one another at a steady rate, and the parts of a row
one after another, twice, since its statistics must be known before the first number is written.
"""

from dataclasses import replace

import numpy as np

from profiler.op import Kind
from simulator.chip_columns import ChipColumns
from simulator.kernels.constants import Constant
from simulator.kernels.stream_setup import STREAM_CONSTANTS, with_setup
from simulator.op_columns import BoolArray, FloatArray, OpColumns, kind_code
from simulator.stages import PlanColumns, level_traffic, streaming_plan

KINDS: tuple[Kind, ...] = ("reduction", "norm", "softmax")

CONSTANTS: tuple[Constant, ...] = (
    *STREAM_CONSTANTS,
    Constant(name="row_clocks", low=10, high=2000, start=150, unit="clocks", meaning="a core's time per row"),
    Constant(name="part_s", low=1e-9, high=2e-6, start=2e-7, unit="s", meaning="latency of 4,096 columns, per pass"),
    Constant(
        name="row_memory_ratio", low=0.01, high=1.0, start=0.3, unit="", meaning="a core's memory that holds rows"
    ),
)
_SCOPE = "rows"
_PART_COLUMNS = 4096.0  # what one tile reduces of a long row; 256 threads of 16 columns
_CO_RESIDENT = 8  # rows that a core works on at once: blocks of 256 threads
# Softmax of rows up to here takes a warp a row, or a part of one: blocks of 4 warps, each with two rows where these are
# short (PyTorch, softmax_warp_forward in PersistentSoftmax.cuh).
_WARP_COLUMNS = 1024.0
_WARPS = 4.0
_LANES = 32.0
_PAIRED_COLUMNS = 128.0
_ALIGNED_BYTES = 16.0  # longer rows that are no multiple go element by element (cunn_SoftMaxForward in SoftMax.cu)
_NORM_COLUMNS = 512.0  # from here on, each of a norm's 128 threads has numbers of its row, four at a time
_RMS_FLOPS = 4.0  # of an element in a root-mean-square norm (`profiler.costs.reductions`); a layer norm has 7
# Threads that a core holds at once are those of so many blocks of PyTorch: 128 threads in a norm of rows
# (layer_norm_kernel.cu), 1,024 in a softmax of long rows (SoftMax.cu).
_NORM_CO_RESIDENT = 16
_SOFTMAX_CO_RESIDENT = 2


def plan(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Plan row kernels.

    Norm and softmax keep a row on one core and need its statistics before they write: what a core's own memory does
    not hold of the rows that it works on is read twice. Reductions and scans cut long rows into parts over several
    cores and join the parts (one more access to shared memory; single-pass scan with decoupled look-back, Merrill and
    Garland 2016).
    """
    rows, columns, moved = ops.size("rows"), ops.size("columns"), ops.moved_bytes
    keeps_row = np.isin(ops.kind, (kind_code("norm"), kind_code("softmax")))
    again = np.where(keeps_row, rows * columns * ops.input_element_bytes, 0.0) * _reads_again(ops, chips)
    parts = np.where(keeps_row, 1.0, np.ceil(columns / _PART_COLUMNS))
    together = np.where(keeps_row, 1.0, np.maximum(1.0, np.floor(_PART_COLUMNS / np.maximum(columns, 1.0))))
    is_short = (ops.kind == kind_code("softmax")) & (columns <= _WARP_COLUMNS)
    together = np.where(is_short, _rows_of_warps(columns), together)  # rows in a tile
    # Rows that run at the same time lie between the two reads of a byte.
    at_once = np.minimum(rows, _blocks_at_once(ops, chips) * chips.cores)
    at_once = at_once / chips.constant("held_ratio", _SCOPE, default=1.0)
    streamed = streaming_plan(
        ops,
        chips,
        tile=together * np.where(keeps_row, columns, np.minimum(columns, _PART_COLUMNS)),
        tiles=np.ceil(rows / together) * parts,
        traffic_bytes=level_traffic(
            chips,
            compulsory=moved,
            repeated=again,
            far_repeated=again,
            working_set=at_once * moved / np.maximum(rows, 1.0),
        ),
        ingested_bytes=moved + again,
        vector_flops=ops.vector_flops,
        special_flops=ops.special_flops,
        reduction_s=np.where((parts > 1) | (again > 0), chips.wave_s, 0.0),
        co_resident=_blocks_at_once(ops, chips),
    )
    planned = _with_softmax_rates(with_setup(streamed, ops, chips, _SCOPE), ops, chips)
    overlap_p = chips.constant("smooth_max_p", _SCOPE, default=np.nan)  # the chip's own where not given
    planned = replace(planned, smooth_max_p=np.zeros_like(planned.core_s) + overlap_p)
    return _with_rows(planned, ops, keeps_row, chips)


def _with_softmax_rates(planned: PlanColumns, ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """The plan with what a softmax of long rows reaches of main memory; what is read again costs the cache little."""
    known = chips.constant("softmax_efficiency", _SCOPE, default=np.nan)
    is_known = _is_long_softmax(ops) & ~np.isnan(known)
    efficiency = np.where(is_known, 1.0, planned.level_efficiency)
    efficiency[0] = np.where(is_known, known, planned.level_efficiency[0])
    return replace(planned, level_efficiency=efficiency)


def _rows_of_warps(columns: FloatArray) -> FloatArray:
    """Short rows of a softmax that a block of threads takes, [O, 1]."""
    width = 2.0 ** np.ceil(np.log2(np.maximum(columns, 1.0)))
    pairs = np.where(width <= _PAIRED_COLUMNS, 2.0, 1.0)
    rows: FloatArray = _WARPS * _LANES / np.minimum(width, _LANES) * pairs
    return rows


def _reads_again(ops: OpColumns, chips: ChipColumns) -> FloatArray:
    """How often a kept row is read again: what its core no longer holds of it, once, [O, C].

    PyTorch's softmax of rows beyond 1,024 columns keeps a whole row in shared memory where `kept_row_bytes` hold it;
    longer ones, and those that lie at odd places, are read for their largest number, their sum and the result.
    """
    row_bytes = ops.size("columns") * ops.input_element_bytes
    held = chips.constant("row_memory_ratio", _SCOPE, default=1.0) * chips.core_memory_bytes
    blocks = np.minimum(_blocks_at_once(ops, chips), np.ceil(ops.size("rows") / chips.cores))
    part = np.clip(1.0 - held / np.maximum(blocks * row_bytes, 1.0), 0.0, 1.0)
    kept_bytes = chips.constant("kept_row_bytes", _SCOPE, default=np.nan)
    passes = np.where((row_bytes > kept_bytes) | _is_odd(ops), 2.0, 0.0)
    reads: FloatArray = np.where(_is_long_softmax(ops) & ~np.isnan(kept_bytes), passes, part)
    return reads


def _blocks_at_once(ops: OpColumns, chips: ChipColumns) -> FloatArray:
    """Rows that a core works on at once, [O, C]: 8, but for the kernels of eager programs."""
    has_norm = ~np.isnan(chips.constant("norm_row_clocks", _SCOPE, default=np.nan))
    has_softmax = ~np.isnan(chips.constant("kept_row_bytes", _SCOPE, default=np.nan))
    is_norm = (ops.kind == kind_code("norm")) & has_norm
    return np.select(
        [is_norm, _is_long_softmax(ops) & has_softmax], [_NORM_CO_RESIDENT, _SOFTMAX_CO_RESIDENT], float(_CO_RESIDENT)
    )


def _is_long_softmax(ops: OpColumns) -> BoolArray:
    """Whether an op is a softmax of rows that take a block of threads each, [O, 1]."""
    is_long: BoolArray = (ops.kind == kind_code("softmax")) & (ops.size("columns") > _WARP_COLUMNS)
    return is_long


def _is_odd(ops: OpColumns) -> BoolArray:
    """Whether rows do not begin at multiples of what a thread reads at once, [O, 1]."""
    is_odd: BoolArray = ops.size("columns") * ops.input_element_bytes % _ALIGNED_BYTES > 0
    return is_odd


def _with_rows(planned: PlanColumns, ops: OpColumns, keeps_row: BoolArray, chips: ChipColumns) -> PlanColumns:
    """The plan with what blocks of threads cost: a steady time each on their core, the parts of one row in turn."""
    columns = ops.size("columns")
    row_s = _block_clocks(ops, chips) / chips.clock_hz
    part_s = chips.constant("part_s", _SCOPE, default=0.0)
    is_in_registers = (ops.kind == kind_code("softmax")) & (columns <= _WARP_COLUMNS)
    steps = np.where(keeps_row & ~is_in_registers, 2.0 * np.ceil(columns / _PART_COLUMNS), 1.0)
    in_turn_s = np.maximum(np.ceil(planned.tiles / chips.cores) * row_s, planned.waves * steps * part_s)
    in_turn_s = np.maximum(
        in_turn_s, np.ceil(ops.size("rows") / chips.cores) * _warp_clocks(ops, chips) / chips.clock_hz
    )
    return replace(planned, core_s=np.maximum(planned.core_s, in_turn_s), stages=planned.stages * steps)


def _warp_clocks(ops: OpColumns, chips: ChipColumns) -> FloatArray:
    """A core's time for a row of a reduction in eager programs, [O, C], which a warp takes where it lies along memory.

    PyTorch gives such a row the threads of a warp at least, blocks of 32 x 16 threads sixteen rows (`Reduce.cuh`).
    """
    taken = (ops.kind == kind_code("reduction")) & (ops.size("apart") == 0) & (ops.size("columns") >= _LANES)
    clocks: FloatArray = np.where(taken, chips.constant("reduced_row_clocks", _SCOPE, default=0.0), 0.0)
    return clocks


def _block_clocks(ops: OpColumns, chips: ChipColumns) -> FloatArray:
    """A core's time for a block of threads, [O, C]: `row_clocks`, but for the kernels of eager programs."""
    columns = ops.size("columns")
    usual = chips.constant("row_clocks", _SCOPE, default=0.0)
    norm = chips.constant("norm_row_clocks", _SCOPE, default=usual)
    short = chips.constant("warp_block_clocks", _SCOPE, default=usual)
    odd = chips.constant("odd_row_clocks", _SCOPE, default=usual)
    odd = odd + columns * chips.constant("odd_column_clocks", _SCOPE, default=0.0)
    is_short = (ops.kind == kind_code("softmax")) & (columns <= _WARP_COLUMNS)
    is_odd = _is_long_softmax(ops) & _is_odd(ops)
    is_norm = ops.kind == kind_code("norm")
    short_norm = chips.constant("short_norm_row_clocks", _SCOPE, default=usual)
    is_short_norm = is_norm & (columns < _NORM_COLUMNS)
    rms = chips.constant("rms_row_clocks", _SCOPE, default=norm)
    is_rms = is_norm & (ops.vector_flops == _RMS_FLOPS * ops.size("rows") * columns)
    clocks: FloatArray = np.select(
        [is_short_norm, is_rms, is_norm, is_short, is_odd], [short_norm, rms, norm, short, odd], usual
    )
    return clocks
