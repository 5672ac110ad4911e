"""How the operands of an elementwise operation lie in memory: which elements move one by one, and which far apart."""

from collections.abc import Sequence

from profiler.costs.call import TensorMeta
from profiler.op import dtype_bits

_NARROWED = frozenset({"float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"})
_SECTOR_BYTES = 32  # what caches of GPUs hand out at least (CUDA C++ Best Practices Guide, coalesced access)


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


def scattered_bytes(inputs: Sequence[TensorMeta], output: TensorMeta) -> int:
    """Bytes that operands take beyond their own, since their elements lie apart where the output's are neighbors.

    Neighboring threads take neighboring elements of the output. What lies in memory in another order, as a transposed
    operand does, costs each of them a whole sector. Operands that lie as the output does count nothing.

    >>> rows = TensorMeta(shape=(4, 8), dtype="bfloat16")
    >>> columns = TensorMeta(shape=(4, 8), dtype="bfloat16", strides=(1, 4))
    >>> scattered_bytes([rows, rows], rows), scattered_bytes([rows, columns], rows)
    (0, 192)
    """
    fastest = _fastest_dimension(output)
    if fastest is None:
        return 0
    total = 0
    for tensor in inputs:
        place = fastest - (len(output.shape) - len(tensor.shape))
        if place < 0 or tensor.shape[place] != output.shape[fastest]:
            continue
        step, width = _strides(tensor)[place], dtype_bits(tensor.dtype) // 8
        if step > 1:
            total += output.elements * (min(_SECTOR_BYTES, width * step) - width)
    return total


def _fastest_dimension(tensor: TensorMeta) -> int | None:
    """The dimension along which its elements are neighbors; None where there is none."""
    pairs = zip(tensor.shape, _strides(tensor), strict=True)
    return next((i for i, (length, step) in enumerate(pairs) if length > 1 and step == 1), None)


def is_contiguous(tensor: TensorMeta) -> bool:
    """Whether its elements lie row by row without gaps."""
    return _layout(tensor) == _layout(TensorMeta(shape=tensor.shape, dtype=tensor.dtype))


def _layout(tensor: TensorMeta) -> tuple[tuple[int, int], ...]:
    """(length, stride) of every dimension longer than one."""
    pairs = zip(tensor.shape, _strides(tensor), strict=True)
    return tuple((length, step) for length, step in pairs if length != 1)


def _strides(tensor: TensorMeta) -> tuple[int, ...]:
    """Strides in elements; of a tensor without any, those of rows one behind the other."""
    if tensor.strides is not None:
        return tensor.strides
    found, stride = [], 1
    for length in reversed(tensor.shape):
        found.append(stride)
        stride *= length
    return tuple(reversed(found))


def _is_dense(tensor: TensorMeta) -> bool:
    """Whether its elements fill the memory that they span."""
    return 1 + sum((length - 1) * step for length, step in _layout(tensor)) == tensor.elements
