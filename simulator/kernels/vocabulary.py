"""Top-k over rows as long as a vocabulary. (Softmax over such rows is in `rows`: two reads; sorting them in `sort`.)"""

import numpy as np

from profiler.op import Kind
from simulator.chip_columns import ChipColumns
from simulator.op_columns import OpColumns
from simulator.stages import PlanColumns, level_traffic, streaming_plan

KINDS: tuple[Kind, ...] = ("topk",)

_INDEX_BYTES = 8.0  # indices travel with their keys
_PART_COLUMNS = 4096.0


def plan(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Plan top-k: one pass picks k of each part of a row; a second kernel merges the picked."""
    rows, columns = ops.size("rows"), ops.size("columns")
    pair_bytes = ops.input_element_bytes + _INDEX_BYTES
    parts = np.ceil(columns / _PART_COLUMNS)
    picked = np.where(parts > 1, rows * parts * np.minimum(ops.size("k"), _PART_COLUMNS), 0.0)
    again = 2.0 * pair_bytes * picked
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
        reduction_s=np.where(parts > 1, 1.0, 0.0) * chips.launch_s,
    )
