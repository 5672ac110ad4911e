"""Convolutions: depthwise ones along a sequence as rows of vector work, all others as implicit GEMM.

The causal convolution of a Mamba layer gives a block of threads one channel of one sequence, which it goes along part
by part: many short rows cost what their blocks cost, long rows what their bytes cost. One position against kept
inputs (the generation phase) streams states instead.
"""

from dataclasses import replace

import numpy as np

from profiler.op import Kind
from simulator.chip_columns import ChipColumns
from simulator.kernels import gemm
from simulator.kernels.constants import Constant
from simulator.kernels.state_cache import UPDATE_CONSTANTS, held, level_efficiency
from simulator.op_columns import BoolArray, FloatArray, OpColumns
from simulator.stages import PlanColumns, level_traffic, plan_parts

KINDS: tuple[Kind, ...] = ("conv",)

CONSTANTS: tuple[Constant, ...] = (
    Constant(name="setup_s", low=5e-7, high=2e-5, start=3e-6, unit="s", meaning="fixed cost of whole sequences"),
    Constant(name="block_clocks", low=10, high=2000, start=200, unit="clocks", meaning="a core's time per block"),
    Constant(name="part_s", low=1e-8, high=5e-6, start=3e-7, unit="s", meaning="latency of a part of a row"),
    Constant(name="scalar_ratio", low=1.0, high=4.0, start=1.3, unit="", meaning="blocks of rows too short to vector"),
    Constant(name="memory_efficiency", low=0.3, high=1.0, start=0.75, unit="", meaning="part of the bandwidth"),
    Constant(name="smooth_max_p", low=1.0, high=20.0, start=5.0, unit="", meaning="exponent of the smooth maximum"),
    *UPDATE_CONSTANTS,
)
_SCOPE = "conv"
_PART_POSITIONS = 1024.0  # 128 threads of 8 positions
_VECTOR_POSITIONS = 8.0  # 16 bytes of 16-bit numbers
_LAID_OUT_BYTES = 2.0  # elements of the types for which cuDNN does so


def plan(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Plan convolutions: depthwise ones here, the rest as matrix products."""
    depthwise = is_depthwise(ops)[:, 0]
    return plan_parts(ops, chips, ((_depthwise, depthwise), (_implicit_gemm, ~depthwise)))


def is_depthwise(ops: OpColumns) -> BoolArray:
    """Whether each convolution has one filter a channel, [O, 1]."""
    one_each: BoolArray = (ops.size("n") == 1) & (ops.size("batch") > 1)
    return one_each


def _implicit_gemm(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Convolutions as matrix products, and in eager programs the kernels around them.

    Tensors lie channel by channel, matrix units take 16-bit pixels with all their channels: input, weights and output
    are laid out anew, and a bias is added by a kernel of its own.
    """
    planned = gemm.plan(ops, chips)
    bandwidth = chips.level_peak_bandwidth[0]
    layout = chips.constant("layout_efficiency", _SCOPE, default=np.inf)
    bias = chips.constant("bias_efficiency", _SCOPE, default=np.inf)
    is_laid_out = ops.input_element_bytes == _LAID_OUT_BYTES
    layout_s = np.where(is_laid_out, 2.0 * ops.moved_bytes, 0.0) / (layout * bandwidth)
    bias_s = np.where(ops.vector_flops > 0, 2.0 * ops.write_bytes, 0.0) / (bias * bandwidth)
    return replace(planned, epilogue_s=planned.epilogue_s + layout_s + bias_s)


def _depthwise(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """One filter a channel, on the vector units.

    A core works on blocks at a steady rate; the busiest has `ceil(blocks / cores)` of them. The parts of a row follow
    one another, each with the latency of its loads.
    """
    zero = np.zeros((len(ops), len(chips)))
    sequences = np.maximum(1.0, ops.size("sequences"))
    positions = np.maximum(1.0, ops.size("m") / sequences)
    channels, is_update = ops.size("batch"), ops.size("update") > 0
    blocks = sequences * channels + zero
    parts = np.ceil(positions / _PART_POSITIONS)
    busiest = np.ceil(blocks / chips.cores)
    is_scalar = positions % _VECTOR_POSITIONS > 0
    ratio = np.where(is_scalar, chips.constant("scalar_ratio", _SCOPE, default=1.0), 1.0)
    block_s = ratio * chips.constant("block_clocks", _SCOPE, default=0.0) / chips.clock_hz
    vector_s = busiest / blocks * _vector_work_s(ops, chips)
    setup = chips.constant("setup_s", _SCOPE, default=chips.launch_s)
    update_setup = chips.constant("update_setup_s", _SCOPE, default=setup)
    return PlanColumns(
        tile_m=zero + np.minimum(positions, _PART_POSITIONS),
        tile_n=zero + 1.0,
        tiles=blocks,
        waves=busiest,
        cores_used=np.minimum(blocks, chips.cores),
        split=zero + 1.0,
        stages=busiest * parts,
        core_s=np.maximum(vector_s, np.where(is_update, 0.0, busiest * block_s)),
        matrix_s=zero,
        vector_s=vector_s,
        special_s=busiest / blocks * ops.special_flops / (chips.special_flops * chips.clock_hz),
        traffic_bytes=_traffic(ops, chips),
        link_s=zero,
        prologue_s=zero
        + np.where(is_update, 0.0, parts * chips.constant("part_s", _SCOPE, default=chips.first_access_s)),
        epilogue_s=zero,
        reduction_s=zero,
        level_efficiency=_efficiency(chips, is_update),
        smooth_max_p=zero + chips.constant("smooth_max_p", _SCOPE, default=np.inf),
        launch_s=np.where(is_update, update_setup, setup) + zero,
    )


def _vector_work_s(ops: OpColumns, chips: ChipColumns) -> FloatArray:
    """All multiply-adds on one core's vector lanes, [O, C]: depthwise filters share nothing for a matrix unit."""
    flops = ops.matrix_flops + ops.vector_flops
    seconds: FloatArray = flops / (chips.vector_flops[ops.dtype[:, 0]] * chips.clock_hz)
    return seconds


def _traffic(ops: OpColumns, chips: ChipColumns) -> FloatArray:
    """Bytes through each memory, [levels, O, C]; results replace inputs, so a benchmark's next run finds those read."""
    moved = ops.moved_bytes
    zero = np.zeros_like(moved)
    traffic = level_traffic(chips, compulsory=moved, repeated=zero, far_repeated=zero, working_set=zero)
    traffic[0] *= np.where(ops.size("weight_copies") > 0, 1.0 - held(chips, _SCOPE, ops.read_bytes), 1.0)
    return traffic


def _efficiency(chips: ChipColumns, is_update: BoolArray) -> FloatArray:
    """Achievable part of each memory's bandwidth, [levels, O, C]."""
    whole, update = (level_efficiency(chips, _SCOPE, f"{name}_efficiency") for name in ("memory", "update"))
    efficiency: FloatArray = np.where(is_update[None], update[:, None, :], whole[:, None, :])
    return efficiency
