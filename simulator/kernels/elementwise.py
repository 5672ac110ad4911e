"""Pointwise operations, copies, fills and random numbers: every element once, bound by memory unless there are few."""

from dataclasses import replace

import numpy as np

from profiler.costs.pointwise import FLOPS_PER_ELEMENT
from profiler.op import Kind
from simulator.chip_columns import ChipColumns
from simulator.kernels.stream_setup import STREAM_CONSTANTS, with_setup
from simulator.op_columns import SPECIAL_PER_ELEMENT, FloatArray, OpColumns, kind_code
from simulator.stages import PlanColumns, level_traffic, streaming_plan

KINDS: tuple[Kind, ...] = ("pointwise", "copy", "random")

CONSTANTS = STREAM_CONSTANTS
_SCOPE = "elementwise"
_TILE_ELEMENTS = 1024  # 256 threads of 4 elements (PyTorch's vectorized elementwise kernel)
# Philox4x32-10 (Salmon et al., SC 2011): 10 rounds of two wide products and four xors and adds, 8 operations, for
# 4 numbers; integer work on the vector lanes. The transform to a distribution is counted in the op's own FLOPs.
_RANDOM_OPERATIONS_PER_ELEMENT = 20.0
# Constants of kernels of eager programs, clocks of a core; without them bytes are all that counts.
_EAGER_CLOCKS = (
    *("thread_clocks", "dimension_clocks", "operand_clocks", "conversion_clocks"),
    *("join_clocks", "function_clocks", "gelu_clocks"),
)
_PER_THREAD = 4.0  # elements (PyTorch, `CUDALoops.cuh`): 2 where the output's are wide and none is converted
_WIDE_PER_THREAD = 2.0
_WIDE_BYTES = 4.0


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
    share = np.ceil(planned.tiles / chips.cores) / planned.tiles
    one_by_one_s = share * ops.size("elements") * _element_clocks(ops, chips) / chips.clock_hz
    # Elements that lie apart take a sector each of the last shared cache, beside what goes along memory.
    sectors_per_s = chips.constant("sector_efficiency", _SCOPE, default=np.inf) * chips.shared_bandwidth
    scattered = ops.size("scattered_bytes")
    apart_s = np.where(scattered > 0, scattered + moved, 0.0) / sectors_per_s
    vector_s = np.maximum(planned.vector_s, one_by_one_s)  # instructions take the vector units' turns
    return replace(planned, vector_s=vector_s, core_s=np.maximum(planned.core_s, np.maximum(one_by_one_s, apart_s)))


def _element_clocks(ops: OpColumns, chips: ChipColumns) -> FloatArray:
    """Clocks of a core for one element in kernels of eager programs, [O, C]; 0 where bytes are all that counts.

    Where elements are found one by one: a thread's own work, shared by its elements, the divisions that an element's
    place takes, and its operands, with a conversion each where types differ. Functions of an exponential and a division
    (sigmoid, silu), and the longer gelu, hold even kernels that go along memory. Compiled kernels have no such clocks.
    """
    constant = {name: chips.constant(name, _SCOPE, default=0.0) for name in _EAGER_CLOCKS}
    elements = np.maximum(ops.size("elements"), 1.0)
    accesses = ops.size("single_accesses") / elements
    converts = ops.size("converts")
    is_wide = (ops.output_element_bytes >= _WIDE_BYTES) & (converts == 0)
    single = (
        constant["thread_clocks"] / np.where(is_wide, _WIDE_PER_THREAD, _PER_THREAD)
        + constant["dimension_clocks"] * np.maximum(ops.size("single_dimensions"), 1.0)
        + accesses * (constant["operand_clocks"] + converts * constant["conversion_clocks"])
    )
    single = np.where(ops.size("joins") > 0, constant["join_clocks"], single)
    is_long = ops.vector_flops >= FLOPS_PER_ELEMENT["gelu"] * elements
    function = np.where(is_long, constant["gelu_clocks"], constant["function_clocks"])
    function = np.where(ops.special_flops >= SPECIAL_PER_ELEMENT["gelu"] * elements, function, 0.0)
    clocks: FloatArray = np.maximum(np.where(accesses > 0, single, 0.0), function)
    return clocks
