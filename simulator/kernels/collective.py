"""Collectives between devices: a ring over the chip's first link, latency per step and bandwidth (alpha-beta model)."""

import numpy as np

from profiler.op import Kind
from simulator.chip_columns import ChipColumns
from simulator.op_columns import OpColumns
from simulator.stages import PlanColumns, level_traffic, streaming_plan

KINDS: tuple[Kind, ...] = ("collective",)

_TILE_BYTES = 4096.0


def plan(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Plan ring collectives (Patarasuk and Yuan 2009).

    With r ranks a pass has r - 1 steps, which move (r - 1) / r of the payload; an all-reduce is two passes. A chip
    without a link plays only the local memory traffic.
    """
    moved = ops.moved_bytes
    payload = np.maximum(ops.read_bytes, ops.write_bytes)
    ranks = np.maximum(ops.size("ranks"), 1.0)
    steps = ops.collective_passes * (ranks - 1.0)
    has_link = chips.link_bandwidth > 0
    wire_bytes = np.where(has_link, steps * payload / ranks, 0.0)
    link_s = np.divide(
        wire_bytes, chips.link_bandwidth, out=np.zeros_like(wire_bytes), where=has_link & (wire_bytes > 0)
    )
    latency_s = np.where(has_link & (payload > 0), steps * chips.link_latency_s, 0.0)
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
        reduction_s=latency_s,
        link_s=link_s,
    )
