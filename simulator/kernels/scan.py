"""Scans: sums along rows, recurrences over a state that stays on chip, and chunked ones as kernels of products.

A scan without a state is a cumulative sum, planned with the other kernels over rows. With one, `chunk` tells how whole
sequences run: in chunks as matrix products (Mamba-2, the gated delta rule), else as one kernel that goes along each
channel on the vector units (Mamba). A single position without `chunk` reads and writes the states and little else.
"""

import numpy as np

from profiler.op import Kind
from simulator.chip_columns import ChipColumns
from simulator.kernels import rows
from simulator.kernels.constants import Constant
from simulator.kernels.scan_phases import Phase, chunked_phases
from simulator.kernels.state_cache import UPDATE_CONSTANTS, held, level_efficiency
from simulator.op_columns import DTYPES, FloatArray, OpColumns
from simulator.stages import PlanColumns, level_traffic, plan_parts

KINDS: tuple[Kind, ...] = ("scan",)

CONSTANTS: tuple[Constant, ...] = (
    Constant(name="setup_s", low=1e-6, high=4e-5, start=5e-6, unit="s", meaning="fixed cost of the first kernel"),
    Constant(name="kernel_s", low=3e-7, high=1e-5, start=2e-6, unit="s", meaning="each kernel that depends on another"),
    Constant(name="matrix_efficiency", low=0.03, high=1.0, start=0.25, unit="", meaning="part of the matrix peak"),
    Constant(name="memory_efficiency", low=0.4, high=1.0, start=0.8, unit="", meaning="part of the bandwidth"),
    Constant(name="chunk_s", low=2e-7, high=1e-5, start=2e-6, unit="s", meaning="a chunk that needs the one before"),
    *UPDATE_CONSTANTS,
)
_SCOPE = "scan"
_FLOAT32 = DTYPES.index("float32")  # states are kept in it


