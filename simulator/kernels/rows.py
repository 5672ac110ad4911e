"""Reductions, norms, softmax and cumulative sums: rows over cores, and a second read of those that no core holds."""

import numpy as np

from profiler.op import Kind
from simulator.chip_columns import ChipColumns
from simulator.op_columns import OpColumns, kind_code
from simulator.stages import PlanColumns, level_traffic, streaming_plan

KINDS: tuple[Kind, ...] = ("reduction", "norm", "softmax")

_PART_COLUMNS = 4096.0  # what one tile reduces of a long row


def plan(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Plan row kernels.

    Norm and softmax keep a row on one core and need its statistics before they write: a row that does not fit the
    core's own memory is read twice. Reductions and scans cut long rows into parts over several cores and join the parts
    (one more access to shared memory; single-pass scan with decoupled look-back, Merrill and Garland 2016).
    """
    rows, columns, moved = ops.size("rows"), ops.size("columns"), ops.moved_bytes
    keeps_row = np.isin(ops.kind, (kind_code("norm"), kind_code("softmax")))
    row_bytes = columns * ops.input_element_bytes
    reads_twice = keeps_row & (row_bytes > chips.core_memory_bytes)
    again = np.where(reads_twice, rows * row_bytes, 0.0)
    parts = np.where(keeps_row, 1.0, np.ceil(columns / _PART_COLUMNS))
    # Rows that run at the same time lie between the two reads of a byte.
    working_set = np.minimum(rows, chips.cores) * row_bytes
    return streaming_plan(
        ops,
        chips,
        tile=np.where(keeps_row, columns, np.minimum(columns, _PART_COLUMNS)),
        tiles=rows * parts,
        traffic_bytes=level_traffic(
            chips, compulsory=moved, repeated=again, far_repeated=again, working_set=working_set
        ),
        ingested_bytes=moved + again,
        vector_flops=ops.vector_flops,
        special_flops=ops.special_flops,
        reduction_s=np.where((parts > 1) | reads_twice, chips.wave_s, 0.0),
    )
