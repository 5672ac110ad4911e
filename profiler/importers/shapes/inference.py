"""`infer_outputs`: what an ATen call returns, from its inputs. What cannot be inferred with certainty is None."""

from profiler.costs.call import TensorMeta, base_name
from profiler.costs.data_movement import is_in_place
from profiler.costs.pointwise import FLOPS_PER_ELEMENT
from profiler.importers.dtypes import category, promote
from profiler.importers.shapes import movement, products, rows
from profiler.importers.shapes.arguments import Args, Outputs, broadcast, meta

_COMPARISON_NAMES = "eq ne lt le gt ge logical_and logical_or logical_not logical_xor isnan isinf isfinite signbit"
_FLOAT_FUNCTION_NAMES = """\
acos asin atan atan2 cos cosh div true_divide divide erf erfc erfinv exp exp2 expm1 lgamma log log10 log1p log2
reciprocal rsqrt sigmoid sin sinh sqrt tan tanh softplus mish silu gelu elu logit xlogy logaddexp"""
_COMPARISONS = frozenset(_COMPARISON_NAMES.split())
_FLOAT_FUNCTIONS = frozenset(_FLOAT_FUNCTION_NAMES.split())
_RULES = {**products.RULES, **rows.RULES, **movement.RULES}


def infer_outputs(name: str, args: Args) -> Outputs | None:
    """What an ATen call of this name with these positional arguments returns; None where that is not certain.

    >>> left, right = TensorMeta(shape=(4, 8), dtype="bfloat16"), TensorMeta(shape=(8, 2), dtype="bfloat16")
    >>> infer_outputs("aten::mm", (left, right))
    (TensorMeta(shape=(4, 2), dtype='bfloat16', strides=None, role='activations'),)
    >>> infer_outputs("aten::nonzero", (left,)) is None
    True
    """
    short = base_name(name)
    first = args[0] if args else None
    if is_in_place(name):
        return (first,) if isinstance(first, TensorMeta) else None
    rule = _RULES.get(short)
    if rule is None and short in FLOPS_PER_ELEMENT:
        rule = _pointwise
    return rule(short, args) if rule is not None else None


def _pointwise(name: str, args: Args) -> Outputs | None:
    tensors = [value for value in args if isinstance(value, TensorMeta)]
    shape = broadcast([tensor.shape for tensor in tensors]) if tensors else None
    if shape is None:
        return None
    if name == "where":
        dtype = promote(args[1:3])
    elif name in ("masked_fill", "threshold", "clamp", "hardtanh", "dropout", "native_dropout", "threshold_backward"):
        dtype = tensors[0].dtype
    else:
        dtype = promote(args)
    if dtype is None:
        return None
    if name in _COMPARISONS:
        dtype = "bool"
    elif name in _FLOAT_FUNCTIONS and category(dtype) < 2 and "floor" not in args and "trunc" not in args:
        dtype = "float32"
    elif name in ("abs", "angle", "real", "imag") and dtype.startswith("complex"):
        dtype = "float32" if dtype == "complex64" else "float64"
    elif name in ("complex", "polar"):
        dtype = "complex64" if dtype == "float32" else "complex128"
    if name == "native_dropout":
        return meta(shape, dtype), meta(shape, "bool")
    return (meta(shape, dtype),)
