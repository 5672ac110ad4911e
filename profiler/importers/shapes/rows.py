"""Output shapes of operations over rows: reductions, norms, softmax, sorting, scans and pooling."""

from collections.abc import Callable

from profiler.costs.call import TensorMeta
from profiler.importers.dtypes import category, numbered_dtype, promote
from profiler.importers.shapes.arguments import Args, Outputs, broadcast, integers, meta, repeat_to, tensor_at, value_at

_REDUCTIONS = """\
sum nansum mean amax amin max min aminmax argmax argmin all any prod count_nonzero norm linalg_vector_norm var std
var_mean std_mean logsumexp equal"""
_SOFTMAXES = "_softmax softmax _log_softmax log_softmax _safe_softmax"
_ORDERINGS = "sort argsort cumsum cumprod cummax cummin logcumsumexp"
_NORMS = """\
native_layer_norm layer_norm native_group_norm group_norm native_batch_norm _native_batch_norm_legit
_native_batch_norm_legit_no_training cudnn_batch_norm batch_norm rms_norm _fused_rms_norm"""
_POOLINGS = "max_pool2d_with_indices avg_pool2d adaptive_avg_pool2d _adaptive_avg_pool2d"


def _reduction(name: str, args: Args) -> Outputs | None:
    """`name(x)`, `name(x, dtype)`, `name(x, dim, keepdim, ...)`; linalg_vector_norm and norm take their order first."""
    source = tensor_at(args, 0)
    if source is None:
        return None
    if name in ("max", "min") and tensor_at(args, 1) is not None:
        return _elementwise_pair(args)
    rest = args[2:] if name in ("norm", "linalg_vector_norm") else args[1:]
    is_dtype = len(rest) == 1 and name in ("sum", "mean", "prod", "nansum") and not isinstance(rest[0], tuple)
    alone = len(rest) == 0 or is_dtype
    dims = None if alone else rest[0]
    shape = _reduced(source.shape, dims, keeps_dims=_keeps_dims(name, rest))
    dtype = _reduced_dtype(name, source.dtype, rest)
    if shape is None or dtype is None:
        return None
    out = meta(shape, dtype)
    if name in ("max", "min") and not alone:
        return out, meta(shape, "int64")
    return (out, out) if name in ("var_mean", "std_mean", "aminmax") else (out,)


def _elementwise_pair(args: Args) -> Outputs | None:
    tensors = [value for value in args if isinstance(value, TensorMeta)]
    shape, dtype = broadcast([tensor.shape for tensor in tensors]), promote(tensors)
    return None if shape is None or dtype is None else (meta(shape, dtype),)


def _keeps_dims(name: str, rest: Args) -> bool:
    """`keepdim` follows the dims; behind a correction for the variances."""
    position = 2 if name in ("var", "std", "var_mean", "std_mean") else 1
    return len(rest) > position and rest[position] is True


def _reduced(shape: tuple[int, ...], dims: object, *, keeps_dims: bool) -> tuple[int, ...] | None:
    """The shape with these dims reduced; no dims or an empty list reduce all."""
    chosen = tuple(range(len(shape))) if dims is None or dims == () else integers(dims)
    rank = max(1, len(shape))
    if chosen is None or any(not -rank <= dim < rank for dim in chosen):
        return None
    gone = {dim % rank for dim in chosen}
    if keeps_dims:
        return tuple(1 if axis in gone else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in gone)


def _reduced_dtype(name: str, dtype: str, rest: Args) -> str | None:
    if name in ("argmax", "argmin", "count_nonzero"):
        return "int64"
    if name in ("all", "any", "equal"):
        return "uint8" if dtype == "uint8" and name != "equal" else "bool"
    if name in ("sum", "mean", "prod", "nansum", "norm", "linalg_vector_norm"):
        asked = rest[0] if len(rest) == 1 and not isinstance(rest[0], tuple) else rest[2] if len(rest) > 2 else None
        if isinstance(asked, int):
            return numbered_dtype(asked)
        return "int64" if name in ("sum", "prod") and category(dtype) < 2 else dtype
    return dtype


