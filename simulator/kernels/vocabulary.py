"""Sort and top-k over rows as long as a vocabulary. (Softmax over such rows is in `rows`: two reads.)"""

import numpy as np

from profiler.op import Kind
from simulator.chip_columns import ChipColumns
from simulator.op_columns import OpColumns, kind_code
from simulator.stages import PlanColumns, level_traffic, streaming_plan

KINDS: tuple[Kind, ...] = ("sort", "topk")

_INDEX_BYTES = 8.0  # indices travel with their keys
_PART_COLUMNS = 4096.0


def plan(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Plan sort and top-k.

    Sort: chunks that fit a core's own memory are sorted there; each doubling up to the whole row is a merge, one more
    read and write of keys and indices in a kernel of its own. Top-k: one pass picks k of each part of a row; a second
    kernel merges the picked.
    """
    rows, columns = ops.size("rows"), ops.size("columns")
    pair_bytes = ops.input_element_bytes + _INDEX_BYTES
    is_sort = ops.kind == kind_code("sort")
    chunks = np.maximum(1.0, columns * pair_bytes / chips.core_memory_bytes)
    merges = np.where(is_sort, np.ceil(np.log2(chunks)), 0.0)
    parts = np.where(is_sort, np.ceil(chunks), np.ceil(columns / _PART_COLUMNS))
    picked = np.where(parts > 1, rows * parts * np.minimum(ops.size("k"), _PART_COLUMNS), 0.0)
    again = 2.0 * pair_bytes * np.where(is_sort, merges * rows * columns, picked)
    kernels = np.where(is_sort, merges, np.where(parts > 1, 1.0, 0.0))
    return streaming_plan(
        ops,
        chips,
        tile=np.ceil(columns / np.maximum(parts, 1.0)),
        tiles=rows * parts,
        traffic_bytes=level_traffic(
            chips,
            compulsory=ops.moved_bytes,
            repeated=again,
            far_repeated=again,
            working_set=rows * columns * pair_bytes,
        ),
        ingested_bytes=ops.moved_bytes + again,
        vector_flops=ops.vector_flops,
        special_flops=ops.special_flops,
        reduction_s=kernels * chips.launch_s,
    )
