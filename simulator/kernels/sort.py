"""Sort of rows with their indices: on a core where a row fits, else radix passes over main memory.

The passes are those of PyTorch (aten/src/ATen/native/cuda/SortStable.cu) on CUB. Fewer than 128 rows are sorted as one
list of keys that carry row and index (passes of 8 bits; Adinets and Merrill, *Onesweep*, arXiv:2206.01784), then by
row, and the values are fetched last. From 128 rows on, each row has a block of threads of its own and goes through
passes of 6 bits, each of which reads the keys once to count them and once more with their indices to move both.
"""

from dataclasses import replace

import numpy as np

from profiler.op import Kind
from simulator.chip_columns import ChipColumns
from simulator.op_columns import BoolArray, FloatArray, OpColumns
from simulator.stages import PlanColumns, level_traffic, streaming_plan

KINDS: tuple[Kind, ...] = ("sort",)

_INDEX_BYTES = 8.0  # indices travel with their keys; so do pairs of row and index
_SEGMENTED_ROWS = 128  # from here on rows are sorted apart
_FLAT_DIGIT_BITS = 8.0
_SEGMENTED_DIGIT_BITS = 6.0
_TILE_ELEMENTS = 4096.0  # keys that a block of threads ranks at once
# Constants from PyTorch's times of top-k and top-p filters over vocabularies of 131,072 and 32,768 (48 to 1,024 rows)
# in vLLM's pull requests 32558, 33538 and 40376, the filters' other kernels and 0.1 ms of the host counted apart. The
# GPUs are not named there; the times stand to each other as the bandwidths of H100 and H200 do. Keys scatter to 256 or
# 64 places at once, and ranking them takes its time; Onesweep on 32-bit keys alone reaches 0.68 of an A100.
_FLAT_EFFICIENCY = 0.28  # part of the peak bandwidth
_SEGMENTED_EFFICIENCY = 0.53
_BLOCK_BYTES_PER_CLOCK = 7.0  # what one block of threads, alone with its row, reads and writes
_CO_RESIDENT = 8  # rows that a core sorts at once


def plan(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Plan sorts: a row that fits a core is sorted there in one kernel, all others by radix passes."""
    rows, columns = ops.size("rows"), ops.size("columns")
    elements = rows * columns
    pair_bytes = ops.input_element_bytes + _INDEX_BYTES
    fits = columns * pair_bytes <= chips.core_memory_bytes
    segmented = rows >= _SEGMENTED_ROWS
    by_row = fits | segmented
    total_bytes = np.where(fits, ops.moved_bytes, np.maximum(ops.moved_bytes, elements * _bytes_per_element(ops)))
    again = total_bytes - ops.moved_bytes
    planned = streaming_plan(
        ops,
        chips,
        tile=np.where(by_row, columns, _TILE_ELEMENTS),
        tiles=np.where(by_row, rows, np.ceil(elements / _TILE_ELEMENTS)),
        traffic_bytes=level_traffic(
            chips,
            compulsory=ops.moved_bytes,
            repeated=again,
            far_repeated=again,
            working_set=2.0 * elements * pair_bytes,  # a pass reads one copy and writes another
        ),
        ingested_bytes=total_bytes,
        vector_flops=ops.vector_flops,
        special_flops=ops.special_flops,
        reduction_s=np.where(fits, 0.0, _kernels(ops) - 1.0) * chips.launch_s,
        co_resident=_CO_RESIDENT,
    )
    return _with_passes(planned, ops, chips, fits)


def _with_passes(planned: PlanColumns, ops: OpColumns, chips: ChipColumns, fits: BoolArray) -> PlanColumns:
    """The plan with what radix passes reach of the bandwidth, all together and in one block of threads."""
    columns = ops.size("columns")
    segmented = ops.size("rows") >= _SEGMENTED_ROWS
    row_s = columns * _bytes_per_element(ops) / (_BLOCK_BYTES_PER_CLOCK * chips.clock_hz)
    in_blocks_s = np.where(segmented & ~fits, planned.waves * row_s, 0.0)
    efficiency = np.where(fits, np.nan, np.where(segmented, _SEGMENTED_EFFICIENCY, _FLAT_EFFICIENCY))
    return replace(
        planned,
        core_s=np.maximum(planned.core_s, in_blocks_s),
        stages=np.maximum(planned.stages, np.ceil(columns / _TILE_ELEMENTS)),  # a block goes along its row
        smooth_max_p=np.where(fits, np.nan, np.inf),
        level_efficiency=efficiency + np.zeros_like(planned.traffic_bytes),
    )


def _digits(ops: OpColumns) -> FloatArray:
    """Passes over the keys, [O, 1]."""
    bits = np.where(ops.size("rows") < _SEGMENTED_ROWS, _FLAT_DIGIT_BITS, _SEGMENTED_DIGIT_BITS)
    passes: FloatArray = np.ceil(8.0 * ops.input_element_bytes / bits)
    return passes


def _row_digits(ops: OpColumns) -> FloatArray:
    """Passes over the numbers of the rows, where several rows are one list, [O, 1]."""
    rows = ops.size("rows")
    passes = np.ceil(np.log2(np.maximum(rows, 2.0)) / _FLAT_DIGIT_BITS)
    several: FloatArray = np.where((rows > 1) & (rows < _SEGMENTED_ROWS), passes, 0.0)
    return several


def _bytes_per_element(ops: OpColumns) -> FloatArray:
    """Bytes read and written for each key, [O, 1].

    Indices are written first. A flat sort counts all digits in one read; a segmented one counts in each pass. After the
    passes by row, 8 bytes a key of row and index, the keys are fetched and written beside their indices.
    """
    key, pair = ops.input_element_bytes, ops.input_element_bytes + _INDEX_BYTES
    segmented = ops.size("rows") >= _SEGMENTED_ROWS
    counting = np.where(segmented, _digits(ops), 1.0) * key
    by_row = _row_digits(ops)
    gathered = np.where(by_row > 0, _INDEX_BYTES + _INDEX_BYTES + key + pair, 0.0)  # counted, read, fetched, written
    total: FloatArray = _INDEX_BYTES + counting + 2.0 * pair * _digits(ops) + 2.0 * _INDEX_BYTES * by_row + gathered
    return total


def _kernels(ops: OpColumns) -> FloatArray:
    """Kernels one after another, [O, 1]: indices; then counting and one a flat pass, or three a segmented pass."""
    segmented = ops.size("rows") >= _SEGMENTED_ROWS
    by_row = _row_digits(ops)
    joined = np.where(by_row > 0, by_row + 3.0, 0.0)  # count, scan and the fetch of the keys
    kernels: FloatArray = 1.0 + np.where(segmented, 3.0 * _digits(ops), 2.0 + _digits(ops) + joined)
    return kernels
