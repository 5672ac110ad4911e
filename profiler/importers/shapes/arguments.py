"""Reading the positional arguments of a recorded call, and broadcasting."""

from profiler.costs.call import TensorMeta

Args = tuple[object, ...]
Outputs = tuple[TensorMeta, ...]


def meta(shape: tuple[int, ...], dtype: str) -> TensorMeta:
    """A contiguous tensor of this shape and dtype."""
    return TensorMeta(shape=shape, dtype=dtype)


def tensor_at(args: Args, index: int) -> TensorMeta | None:
    """The tensor at this position, None where there is none."""
    value = args[index] if index < len(args) else None
    return value if isinstance(value, TensorMeta) else None


def value_at(args: Args, index: int) -> object:
    """The argument at this position, None where there is none."""
    return args[index] if index < len(args) else None


def integers(value: object) -> tuple[int, ...] | None:
    """A number or a list of numbers as a tuple; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    if isinstance(value, tuple) and all(isinstance(item, int) and not isinstance(item, bool) for item in value):
        return value
    return None


def repeat_to(values: tuple[int, ...], count: int) -> tuple[int, ...]:
    """One number given for all axes, or one for each."""
    return values * count if len(values) == 1 else values[:count]


def broadcast(shapes: list[tuple[int, ...]]) -> tuple[int, ...] | None:
    """The common shape of operands, None where they do not fit.

    >>> broadcast([(16, 1, 4), (3, 1)])
    (16, 3, 4)
    >>> broadcast([(2,), (3,)]) is None
    True
    """
    rank = max((len(shape) for shape in shapes), default=0)
    result = []
    for position in range(rank):
        sizes = {shape[position - rank + len(shape)] for shape in shapes if position - rank + len(shape) >= 0} - {1}
        if len(sizes) > 1:
            return None
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)
