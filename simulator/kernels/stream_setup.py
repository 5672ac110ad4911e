"""What kernels without a matrix product have in common: their fixed cost, and the memory that their operands come from.

The tables that their constants are fitted to replay a kernel on the same tensors, in a CUDA graph: small operands are
met in the last shared cache. An op that says nothing of that (`weight_copies`) starts with main memory, and waits for
its first access that much longer.
"""

from dataclasses import replace

import numpy as np

from simulator.chip_columns import ChipColumns
from simulator.kernels.constants import Constant
from simulator.kernels.state_cache import CACHE_CONSTANTS, held, level_efficiency
from simulator.op_columns import FloatArray, OpColumns
from simulator.stages import PlanColumns

STREAM_CONSTANTS: tuple[Constant, ...] = (
    Constant(name="setup_s", low=3e-7, high=2e-5, start=1.5e-6, unit="s", meaning="fixed cost, first access included"),
    Constant(name="memory_efficiency", low=0.2, high=1.0, start=0.85, unit="", meaning="part of the bandwidth"),
    *CACHE_CONSTANTS,
)


def with_setup(planned: PlanColumns, ops: OpColumns, chips: ChipColumns, scope: str) -> PlanColumns:
    """The plan with the fixed cost and the achievable bandwidths of its scope.

    Chips without constants of the scope keep their launch and the latencies of the chip file.

    Args:
        planned: a streaming plan whose operands all come from main memory.
        ops: the ops.
        chips: the chips.
        scope: of the constants.
    """
    setup = chips.constant("setup_s", scope, default=np.nan)
    is_fitted = ~np.isnan(setup)
    missed = _missed(ops, chips, scope)
    traffic = planned.traffic_bytes.copy()
    traffic[0] -= ops.moved_bytes * (1.0 - missed)
    farther = np.maximum(0.0, chips.level_latency_s[0] - _last_cache_latency_s(chips))
    return replace(
        planned,
        traffic_bytes=traffic,
        launch_s=np.where(is_fitted, setup, np.nan) + np.zeros_like(planned.core_s),
        prologue_s=np.where(is_fitted, missed * farther, planned.prologue_s),
        level_efficiency=level_efficiency(chips, scope, "memory_efficiency")[:, None, :] + np.zeros_like(traffic),
    )


def _missed(ops: OpColumns, chips: ChipColumns, scope: str) -> FloatArray:
    """Part of the operands that comes from main memory, [O, C]."""
    is_replayed = ops.size("weight_copies") > 0
    missed: FloatArray = np.where(is_replayed, 1.0 - held(chips, scope, ops.moved_bytes), 1.0)
    return missed


def _last_cache_latency_s(chips: ChipColumns) -> FloatArray:
    """Latency of the memory next to main memory, 0 where there is none, [C]."""
    return chips.level_latency_s[1] if chips.levels > 1 else np.zeros(len(chips))