def plan(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Plan scans by their form."""
    has_state, is_chunked = ops.size("state")[:, 0] > 0, ops.size("chunk")[:, 0] > 0
    is_one = (ops.size("columns")[:, 0] <= 1) & ~is_chunked
    forms = (
        (rows.plan, ~has_state),
        (_one_position, has_state & is_one),
        (_chunked, has_state & is_chunked),
        (_along_rows, has_state & ~is_one & ~is_chunked),
    )
    return plan_parts(ops, chips, forms)


def _chunked(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Kernels one after another, whose products and loads do not overlap: each block loads, multiplies and stores."""
    zero = np.zeros((len(ops), len(chips)))
    phases = chunked_phases(ops)
    moved = np.add.reduce([phase.moved_bytes for phase in phases])
    # What one kernel writes the next one reads; a benchmark's next run finds the operands themselves.
    missed = 1.0 - held(chips, _SCOPE, moved / 2.0)
    between = np.maximum(0.0, moved - ops.moved_bytes)
    traffic = level_traffic(
        chips, compulsory=ops.moved_bytes + between, repeated=0.0 * moved, far_repeated=0.0 * moved, working_set=zero
    )
    traffic[0] = ops.moved_bytes * np.where(ops.size("weight_copies") > 0, missed, 1.0) + between * missed
    core_s, matrix_s = zero, zero
    for phase in phases:
        products_s, pairs_s, waits_s = _phase_s(phase, ops, chips)
        core_s, matrix_s = core_s + np.maximum(products_s + pairs_s, waits_s), matrix_s + products_s
    kernels = np.add.reduce([phase.blocks > 0 for phase in phases], dtype=np.float64)
    return PlanColumns(
        **_counts(zero, chips, blocks=np.maximum.reduce([p.blocks for p in phases]) + zero, tile=ops.size("chunk")),
        split=zero + 1.0,
        stages=zero + 1.0,
        core_s=core_s,
        matrix_s=matrix_s,
        vector_s=ops.vector_flops / (chips.vector_flops[_FLOAT32] * chips.cores * chips.clock_hz) + zero,
        special_s=zero,
        traffic_bytes=traffic,
        link_s=zero,
        prologue_s=zero + chips.first_access_s,
        epilogue_s=zero,
        reduction_s=(kernels - 1.0) * chips.constant("kernel_s", _SCOPE, default=chips.launch_s),
        level_efficiency=level_efficiency(chips, _SCOPE, "memory_efficiency")[:, None, :] + zero,
        smooth_max_p=zero + np.inf,
        launch_s=zero + chips.constant("setup_s", _SCOPE, default=chips.launch_s),
    )


def _phase_s(phase: Phase, ops: OpColumns, chips: ChipColumns) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Seconds of one kernel's products and pairs on the busiest core, and of chunks one after another, [O, C] each."""
    macs = chips.macs[ops.dtype[:, 0]]
    efficiency = np.minimum(1.0, chips.constant("matrix_efficiency", _SCOPE, default=chips.matrix_efficiency))
    share = np.ceil(phase.blocks / chips.cores) / np.maximum(phase.blocks, 1.0)
    products_s = share * phase.flops / (2.0 * efficiency * macs * chips.clock_hz)
    # Each pair is decayed by an exponential of its own and made 16 bits again, after one product and before the next.
    pairs_s = share * phase.pairs * chips.constant("pair_clocks", _SCOPE, default=0.0) / chips.clock_hz
    waits_s = phase.product_steps * chips.constant("chunk_s", _SCOPE, default=0.0)
    loads_s = phase.load_steps * chips.level_latency_s[0]
    return products_s, pairs_s, np.maximum(waits_s, loads_s)


def _along_rows(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """One kernel: a block a channel, states on chip, an exponential for each position and state."""
    zero = np.zeros((len(ops), len(chips)))
    blocks = np.maximum(1.0, ops.size("rows")) + zero
    share = np.ceil(blocks / chips.cores) / blocks
    exponentials = np.maximum(ops.special_flops, ops.size("rows") * ops.size("columns") * ops.size("state"))
    lanes = np.minimum(chips.vector_flops[_FLOAT32], chips.vector_flops[ops.dtype[:, 0]])
    vector_s = share * ops.vector_flops / (lanes * chips.clock_hz)
    special_s = share * exponentials / (chips.special_flops * chips.clock_hz)
    moved = ops.moved_bytes
    return PlanColumns(
        **_counts(zero, chips, blocks=blocks, tile=ops.size("columns")),
        split=zero + 1.0,
        stages=np.ceil(blocks / chips.cores),
        core_s=np.maximum(vector_s, special_s),
        matrix_s=zero,
        vector_s=vector_s,
        special_s=special_s,
        traffic_bytes=level_traffic(
            chips, compulsory=moved, repeated=0.0 * moved, far_repeated=0.0 * moved, working_set=0.0 * moved
        ),
        link_s=zero,
        prologue_s=zero + chips.first_access_s + chips.wave_s,
        epilogue_s=zero,
        reduction_s=zero,
        smooth_max_p=zero + chips.smooth_max_p,
        launch_s=zero + chips.launch_s,
    )


def _one_position(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Every state read, advanced and written back; where a benchmark repeats it, a cache may hold small ones."""
    zero = np.zeros((len(ops), len(chips)))
    moved = ops.moved_bytes
    traffic = level_traffic(
        chips, compulsory=moved, repeated=0.0 * moved, far_repeated=0.0 * moved, working_set=0.0 * moved
    )
    traffic[0] *= np.where(ops.size("weight_copies") > 0, 1.0 - held(chips, _SCOPE, moved), 1.0)
    blocks = np.maximum(1.0, ops.size("rows") / 64.0) + zero
    share = np.ceil(blocks / chips.cores) / blocks
    vector_s = share * ops.vector_flops / (chips.vector_flops[_FLOAT32] * chips.clock_hz)
    setup = chips.constant("setup_s", _SCOPE, default=chips.launch_s)
    return PlanColumns(
        **_counts(zero, chips, blocks=blocks, tile=ops.size("state")),
        split=zero + 1.0,
        stages=np.ceil(blocks / chips.cores),
        core_s=vector_s,
        matrix_s=zero,
        vector_s=vector_s,
        special_s=share * ops.special_flops / (chips.special_flops * chips.clock_hz),
        traffic_bytes=traffic,
        link_s=zero,
        prologue_s=zero + chips.first_access_s,
        epilogue_s=zero,
        reduction_s=zero,
        level_efficiency=level_efficiency(chips, _SCOPE, "update_efficiency")[:, None, :] + zero,
        smooth_max_p=zero + np.inf,
        launch_s=zero + chips.constant("update_setup_s", _SCOPE, default=setup),
    )


def _counts(zero: FloatArray, chips: ChipColumns, *, blocks: FloatArray, tile: FloatArray) -> dict[str, FloatArray]:
    return {
        "tile_m": zero + tile,
        "tile_n": zero + 1.0,
        "tiles": blocks,
        "waves": np.ceil(blocks / chips.cores),
        "cores_used": np.minimum(blocks, chips.cores),
    }
