"""Output shapes of matrix products, convolutions and attention."""

from collections.abc import Callable

from profiler.importers.dtypes import numbered_dtype
from profiler.importers.shapes.arguments import Args, Outputs, broadcast, integers, meta, repeat_to, tensor_at, value_at

_PRODUCTS = "mm _scaled_mm _int_mm addmm _addmm_activation bmm baddbmm"
_CONVOLUTIONS = "convolution _convolution cudnn_convolution miopen_convolution mkldnn_convolution"
_ATTENTIONS = """\
scaled_dot_product_attention _scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu
_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention
_scaled_dot_product_fused_attention_overrideable _scaled_dot_product_attention_math"""


def _product(name: str, args: Args) -> Outputs | None:
    """mm, bmm and their sums with a third tensor in front."""
    skip = 1 if name in ("addmm", "baddbmm", "_addmm_activation") else 0
    left, right = tensor_at(args, skip), tensor_at(args, skip + 1)
    rank = 3 if "bmm" in name else 2
    if left is None or right is None or len(left.shape) != rank or len(right.shape) != rank:
        return None
    if left.shape[-1] != right.shape[-2] or left.shape[:-2] != right.shape[:-2]:
        return None
    dtype = "int32" if name == "_int_mm" else left.dtype
    if name == "_scaled_mm":
        chosen = next((numbered_dtype(value) for value in args[2:] if numbered_dtype(value) is not None), None)
        if chosen is None:
            return None
        dtype = chosen
    return (meta((*left.shape[:-1], right.shape[-1]), dtype),)


def _linear(_: str, args: Args) -> Outputs | None:
    rows, weight = tensor_at(args, 0), tensor_at(args, 1)
    if rows is None or weight is None or not rows.shape or not weight.shape or rows.shape[-1] != weight.shape[-1]:
        return None
    return (meta((*rows.shape[:-1], *weight.shape[:-1]), rows.dtype),)


def _matmul(_: str, args: Args) -> Outputs | None:
    left, right = tensor_at(args, 0), tensor_at(args, 1)
    if left is None or right is None or not left.shape or not right.shape:
        return None
    rows = left.shape[-2:-1]
    columns = right.shape[-1:] if len(right.shape) > 1 else ()
    if left.shape[-1] != (right.shape[-2] if len(right.shape) > 1 else right.shape[0]):
        return None
    batch = broadcast([left.shape[:-2], right.shape[:-2]])
    return None if batch is None else (meta((*batch, *rows, *columns), left.dtype),)


def _vector_product(name: str, args: Args) -> Outputs | None:
    left, right = tensor_at(args, 0), tensor_at(args, 1)
    if left is None or right is None or left.shape[-1:] != right.shape:
        return None
    return (meta(left.shape[:-1] if name == "mv" else (), left.dtype),)


def _convolution(_: str, args: Args) -> Outputs | None:
    """Arguments in the order of `aten::convolution`: input, weight, bias, stride, padding, dilation, transposed, ..."""
    rows, weight = tensor_at(args, 0), tensor_at(args, 1)
    if rows is None or weight is None or len(rows.shape) != len(weight.shape) or len(rows.shape) < 3:
        return None
    spatial = len(rows.shape) - 2
    lists = [integers(value_at(args, index)) for index in (3, 4, 5, 7)]
    if any(values is None for values in lists[:3]):
        return None
    stride, padding, dilation, extra = (repeat_to(values or (0,), spatial) for values in lists)
    transposed, groups = value_at(args, 6), value_at(args, 8)
    if not isinstance(transposed, bool) or not isinstance(groups, int) or min(stride) < 1:
        return None
    shape = []
    for axis in range(spatial):
        window = dilation[axis] * (weight.shape[axis + 2] - 1) + 1
        size = rows.shape[axis + 2]
        if transposed:
            shape.append((size - 1) * stride[axis] - 2 * padding[axis] + window + extra[axis])
        else:
            shape.append((size + 2 * padding[axis] - window) // stride[axis] + 1)
    if min(shape) < 0:
        return None
    channels = weight.shape[1] * groups if transposed else weight.shape[0]
    return (meta((rows.shape[0], channels, *shape), rows.dtype),)


def _attention(_: str, args: Args) -> Outputs | None:
    query, value = tensor_at(args, 0), tensor_at(args, 2)
    if query is None or value is None or not query.shape or not value.shape:
        return None
    return (meta((*query.shape[:-1], value.shape[-1]), query.dtype),)


RULES: dict[str, Callable[[str, Args], Outputs | None]] = {
    **dict.fromkeys(_PRODUCTS.split(), _product),
    "linear": _linear,
    "matmul": _matmul,
    **dict.fromkeys(("mv", "dot", "vdot"), _vector_product),
    **dict.fromkeys(_CONVOLUTIONS.split(), _convolution),
    **dict.fromkeys(
        _ATTENTIONS.split(),
        _attention,
    ),
}
