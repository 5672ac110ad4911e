"""Cost of operations over rows: reductions, norms, softmax, sorting, top-k and scans."""

from collections.abc import Callable
from dataclasses import replace
from math import ceil, log2, prod

from profiler.costs.call import AtenCall, TensorMeta, base_name
from profiler.costs.layout import element_strides
from profiler.costs.pointwise import FLOPS_PER_ELEMENT
from profiler.op import Kind, Op

# FLOPs per input element of each reduction; an argmax compares once.
_REDUCTIONS = {
    "sum": 1,
    "nansum": 1,
    "mean": 1,
    "amax": 1,
    "amin": 1,
    "max": 1,
    "min": 1,
    "aminmax": 2,
    "argmax": 1,
    "argmin": 1,
    "all": 1,
    "any": 1,
    "prod": 1,
    "count_nonzero": 1,
    "norm": 2,
    "linalg_vector_norm": 2,
    "var": 3,
    "std": 3,
    "var_mean": 3,
    "std_mean": 3,
    "logsumexp": 3,
    "equal": 1,
    "histc": 3,  # subtract, scale, count
    "bincount": 1,
}
_DIM_ARGUMENT = {"norm": 2, "linalg_vector_norm": 2}  # where the dimensions stand among the arguments, 1 otherwise
# softmax: running maximum, subtraction, exponential, sum, division.
_SOFTMAX_FLOPS = 5
# norms: mean and variance (3), normalize (2), scale and shift (2); RMS norm: square, sum, scale twice.
_NORM_FLOPS = {
    "native_layer_norm": 7,
    "layer_norm": 7,
    "native_group_norm": 7,
    "group_norm": 7,
    "native_batch_norm": 7,
    "_native_batch_norm_legit": 7,
    "_native_batch_norm_legit_no_training": 4,
    "cudnn_batch_norm": 7,
    "batch_norm": 7,
    "rms_norm": 4,
    "_fused_rms_norm": 4,
}
_SCANS = ("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp")


