"""The table of cost rules and `build_op`, which applies them."""

from collections.abc import Callable
from dataclasses import replace

from profiler.costs import data_movement, matrix, reductions
from profiler.costs.attention import attention_op
from profiler.costs.call import AtenCall, base_name
from profiler.costs.pointwise import FLOPS_PER_ELEMENT, pointwise_op
from profiler.errors import UnknownOperationError
from profiler.op import Op

Rule = Callable[[AtenCall], Op]

# Views, metadata and bare allocations move no data; they are dropped from every trace.
FREE: frozenset[str] = frozenset(
    """alias as_strided broadcast_to chunk data detach detach_ diagonal dim empty empty_like empty_strided
    empty_permuted expand expand_as flatten is_same_size is_pinned is_nonzero item _local_scalar_dense lift_fresh
    movedim narrow new_empty new_empty_strided numel permute real imag record_stream rename resize_ resolve_conj
    resolve_neg result_type select set_ set_data size split split_with_sizes
    unsafe_split unsafe_chunk unsafe_split_with_sizes squeeze squeeze_ stride
    storage_offset swapaxes sym_numel sym_size sym_storage_offset sym_stride sym_is_contiguous t t_ tensor_split
    transpose transpose_ unbind unflatten unfold unsqueeze unsqueeze_ view view_as view_as_complex view_as_real
    _reshape_alias _unsafe_view _has_compatible_shallow_copy_type can_cast device is_floating_point is_complex
    positive requires_grad_ output_nr _version pin_memory
    _assert_async _assert_tensor_metadata _assert_scalar""".split()
)

RULES: dict[str, Rule] = {
    **matrix.RULES,
    **reductions.RULES,
    **data_movement.RULES,
    **dict.fromkeys(FLOPS_PER_ELEMENT, pointwise_op),
    **dict.fromkeys(
        (
            "scaled_dot_product_attention",
            "_scaled_dot_product_flash_attention",
            "_scaled_dot_product_flash_attention_for_cpu",
            "_scaled_dot_product_efficient_attention",
            "_scaled_dot_product_cudnn_attention",
            "_scaled_dot_product_fused_attention_overrideable",
            "_scaled_dot_product_attention_math",
        ),
        attention_op,
    ),
}


def is_free(name: str) -> bool:
    """Whether an op of this name costs nothing: a view, metadata, or a bare allocation."""
    short = name.rpartition("::")[2].partition(".")[0]
    return (name.startswith("aten::") and (short in FREE or base_name(name) in FREE)) or name.startswith("profiler::")


def has_rule(name: str) -> bool:
    """Whether an op of this name has a cost rule."""
    return base_name(name) in RULES


# A graph that a compiler made of many operations: nothing tells which parts of its inputs it reads, what it writes into
# them, or what it computes.
COMPILED_GRAPH = "inductor::graph_"


def build_op(call: AtenCall, *, strict: bool = False) -> Op:
    """Turn a recorded call into an `Op`.

    An op without a rule keeps the traffic of its tensors, has unknown FLOPs and the kind `unknown`.

    Raises:
        UnknownOperationError: in strict mode, where no rule is known.
    """
    rule = RULES.get(base_name(call.name))
    if rule is not None:
        return rule(call)
    if strict:
        raise UnknownOperationError(
            f"{call.name}: no cost rule, and strict mode is on; add one under profiler/costs/ or drop --strict"
        )
    return unknown_op(call)


def unknown_op(call: AtenCall) -> Op:
    """An op of which only the tensors are known, and of a compiled graph not even how much of them moves."""
    outputs = tuple(tensor.operand() for tensor in call.outputs)
    inputs = tuple(tensor.operand() for tensor in call.tensors())
    if call.name.startswith(COMPILED_GRAPH):
        outputs = tuple(replace(operand, moved_bytes=None) for operand in outputs)
        inputs = tuple(replace(operand, moved_bytes=None) for operand in inputs)
    dtype = (outputs or inputs)[0].dtype if outputs or inputs else "float32"
    return Op(
        kind="unknown",
        name=call.name,
        dtype=dtype,
        inputs=inputs,
        outputs=outputs,
        matrix_flops=None,
        vector_flops=None,
    )
