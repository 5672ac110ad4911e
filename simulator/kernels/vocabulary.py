"""Top-k over rows as long as a vocabulary. (Softmax over such rows is in `rows`: two reads; sorting them in `sort`.)"""

from dataclasses import replace

import numpy as np

from profiler.op import Kind
from simulator.chip_columns import ChipColumns
from simulator.kernels.constants import Constant
from simulator.kernels.stream_setup import STREAM_CONSTANTS, with_setup
from simulator.op_columns import OpColumns
from simulator.stages import PlanColumns, level_traffic, streaming_plan

KINDS: tuple[Kind, ...] = ("topk",)

CONSTANTS: tuple[Constant, ...] = (
    *STREAM_CONSTANTS,
    Constant(name="row_clocks", low=100, high=20000, start=3000, unit="clocks", meaning="a core's time per row"),
    Constant(name="column_clocks", low=0.01, high=5.0, start=0.4, unit="clocks", meaning="and per column of it"),
)
_SCOPE = "topk"
_CO_RESIDENT = 2  # rows that a core selects from at once: blocks of 1,024 threads


def plan(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Plan top-k as a radix select.

    A block of threads a row counts its digits, and reads it again to pick what lies above the cut. The second read
    finds what the last cache still holds of the rows in work.
    """
    rows, columns = ops.size("rows"), ops.size("columns")
    again = rows * columns * ops.input_element_bytes
    at_once = np.minimum(rows, _CO_RESIDENT * chips.cores) / chips.constant("held_ratio", _SCOPE, default=1.0)
    streamed = streaming_plan(
        ops,
        chips,
        tile=columns,
        tiles=rows,
        traffic_bytes=level_traffic(
            chips,
            compulsory=ops.moved_bytes,
            repeated=again,
            far_repeated=again,
            working_set=at_once * columns * ops.input_element_bytes,
        ),
        ingested_bytes=ops.moved_bytes + again,
        vector_flops=ops.vector_flops,
        special_flops=ops.special_flops,
        co_resident=_CO_RESIDENT,
    )
    planned = with_setup(streamed, ops, chips, _SCOPE)
    row_clocks = chips.constant("row_clocks", _SCOPE, default=0.0)
    row_clocks = row_clocks + columns * chips.constant("column_clocks", _SCOPE, default=0.0)
    select_s = np.ceil(planned.tiles / chips.cores) * row_clocks / chips.clock_hz
    return replace(planned, core_s=np.maximum(planned.core_s, select_s), stages=planned.stages * 2.0)