def _softmax(_: str, args: Args) -> Outputs | None:
    """`_softmax(x, dim, half_to_float)` and `softmax(x, dim, dtype)`."""
    source, last = tensor_at(args, 0), value_at(args, 2)
    if source is None:
        return None
    asked = "float32" if last is True else numbered_dtype(last)
    return (meta(source.shape, asked or source.dtype),)


def _ordered(name: str, args: Args) -> Outputs | None:
    """sort and the scans that return positions too; argsort returns nothing else, the sums no positions."""
    source = tensor_at(args, 0)
    if source is None:
        return None
    values, positions = meta(source.shape, source.dtype), meta(source.shape, "int64")
    if name == "argsort":
        return (positions,)
    if name in ("cumsum", "cumprod") and category(source.dtype) < 2:
        values = positions
    if name in ("cumsum", "cumprod", "logcumsumexp"):
        asked = numbered_dtype(value_at(args, 2))
        return (meta(source.shape, asked) if asked else values,)
    return values, positions


def _topk(_: str, args: Args) -> Outputs | None:
    source, k, dim = tensor_at(args, 0), value_at(args, 1), args[2] if len(args) > 2 else -1
    if source is None or not isinstance(k, int) or not isinstance(dim, int):
        return None
    rank = len(source.shape)
    if not -rank <= dim < rank or not 0 <= k <= source.shape[dim]:
        return None
    shape = tuple(k if axis == dim % rank else size for axis, size in enumerate(source.shape))
    return meta(shape, source.dtype), meta(shape, "int64")


def _norm(name: str, args: Args) -> Outputs | None:
    source = tensor_at(args, 0)
    if source is None:
        return None
    out = meta(source.shape, source.dtype)
    if "batch_norm" in name and name != "batch_norm" and len(source.shape) > 1:
        statistics = meta((source.shape[1],), "float32" if source.dtype in ("float16", "bfloat16") else source.dtype)
        return out, statistics, statistics
    return (out,)


def _pooled(name: str, args: Args) -> Outputs | None:
    source = tensor_at(args, 0)
    sizes = [integers(value_at(args, index)) for index in range(1, 5)]
    if source is None or sizes[0] is None or len(source.shape) < 3:
        return None
    dims = 2
    if "adaptive" in name:
        return (meta((*source.shape[:-dims], *repeat_to(sizes[0], dims)), source.dtype),)
    is_max = name.startswith("max")
    ceil_mode = value_at(args, 5 if is_max else 4)
    if ceil_mode is True or len(source.shape) < dims + 1:
        return None
    window, padding = repeat_to(sizes[0], dims), repeat_to(sizes[2] or (0,), dims)
    stride = repeat_to(sizes[1] or sizes[0], dims)
    dilation = repeat_to((sizes[3] if is_max else None) or (1,), dims)
    if min(stride) < 1:
        return None
    shape = tuple(
        (size + 2 * padding[i] - dilation[i] * (window[i] - 1) - 1) // stride[i] + 1
        for i, size in enumerate(source.shape[-dims:])
    )
    if min(shape) < 0:
        return None
    out = meta((*source.shape[:-dims], *shape), source.dtype)
    return (out, meta(out.shape, "int64")) if is_max else (out,)


RULES: dict[str, Callable[[str, Args], Outputs | None]] = {
    **dict.fromkeys(
        _REDUCTIONS.split(),
        _reduction,
    ),
    **dict.fromkeys(_SOFTMAXES.split(), _softmax),
    **dict.fromkeys(_ORDERINGS.split(), _ordered),
    **dict.fromkeys(
        _NORMS.split(),
        _norm,
    ),
    "topk": _topk,
    **dict.fromkeys(_POOLINGS.split(), _pooled),
}
