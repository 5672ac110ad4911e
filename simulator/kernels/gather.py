"""Gathers and scatters: rows by index, moved in whole memory sectors, after the index itself has arrived.

No table holds them: they take the constants of elementwise kernels.
"""

from dataclasses import replace

import numpy as np

from profiler.op import Kind
from simulator.chip_columns import ChipColumns
from simulator.kernels.stream_setup import with_setup
from simulator.op_columns import OpColumns
from simulator.stages import PlanColumns, level_traffic, streaming_plan

KINDS: tuple[Kind, ...] = ("gather", "scatter")

_SCOPE = "elementwise"
_SECTOR_BYTES = 32.0  # least that crosses the memory interface (sector of NVIDIA GPUs since Kepler)
_TILE_BYTES = 4096.0


def plan(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Plan gathers and scatters; collisions of scattered additions are left out."""
    rows, row_bytes = ops.size("rows"), ops.size("row_bytes")
    padding = rows * (np.ceil(row_bytes / _SECTOR_BYTES) * _SECTOR_BYTES - row_bytes)
    moved = ops.moved_bytes + padding
    zero = np.zeros_like(moved)
    streamed = streaming_plan(
        ops,
        chips,
        tile=np.maximum(1.0, np.floor(_TILE_BYTES / np.maximum(row_bytes, 1.0))),
        tiles=np.ceil(moved / _TILE_BYTES),
        traffic_bytes=level_traffic(chips, compulsory=moved, repeated=zero, far_repeated=zero, working_set=zero),
        ingested_bytes=moved,
        vector_flops=ops.vector_flops,
        special_flops=ops.special_flops,
    )
    planned = with_setup(streamed, ops, chips, _SCOPE)
    # The row's address depends on the index: a second access follows the first.
    return replace(planned, reduction_s=chips.level_latency_s[0] + np.zeros_like(planned.core_s))
