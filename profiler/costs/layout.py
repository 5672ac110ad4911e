"""How the operands of an elementwise operation lie in memory, and how many of their elements move one by one."""

from collections.abc import Sequence

from profiler.costs.call import TensorMeta
from profiler.op import dtype_bits

_NARROWED = frozenset({"float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"})


def single_accesses(inputs: Sequence[TensorMeta], output: TensorMeta, *, is_copy: bool = False) -> int:
    """Elements that are read and written one by one, 0 where all operands go along memory together.

    A kernel moves several neighboring elements at once where all operands are dense, in one order and of one type.
    Else it works out the place of every element, or converts it, on its own, once for each operand. Narrowing copies
    of floats have kernels of their own (PyTorch, `Copy.cu`). Numbers count as no operand; tensors that are repeated
    along others do.

    Args:
        inputs: what is read.
        output: what is written.
        is_copy: whether a conversion to another type is all there is.

    >>> rows = TensorMeta(shape=(4, 8), dtype="bfloat16")
    >>> columns = TensorMeta(shape=(4, 8), dtype="bfloat16", strides=(1, 4))
    >>> single_accesses([rows, rows], rows), single_accesses([rows, columns], rows)
    (0, 96)
    """
    operands = [tensor for tensor in inputs if tensor.shape]
    if not operands or output.elements <= 1:
        return 0
    layout = _layout(output)
    together = _is_dense(output) and all(_layout(tensor) == layout for tensor in operands)
    types = {tensor.dtype for tensor in (*operands, output)} - {"bool"}
    narrows = is_copy and output.dtype in _NARROWED and dtype_bits(operands[0].dtype) > dtype_bits(output.dtype)
    if together and (len(types) <= 1 or narrows):
        return 0
    return (len(operands) + 1) * output.elements


def is_contiguous(tensor: TensorMeta) -> bool:
    """Whether its elements lie row by row without gaps."""
    return _layout(tensor) == _layout(TensorMeta(shape=tensor.shape, dtype=tensor.dtype))


def _layout(tensor: TensorMeta) -> tuple[tuple[int, int], ...]:
    """(length, stride) of every dimension longer than one."""
    strides = tensor.strides
    if strides is None:
        found, stride = [], 1
        for length in reversed(tensor.shape):
            found.append(stride)
            stride *= length
        strides = tuple(reversed(found))
    return tuple((length, step) for length, step in zip(tensor.shape, strides, strict=True) if length != 1)


def _is_dense(tensor: TensorMeta) -> bool:
    """Whether its elements fill the memory that they span."""
    return 1 + sum((length - 1) * step for length, step in _layout(tensor)) == tensor.elements
