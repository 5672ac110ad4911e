"""Cost of operations that move data: copies, gathers, scatters, fills, random numbers and collectives."""

from collections.abc import Callable
from math import prod

from profiler.costs.call import AtenCall, TensorMeta, base_name
from profiler.costs.layout import is_contiguous, single_sizes
from profiler.op import Kind, Op, Operand, dtype_bits

_COPIES = """clone _to_copy contiguous cat concat concatenate stack constant_pad_nd reflection_pad2d replication_pad2d
pad repeat repeat_interleave roll flip tril triu diag_embed reshape block_diag one_hot
upsample_nearest2d upsample_nearest1d _upsample_nearest_exact2d upsample_bilinear2d avg_pool2d max_pool2d_with_indices
adaptive_avg_pool2d _adaptive_avg_pool2d pixel_shuffle pixel_unshuffle im2col col2im to type_as""".split()
_JOINS = ("cat", "concat", "concatenate")
_MOST_JOINED_DIMENSIONS = 4  # beyond them each part is copied by a kernel of its own (PyTorch, `Shape.cu`)
_FILLS = """zeros zeros_like ones ones_like full full_like fill zero new_zeros new_ones new_full arange linspace eye
scalar_tensor tril_indices triu_indices""".split()
_RANDOM = """rand rand_like randn randn_like randint randint_like uniform normal normal_functional bernoulli exponential
cauchy geometric log_normal random multinomial randperm poisson""".split()
_COLLECTIVES = """allreduce all_reduce allgather all_gather all_gather_into_tensor _allgather_base
allgather_into_tensor_coalesced reduce_scatter reduce_scatter_tensor _reduce_scatter_base alltoall all_to_all
alltoall_base all_to_all_single broadcast send recv barrier wait_tensor""".split()


def _op(
    call: AtenCall,
    kind: Kind,
    inputs: tuple[Operand, ...],
    outputs: tuple[Operand, ...],
    sizes: tuple[tuple[str, int], ...],
    flops: int = 0,
) -> Op:
    first = (outputs or inputs)[0].dtype if outputs or inputs else "float32"
    return Op(kind=kind, name=call.name, dtype=first, inputs=inputs, outputs=outputs, sizes=sizes, vector_flops=flops)


def _copy(call: AtenCall) -> Op:
    """Every source is read once and the result written once."""
    tensors = list(call.tensors())
    inputs = tuple(tensor.operand() for tensor in tensors)
    return _op(call, "copy", inputs, _outputs(call), (("elements", _elements(call)), *_single_sizes(call, tensors)))


def _single_sizes(call: AtenCall, sources: list[TensorMeta]) -> tuple[tuple[str, int], ...]:
    """The sizes of a copy that moves its elements one by one."""
    if not call.outputs or not sources:
        return ()
    if len(sources) == 1 and sources[0].shape == call.output.shape:
        return tuple(single_sizes(sources, call.output, is_copy=True).items())
    # Joined, cut or repeated: read and written once each, alone where a source does not lie row by row.
    dimensions = len(call.output.shape)
    joins = base_name(call.name) in _JOINS and len(sources) > 1
    is_whole = all(is_contiguous(source) for source in sources)
    if is_whole and not (joins and dimensions > _MOST_JOINED_DIMENSIONS):
        return ()
    single = ("single_accesses", 2 * _elements(call))
    if joins and dimensions <= _MOST_JOINED_DIMENSIONS:
        return (single, ("joins", 1))
    return (single, ("single_dimensions", 2 if is_whole else max(1, dimensions - 1)))


def _copy_into(call: AtenCall) -> Op:
    """`copy_(target, source)`: the target is written and not read."""
    tensors = list(call.tensors())[1:]
    sources = tuple(tensor.operand() for tensor in tensors)
    return _op(call, "copy", sources, _outputs(call), (("elements", _elements(call)), *_single_sizes(call, tensors)))


def _fill(call: AtenCall) -> Op:
    return _op(call, "copy", (), _outputs(call), (("elements", _elements(call)),))


def _random(call: AtenCall) -> Op:
    """Random numbers: 1 FLOP an element stands for a counter-based generator's rounds, which are integer work."""
    elements = _elements(call)
    sources = (
        tuple(tensor.operand() for tensor in call.tensors())
        if "bernoulli" in call.name or "multinomial" in call.name
        else ()
    )
    return _op(call, "random", sources, _outputs(call), (("elements", elements),), elements)


def _embedding(call: AtenCall) -> Op:
    return _gathered_rows(call, table=call.tensor(0), index=call.tensor(1))


def _index_select(call: AtenCall) -> Op:
    index = call.args[2]
    return _gathered_rows(call, table=call.tensor(0), index=index if isinstance(index, TensorMeta) else call.tensor(0))


def _gathered_rows(call: AtenCall, *, table: TensorMeta, index: TensorMeta) -> Op:
    """Reads the rows asked for (repeats may hit caches, and are counted), not the whole table."""
    row_bytes = call.output.stored_bytes // max(1, index.elements)
    inputs = (table.operand(call.output.stored_bytes), index.operand())
    return _op(call, "gather", inputs, _outputs(call), (("rows", index.elements), ("row_bytes", row_bytes)))