def row_op(call: AtenCall, kind: Kind, *, columns: int, flops: int, extra: tuple[tuple[str, int], ...] = ()) -> Op:
    """An operation over rows of `columns` elements that moves every operand once.

    Args:
        call: what was called.
        kind: of the op.
        columns: elements of a row.
        flops: of the whole operation.
        extra: further sizes of this kind.
    """
    tensors = tuple(call.tensors())
    elements = tensors[0].elements if tensors else 0
    return Op(
        kind=kind,
        name=call.name,
        dtype=tensors[0].dtype if tensors else "float32",
        inputs=tuple(tensor.operand() for tensor in tensors),
        outputs=tuple(out.operand() for out in call.outputs),
        sizes=(("rows", elements // max(1, columns)), ("columns", columns), *extra),
        vector_flops=flops,
    )


def _reduction(call: AtenCall) -> Op:
    """Rows are the outputs, columns what each of them reduces; `max(x, y)` of two tensors is elementwise."""
    tensors = tuple(call.tensors())
    per_element = _REDUCTIONS[base_name(call.name)]
    if len(tensors) > 1 and base_name(call.name) in ("max", "min"):
        elements = call.output.elements
        return Op(
            kind="pointwise",
            name=call.name,
            dtype=tensors[0].dtype,
            inputs=tuple(tensor.operand() for tensor in tensors),
            outputs=tuple(out.operand() for out in call.outputs),
            sizes=(("elements", elements),),
            vector_flops=elements,
        )
    elements = tensors[0].elements
    rows = call.outputs[0].elements if call.outputs else 1
    extra = (("apart", 1),) if _lies_apart(call, tensors[0]) else ()
    return row_op(call, "reduction", columns=elements // max(1, rows), flops=per_element * elements, extra=extra)


def _lies_apart(call: AtenCall, source: TensorMeta) -> bool:
    """Whether what makes one output are no neighbors in memory: the innermost dimension is not among those reduced."""
    given = call.argument(_DIM_ARGUMENT.get(base_name(call.name), 1), "dim")
    dims = given if isinstance(given, tuple) else (given,)
    reduced = {dim % len(source.shape) for dim in dims if isinstance(dim, int) and not isinstance(dim, bool)}
    lengths = [axis for axis, length in enumerate(source.shape) if length > 1]
    if not reduced or not lengths:  # all of them, or one number
        return False
    strides = element_strides(source)
    return min(lengths, key=lambda axis: strides[axis]) not in reduced


def _softmax(call: AtenCall) -> Op:
    source = call.tensor(0)
    return row_op(
        call, "softmax", columns=_dim_size(source, call.argument(1, "dim", -1)), flops=_SOFTMAX_FLOPS * source.elements
    )


def _norm(call: AtenCall) -> Op:
    source = call.tensor(0)
    name = base_name(call.name)
    shape = call.argument(1, "normalized_shape")
    if "layer" in name or "rms" in name:
        lengths = [n for n in shape if isinstance(n, int)] if isinstance(shape, tuple) else []
        columns = prod(lengths) or source.shape[-1]
    elif "group" in name:  # one mean and variance for each group of channels
        given = call.argument(6, "group") if name.startswith("native") else call.argument(1, "num_groups")
        groups = given if isinstance(given, int) else 1
        columns = source.elements // max(1, source.shape[0] * groups)
    else:
        columns = source.elements // max(1, source.shape[0])
    return row_op(call, "norm", columns=columns, flops=_NORM_FLOPS[name] * source.elements)


def _sort(call: AtenCall) -> Op:
    """A comparison sort: n log2(n) comparisons a row."""
    source = call.tensor(0)
    dims = [v for v in (*call.args[1:], *(v for _, v in call.kwargs)) if isinstance(v, int) and not isinstance(v, bool)]
    columns = _dim_size(source, dims[0] if dims else -1)
    return row_op(call, "sort", columns=columns, flops=source.elements * max(1, ceil(log2(max(2, columns)))))


def _topk(call: AtenCall) -> Op:
    """One pass of comparisons over the row; the k-element heap that follows is small beside it."""
    source = call.tensor(0)
    k_value = call.argument(1, "k", 1)
    k = k_value if isinstance(k_value, int) else 1
    columns = _dim_size(source, call.argument(2, "dim", -1))
    return row_op(call, "topk", columns=columns, flops=source.elements, extra=(("k", k),))


def _scan(call: AtenCall) -> Op:
    source = call.tensor(0)
    return row_op(call, "scan", columns=_dim_size(source, call.argument(1, "dim", -1)), flops=source.elements)


def _dim_size(tensor: TensorMeta, dim: object) -> int:
    if not tensor.shape:
        return 1
    return tensor.shape[dim if isinstance(dim, int) and -len(tensor.shape) <= dim < len(tensor.shape) else -1]


def _selective_scan(call: AtenCall) -> Op:
    """Mamba's recurrence (Gu and Dao, arXiv:2312.00752, section 3.3.2): one pass, the state stays on chip.

    Per position, channel and state: step times decay, its exponential, the decayed state plus what enters (3), and
    the sum of its outputs (2); per position and channel, step times input. An exponential counts as in
    `profiler.costs.pointwise`.
    """
    entering, state = call.tensor(0), call.tensor(5)
    per_state = 6 + FLOPS_PER_ELEMENT["exp"]
    flops = entering.elements * (1 + per_state * state.shape[-1])
    sequences, positions = entering.shape[:2]
    sizes = (("state", state.shape[-1]), ("sequences", sequences), ("tokens", sequences * positions))
    return row_op(call, "scan", columns=positions, flops=flops, extra=sizes)


def _chunked_scan(call: AtenCall) -> Op:
    """Mamba-2's recurrence in chunks of matrix products (Dao and Gu, arXiv:2405.21060, section 6).

    Into and out of the states 2 FLOPs each per position, channel and state; within chunks 2 per pair of positions for
    each channel and each state of a group. What a kernel can leave out: pairs of which the first comes later, and the
    states where all pairs of a short sequence are fewer.
    """
    x, entering = call.tensor(0), call.tensor(2)
    sequences, positions, heads, width = x.shape
    groups, state = entering.shape[2:]
    chunk_value = call.argument(5, "chunk", 1)
    chunk = chunk_value if isinstance(chunk_value, int) else 1
    through = 2 * x.elements * state
    per_pair = heads * width + groups * state
    flops = 2 * through + 2 * sequences * positions * min(chunk, positions) * per_pair
    required = through + min(through, sequences * positions * (positions + 1) * per_pair)
    sizes = (*_scan_sizes(x, entering), ("chunk", chunk))
    op = row_op(call, "scan", columns=positions, flops=x.elements, extra=sizes)
    return replace(op, matrix_flops=flops, skippable_flops=flops - required)


def _state_update(call: AtenCall) -> Op:
    """One position of the same: per channel and state the decayed state plus what enters (3), and the sum (2)."""
    x, entering = call.tensor(0), call.tensor(2)
    flops = x.elements * (1 + 5 * entering.shape[-1])
    return row_op(call, "scan", columns=1, flops=flops, extra=_scan_sizes(x, entering))


def _scan_sizes(x: TensorMeta, entering: TensorMeta) -> tuple[tuple[str, int], ...]:
    sequences, positions, _, width = x.shape
    groups, state = entering.shape[2:]
    return (
        *(("state", state), ("sequences", sequences), ("tokens", sequences * positions)),
        *(("head_dim", width), ("groups", groups)),
    )


RULES: dict[str, Callable[[AtenCall], Op]] = {
    **dict.fromkeys(_REDUCTIONS, _reduction),
    **dict.fromkeys(("_softmax", "softmax", "_log_softmax", "log_softmax", "_safe_softmax"), _softmax),
    **dict.fromkeys(_NORM_FLOPS, _norm),
    **dict.fromkeys(("sort", "argsort"), _sort),
    **dict.fromkeys(("topk", "kthvalue"), _topk),
    **dict.fromkeys(_SCANS, _scan),
    "selective_scan": _selective_scan,
    "chunked_scan": _chunked_scan,
    "state_update": _state_update,
}
