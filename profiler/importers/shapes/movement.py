"""Output shapes of copies, gathers, scatters, fills and random numbers."""

from collections.abc import Callable
from math import prod

from profiler.costs.call import TensorMeta
from profiler.importers.dtypes import numbered_dtype, promote
from profiler.importers.shapes.arguments import Args, Outputs, integers, meta, tensor_at, value_at

_SHAPED_LIKE_FIRST = """\
clone _to_copy contiguous tril triu flip roll zeros_like ones_like full_like rand_like randn_like randint_like
bernoulli scatter scatter_add scatter_reduce index_put index_copy index_add index_fill slice_scatter select_scatter
masked_scatter"""
_JOINS = "cat concat concatenate stack"
_CREATIONS = "zeros ones rand randn"


def _like_first(name: str, args: Args) -> Outputs | None:
    """As the first tensor; a dtype argument right behind it counts for those that take one there."""
    source = tensor_at(args, 0)
    if source is None:
        return None
    takes_dtype = name in ("_to_copy", "zeros_like", "ones_like", "rand_like", "randn_like", "empty_like")
    number = value_at(args, 2 if name == "full_like" else 1)
    dtype = numbered_dtype(number) if takes_dtype or name == "full_like" else None
    return (meta(source.shape, dtype or source.dtype),)


def _joined(name: str, args: Args) -> Outputs | None:
    """cat and stack."""
    parts = value_at(args, 0)
    if not isinstance(parts, tuple) or not parts or not all(isinstance(part, TensorMeta) for part in parts):
        return None
    tensors = [part for part in parts if isinstance(part, TensorMeta)]
    dtype = promote(tensors)
    # An empty 1-D tensor joins anything (a legacy of torch.cat).
    tensors = [tensor for tensor in tensors if tensor.shape != (0,)] or tensors[:1]
    dim_value = args[1] if len(args) > 1 else 0
    rank = len(tensors[0].shape) + (1 if name == "stack" else 0)
    if dtype is None or not isinstance(dim_value, int) or not -rank <= dim_value < rank:
        return None
    dim = dim_value % rank
    shape = list(tensors[0].shape)
    if any(len(tensor.shape) != len(shape) for tensor in tensors):
        return None
    if name == "stack":
        shape.insert(dim, len(tensors))
        return (meta(tuple(shape), dtype),) if len({tensor.shape for tensor in tensors}) == 1 else None
    if any((*t.shape[:dim], *t.shape[dim + 1 :]) != (*shape[:dim], *shape[dim + 1 :]) for t in tensors):
        return None
    shape[dim] = sum(tensor.shape[dim] for tensor in tensors)
    return (meta(tuple(shape), dtype),)


def _gathered(name: str, args: Args) -> Outputs | None:
    table, second, third = (tensor_at(args, index) for index in range(3))
    if table is None:
        return None
    if name == "embedding":
        return (meta((*second.shape, *table.shape[1:]), table.dtype),) if second is not None else None
    dim = value_at(args, 1)
    if third is None or not isinstance(dim, int) or not -len(table.shape) <= dim < len(table.shape):
        return None
    if name == "gather":
        return (meta(third.shape, table.dtype),)
    shape = list(table.shape)
    shape[dim] = prod(third.shape)
    return (meta(tuple(shape), table.dtype),)


def _created(_: str, args: Args) -> Outputs | None:
    """Zeros, ones and random numbers of a given size; without a dtype argument PyTorch's default, float32."""
    shape = integers(value_at(args, 0))
    if shape is None or min(shape, default=0) < 0:
        return None
    return (meta(shape, numbered_dtype(value_at(args, 1)) or "float32"),)


def _filled(_: str, args: Args) -> Outputs | None:
    """`full(size, value, dtype)`: without a dtype the value decides."""
    shape, value = integers(value_at(args, 0)), value_at(args, 1)
    dtype = numbered_dtype(value_at(args, 2))
    if dtype is None:
        dtype = "bool" if isinstance(value, bool) else "int64" if isinstance(value, int) else "float32"
    if shape is None or value is None or min(shape, default=0) < 0:
        return None
    return (meta(shape, dtype),)


def _arange(_: str, args: Args) -> Outputs | None:
    """`arange(end)`, `arange(start, end)`, `arange(start, end, step)`, each with four options; or with `out` last."""
    given = tensor_at(args, 3)
    count = 3 if given is not None else {5: 1, 6: 2, 7: 3}.get(len(args))
    numbers = integers(tuple(args[:count])) if count else None
    if count is None or numbers is None:
        return None
    start, end, step = ((0, *numbers, 1), (*numbers, 1), numbers)[count - 1]
    dtype = given.dtype if given is not None else numbered_dtype(args[count]) or "int64"
    return (meta((max(0, -(-(end - start) // step)),), dtype),) if step else None


def _repeated(_: str, args: Args) -> Outputs | None:
    source, repeats = tensor_at(args, 0), integers(value_at(args, 1))
    if source is None or repeats is None or len(repeats) < len(source.shape) or min(repeats, default=0) < 0:
        return None
    padded = (1,) * (len(repeats) - len(source.shape)) + source.shape
    return (meta(tuple(n * count for n, count in zip(padded, repeats, strict=True)), source.dtype),)


def _padded(_: str, args: Args) -> Outputs | None:
    source, pads = tensor_at(args, 0), integers(value_at(args, 1))
    if source is None or pads is None or len(pads) % 2 or len(pads) > 2 * len(source.shape):
        return None
    shape = list(source.shape)
    for axis in range(len(pads) // 2):
        shape[-1 - axis] += pads[2 * axis] + pads[2 * axis + 1]
    return (meta(tuple(shape), source.dtype),) if min(shape) >= 0 else None


RULES: dict[str, Callable[[str, Args], Outputs | None]] = {
    **dict.fromkeys(
        _SHAPED_LIKE_FIRST.split(),
        _like_first,
    ),
    **dict.fromkeys(_JOINS.split(), _joined),
    **dict.fromkeys(["embedding", "index_select", "gather"], _gathered),
    **dict.fromkeys(_CREATIONS.split(), _created),
    "full": _filled,
    "arange": _arange,
    "repeat": _repeated,
    "constant_pad_nd": _padded,
}
