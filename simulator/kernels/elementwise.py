"""Pointwise operations, copies, fills and random numbers: every element once, bound by memory unless there are few."""

from dataclasses import replace

import numpy as np

from profiler.op import Kind
from simulator.chip_columns import ChipColumns
from simulator.kernels.stream_setup import STREAM_CONSTANTS, with_setup
from simulator.op_columns import OpColumns, kind_code
from simulator.stages import PlanColumns, level_traffic, streaming_plan

KINDS: tuple[Kind, ...] = ("pointwise", "copy", "random")

CONSTANTS = STREAM_CONSTANTS
_SCOPE = "elementwise"
_TILE_ELEMENTS = 1024  # 256 threads of 4 elements (PyTorch's vectorized elementwise kernel)
# Philox4x32-10 (Salmon et al., SC 2011): 10 rounds of two wide products and four xors and adds, 8 operations, for
# 4 numbers; integer work on the vector lanes. The transform to a distribution is counted in the op's own FLOPs.
_RANDOM_OPERATIONS_PER_ELEMENT = 20.0


def plan(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Plan elementwise kernels as one stream through every memory level."""
    moved = ops.moved_bytes
    elements = np.maximum(ops.size("elements"), moved / 16.0)
    zero = np.zeros_like(moved)
    generated = np.where(ops.kind == kind_code("random"), _RANDOM_OPERATIONS_PER_ELEMENT * ops.size("elements"), 0.0)
    streamed = streaming_plan(
        ops,
        chips,
        tile=_TILE_ELEMENTS,
        tiles=np.ceil(elements / _TILE_ELEMENTS),
        traffic_bytes=level_traffic(chips, compulsory=moved, repeated=zero, far_repeated=zero, working_set=zero),
        ingested_bytes=moved,
        vector_flops=ops.vector_flops + generated,
        special_flops=ops.special_flops,
    )
    planned = with_setup(streamed, ops, chips, _SCOPE)
    # Kernels of eager programs that find each element's place on their own; compiled ones go along memory.
    per_second = chips.constant("accesses_per_clock_per_core", _SCOPE, default=np.inf) * chips.clock_hz
    share = np.ceil(planned.tiles / chips.cores) / planned.tiles
    one_by_one_s = share * ops.size("single_accesses") / per_second
    # Elements that lie apart take a sector each of the last shared cache, beside what goes along memory.
    sectors_per_s = chips.constant("sector_efficiency", _SCOPE, default=np.inf) * chips.shared_bandwidth
    scattered = ops.size("scattered_bytes")
    apart_s = np.where(scattered > 0, scattered + moved, 0.0) / sectors_per_s
    return replace(planned, core_s=np.maximum(planned.core_s, np.maximum(one_by_one_s, apart_s)))
