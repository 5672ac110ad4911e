"""Guesses which recorded tensors are weights and logits, from how they are used.

A trace names no parameters. The heuristics: a GEMM's right operand is a weight where it is a `t()` view (strides
[1, k] of a contiguous [n, k] matrix) or where a one-dimensional bias is added; so are embedding tables, convolution
kernels, and scale and shift of norms. Products of two activations (bmm, gradients) stay activations, and so does a
right operand that is stored as it is multiplied and has no bias. The result of a GEMM whose n equals the rows of the
largest embedding table is the logits.
"""

from dataclasses import replace

from profiler.costs.call import TensorMeta, base_name
from profiler.importers.shapes.arguments import Args
from workloads.roles import Role

_WEIGHT_POSITIONS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("linear", "convolution", "_convolution", "miopen_convolution", "mkldnn_convolution"), (1, 2)),
    "cudnn_convolution": (1,),
}
_NORM_WORDS = ("layer_norm", "group_norm", "batch_norm", "rms_norm")


def is_transposed_view(tensor: TensorMeta) -> bool:
    """Whether a 2-D tensor [k, n] is stored as a contiguous [n, k] matrix.

    >>> is_transposed_view(TensorMeta(shape=(8, 4), dtype="bfloat16", strides=(1, 8)))
    True
    """
    return len(tensor.shape) == 2 and tensor.strides == (1, tensor.shape[0]) and min(tensor.shape) > 1


def mark_weights(name: str, args: Args, *, inside_embedding: bool = False) -> Args:
    """The arguments with role `weights` where use says so.

    Args:
        name: ATen name.
        args: positional arguments.
        inside_embedding: whether the op is a part of `aten::embedding`.
    """
    positions = _weight_positions(base_name(name), args, inside_embedding)
    return tuple(
        replace(arg, role="weights") if index in positions and isinstance(arg, TensorMeta) else arg
        for index, arg in enumerate(args)
    )


def _weight_positions(short: str, args: Args, inside_embedding: bool) -> tuple[int, ...]:
    if short in ("mm", "_scaled_mm", "_int_mm", "matmul"):
        right = args[1] if len(args) > 1 else None
        return (1,) if isinstance(right, TensorMeta) and is_transposed_view(right) else ()
    if short in ("addmm", "_addmm_activation"):
        bias = args[0] if args else None
        return (0, 2) if isinstance(bias, TensorMeta) and len(bias.shape) == 1 else ()
    if short in ("embedding", "index_select"):
        return (0,) if inside_embedding or short == "embedding" else ()
    if short in _WEIGHT_POSITIONS:
        return _WEIGHT_POSITIONS[short]
    if any(word in short for word in _NORM_WORDS) and "backward" not in short:
        return tuple(range(1, len(args)))
    return ()


def output_role(name: str, columns: int, vocabulary_rows: int | None) -> Role:
    """`logits` for the result of a GEMM with as many columns as the embedding table has rows."""
    is_product = base_name(name) in ("mm", "addmm", "linear", "_scaled_mm", "matmul")
    return "logits" if is_product and vocabulary_rows is not None and columns == vocabulary_rows else "activations"
