"""Collectives between devices: rings over the chip's first link in one of two protocols, or a reducing tree."""

import numpy as np

from profiler.op import Kind
from simulator.chip_columns import ChipColumns
from simulator.kernels.constants import Constant
from simulator.op_columns import FloatArray, OpColumns
from simulator.stages import PlanColumns, level_traffic, streaming_plan

KINDS: tuple[Kind, ...] = ("collective",)

CONSTANTS: tuple[Constant, ...] = (
    Constant(name="base_s", low=1e-8, high=2e-5, start=3e-6, unit="s", meaning="fixed cost beyond a kernel's launch"),
    Constant(
        name="flagged_hop_s", low=1e-8, high=2e-5, start=1.5e-6, unit="s", meaning="hop of the protocol with flags"
    ),
    Constant(
        name="flagged_efficiency", low=0.05, high=0.9, start=0.35, unit="", meaning="its part of the link's bandwidth"
    ),
    Constant(name="bulk_hop_s", low=1e-7, high=1e-4, start=6e-6, unit="s", meaning="hop of the bulk protocol"),
    Constant(name="bulk_efficiency", low=0.3, high=1.0, start=0.7, unit="", meaning="its part of the bandwidth"),
    Constant(name="switch_s", low=1e-6, high=2e-4, start=2e-5, unit="s", meaning="latency of a tree, or of the switch"),
    Constant(name="switch_efficiency", low=0.3, high=1.0, start=0.5, unit="", meaning="its part of the bandwidth"),
)
_TILE_BYTES = 4096.0
_ALL_REDUCE_PASSES = 2.0


def plan(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Plan collectives: the fastest of the ring's protocols and, for an all-reduce, of a tree or the switch.

    With r ranks a pass of a ring has r - 1 steps, which move (r - 1) / r of the payload (Patarasuk and Yuan 2009);
    an all-reduce is two passes. A protocol whose data carry flags waits least and carries least; the bulk protocol
    synchronizes and carries most (Demystifying NCCL, arXiv 2507.04786: LL128 and Simple). A tree, or a switch that
    reduces, moves the payload once up and once down at the same time. In an all-to-all every rank sends (r - 1) / r of
    its payload straight to the others in one hop, with constants of its own (`collective.alltoall`). A chip without a
    link plays only the local memory traffic; without calibration it has one protocol, with the link's latency and
    bandwidth.
    """
    moved = ops.moved_bytes
    payload = np.maximum(ops.read_bytes, ops.write_bytes)
    ranks = np.maximum(ops.size("ranks"), 1.0)
    steps = ops.collective_passes * (ranks - 1.0)
    has_link = (chips.link_bandwidth > 0) & (payload > 0) & (steps > 0)
    hops = np.where(ops.size("direct") > 0, np.minimum(steps, 1.0), steps)
    latency_s, link_s = _fastest(ops, chips, hops, payload, payload * steps / ranks)
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
        reduction_s=np.where(has_link, latency_s + _constant(ops, chips, "base_s", default=0.0), 0.0),
        link_s=np.where(has_link, link_s, 0.0),
    )


def _constant(ops: OpColumns, chips: ChipColumns, name: str, *, default: float | FloatArray) -> FloatArray:
    """A constant of every op on every chip, [O, C]: an all-to-all has a scope of its own."""
    ring = chips.constant(name, "collective", default=default)
    direct = chips.constant(name, "collective.alltoall", "collective", default=default)
    values: FloatArray = np.where(ops.size("direct") > 0, direct, ring)
    return values


def _fastest(
    ops: OpColumns, chips: ChipColumns, steps: FloatArray, payload: FloatArray, ring_bytes: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """(latency, time on the link) of the protocol with the least sum, [O, C]."""
    bandwidth = np.where(chips.link_bandwidth > 0, chips.link_bandwidth, np.inf)
    choices = []
    for name in ("flagged", "bulk"):
        hop_s = _constant(ops, chips, f"{name}_hop_s", default=chips.link_latency_s)
        rate = bandwidth * np.minimum(1.0, _constant(ops, chips, f"{name}_efficiency", default=1.0))
        choices.append((steps * hop_s, ring_bytes / rate))
    switch_s = chips.constant("switch_s", "collective", default=np.inf)
    rate = bandwidth * np.minimum(1.0, chips.constant("switch_efficiency", "collective", default=1.0))
    reduces = (ops.collective_passes == _ALL_REDUCE_PASSES) & (ops.size("ranks") > 1)
    choices.append((np.where(reduces, switch_s, np.inf) + 0.0 * steps, payload / rate))
    latency = np.stack([np.broadcast_to(each[0], (len(ops), len(chips))) for each in choices])
    link = np.stack([np.broadcast_to(each[1], (len(ops), len(chips))) for each in choices])
    best = (latency + link).argmin(axis=0)[None]
    return np.take_along_axis(latency, best, axis=0)[0], np.take_along_axis(link, best, axis=0)[0]
