"""Operations of which only the tensors are known: their bytes stream once; the result names them as incomplete."""

import numpy as np

from profiler.op import Kind
from simulator.chip_columns import ChipColumns
from simulator.op_columns import OpColumns
from simulator.stages import PlanColumns, level_traffic, streaming_plan

KINDS: tuple[Kind, ...] = ("unknown",)

_TILE_BYTES = 4096.0


def plan(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Plan the known bytes as a stream; compute is unknown and left out, so the time is a lower estimate."""
    moved = ops.moved_bytes
    zero = np.zeros_like(moved)
    return streaming_plan(
        ops,
        chips,
        tile=_TILE_BYTES,
        tiles=np.ceil(moved / _TILE_BYTES),
        traffic_bytes=level_traffic(chips, compulsory=moved, repeated=zero, far_repeated=zero, working_set=zero),
        ingested_bytes=moved,
        vector_flops=ops.vector_flops,
        special_flops=ops.special_flops,
    )