def _gather(call: AtenCall) -> Op:
    """`gather`, `index`, `take`: one element or row per index, as many bytes as the result holds."""
    tensors = list(call.tensors())
    indices = tensors[1:]
    rows = max((tensor.elements for tensor in indices), default=1)
    row_bytes = call.output.stored_bytes // max(1, rows)
    inputs = (tensors[0].operand(call.output.stored_bytes), *(tensor.operand() for tensor in indices))
    return _op(call, "gather", inputs, _outputs(call), (("rows", rows), ("row_bytes", row_bytes)))


def _scatter(call: AtenCall) -> Op:
    """In place, only what is put moves; out of place, the whole tensor is copied as well."""
    tensors = list(call.tensors())
    target, rest = tensors[0], tensors[1:]
    values = max((tensor for tensor in rest if tensor.dtype == target.dtype), key=lambda t: t.elements, default=None)
    indices = [tensor for tensor in rest if tensor is not values]
    rows = max((tensor.elements for tensor in indices), default=1)
    count = values.elements if values is not None else rows
    put = (count * dtype_bits(target.dtype) + 7) // 8
    in_place = is_in_place(call.name)
    inputs = tuple(tensor.operand() for tensor in rest)
    if not in_place:
        inputs = (target.operand(), *inputs)
    written = put if in_place else call.output.stored_bytes
    adds = "add" in call.name or "reduce" in call.name
    return _op(
        call,
        "scatter",
        inputs,
        (call.output.operand(min(written, call.output.stored_bytes)),),
        (("rows", rows), ("row_bytes", put // max(1, rows))),
        count if adds else 0,
    )


def _label_losses(call: AtenCall) -> Op:
    """`nll_loss`: of each row of scores the one at its label is read; what is summed is added up."""
    scores, labels = call.tensor(0), call.tensor(1)
    others = [tensor for tensor in call.tensors() if tensor is not scores]
    element_bytes = dtype_bits(scores.dtype) // 8
    inputs = (scores.operand(labels.elements * element_bytes), *(tensor.operand() for tensor in others))
    sizes = (("rows", labels.elements), ("row_bytes", element_bytes))
    return _op(call, "gather", inputs, _outputs(call), sizes, labels.elements if call.output.elements == 1 else 0)


def _label_losses_backward(call: AtenCall) -> Op:
    """Zeros for all scores, and one number of each row at its label; the scores themselves are not read."""
    labels = call.tensor(2)
    inputs = tuple(tensor.operand() for tensor in call.tensors() if tensor is not call.args[1])
    sizes = (("rows", labels.elements), ("row_bytes", dtype_bits(call.output.dtype) // 8))
    return _op(call, "scatter", inputs, _outputs(call), sizes)


def is_in_place(name: str) -> bool:
    """Whether an ATen name is that of an in-place operation.

    >>> is_in_place("aten::index_put_"), is_in_place("aten::scatter")
    (True, False)
    """
    short = name.rpartition("::")[2].partition(".")[0]
    return short.endswith("_") and not short.endswith("__")


def _collective(call: AtenCall) -> Op:
    """Payload is read and written once; the wire traffic belongs to the kernel model. Ranks: 1 where unrecorded."""
    ranks = call.argument(99, "ranks", 1)
    inputs = tuple(tensor.operand() for tensor in call.tensors())
    elements = sum(prod(operand.shape) for operand in inputs)
    sizes = (("elements", elements), ("ranks", ranks if isinstance(ranks, int) else 1))
    is_direct = base_name(call.name).startswith(("alltoall", "all_to_all"))
    return _op(call, "collective", inputs, _outputs(call), (*sizes, ("direct", 1)) if is_direct else sizes)


def _outputs(call: AtenCall) -> tuple[Operand, ...]:
    return tuple(out.operand() for out in call.outputs)


def _elements(call: AtenCall) -> int:
    return sum(out.elements for out in call.outputs)


RULES: dict[str, Callable[[AtenCall], Op]] = {
    **dict.fromkeys(_COPIES, _copy),
    "copy": _copy_into,
    **dict.fromkeys(_FILLS, _fill),
    **dict.fromkeys(_RANDOM, _random),
    "embedding": _embedding,
    "index_select": _index_select,
    **dict.fromkeys(("gather", "index", "take", "take_along_dim", "masked_select", "_unsafe_index"), _gather),
    **dict.fromkeys(
        """scatter scatter_add scatter_reduce index_put _index_put_impl index_copy index_add index_fill slice_scatter
        select_scatter masked_scatter put""".split(),
        _scatter,
    ),
    **dict.fromkeys(("nll_loss_forward", "nll_loss2d_forward"), _label_losses),
    **dict.fromkeys(("nll_loss_backward", "nll_loss2d_backward"), _label_losses_backward),
    **dict.fromkeys(_COLLECTIVES, _collective),
}
