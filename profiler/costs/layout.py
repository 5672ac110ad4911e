"""How the operands of an elementwise operation lie in memory: which elements move one by one, and which far apart."""

from collections.abc import Sequence
from itertools import pairwise

from profiler.costs.call import TensorMeta
from profiler.op import dtype_bits

_NARROWED = frozenset({"float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"})
_SECTOR_BYTES = 32  # what caches of GPUs hand out at least (CUDA C++ Best Practices Guide, coalesced access)

_BLOCK_ELEMENTS = 512  # 128 threads of 4 elements (PyTorch, `CUDALoops.cuh`)


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
    narrows = is_copy and _narrows(operands[0], output)
    if together and (len(types) <= 1 or narrows):
        return 0
    return (len(operands) + 1) * output.elements


def single_sizes(inputs: Sequence[TensorMeta], output: TensorMeta, *, is_copy: bool = False) -> dict[str, int]:
    """What a kernel does beyond moving bytes: the sizes of its op, where it moves elements one by one; else none.

    Args:
        inputs: what is read.
        output: what is written.
        is_copy: whether a conversion to another type is all there is.

    >>> rows, vector = TensorMeta(shape=(4, 8), dtype="bfloat16"), TensorMeta(shape=(8,), dtype="float32")
    >>> single_sizes([rows, vector], rows)
    {'single_accesses': 96, 'single_dimensions': 2, 'converts': 1}
    """
    count = single_accesses(inputs, output, is_copy=is_copy)
    if not count:
        return {}
    operands = [tensor for tensor in inputs if tensor.shape]
    types = {tensor.dtype for tensor in (*operands, output)} - {"bool"}
    narrows = is_copy and _narrows(operands[0], output)
    sizes = {
        "single_accesses": count,
        "single_dimensions": separate_dimensions(operands, output),
        "converts": int(len(types) > 1 and not narrows),
        "scattered_bytes": scattered_bytes(inputs, output),
    }
    return {name: size for name, size in sizes.items() if size}


def separate_dimensions(inputs: Sequence[TensorMeta], output: TensorMeta) -> int:
    """Dimensions along which an element's place is worked out: those that lie behind one another count as one.

    Two neighboring dimensions are one where every operand, the output too, goes from the end of the inner one on to
    the next step of the outer one (`coalesce_dimensions` in PyTorch's `TensorIterator.cpp`). A tensor that is repeated
    along a dimension has stride 0 there.

    >>> rows, vector = TensorMeta(shape=(4, 8), dtype="bfloat16"), TensorMeta(shape=(8,), dtype="bfloat16")
    >>> separate_dimensions([rows, rows], rows), separate_dimensions([rows, vector], rows)
    (1, 2)
    """
    strides = [element_strides(output), *(_repeated_strides(tensor, output) for tensor in inputs)]
    axes = sorted((i for i, length in enumerate(output.shape) if length != 1), key=lambda i: strides[0][i])
    breaks = [
        any(steps[outer] != steps[inner] * output.shape[inner] for steps in strides) for inner, outer in pairwise(axes)
    ]
    return 1 + sum(breaks)


def _repeated_strides(tensor: TensorMeta, output: TensorMeta) -> tuple[int, ...]:
    """A tensor's strides along the output's dimensions, 0 where it is repeated."""
    missing = len(output.shape) - len(tensor.shape)
    own = [0 if length == 1 else step for length, step in zip(tensor.shape, element_strides(tensor), strict=True)]
    return (*(0 for _ in range(missing)), *own)


def _narrows(source: TensorMeta, output: TensorMeta) -> bool:
    """Whether a copy makes floats narrower, which has kernels of its own (PyTorch, `Copy.cu`)."""
    return output.dtype in _NARROWED and dtype_bits(source.dtype) > dtype_bits(output.dtype)


def scattered_bytes(inputs: Sequence[TensorMeta], output: TensorMeta) -> int:
    """Bytes that operands take beyond their own, since their elements lie apart where the output's are neighbors.

    Neighboring threads take neighboring elements of the output. What lies in memory in another order, as a transposed
    operand does, costs each of them a whole sector, but where rows are so short that the elements of a sector are all
    among those of one block of threads. Operands that lie as the output does count nothing.

    >>> rows = TensorMeta(shape=(4, 64), dtype="bfloat16")
    >>> columns = TensorMeta(shape=(4, 64), dtype="bfloat16", strides=(1, 4))
    >>> scattered_bytes([rows, rows], rows), scattered_bytes([rows, columns], rows)
    (0, 1536)
    """
    fastest = _fastest_dimension(output)
    if fastest is None:
        return 0
    total = 0
    for tensor in inputs:
        place = fastest - (len(output.shape) - len(tensor.shape))
        if place < 0 or tensor.shape[place] != output.shape[fastest]:
            continue
        step, width = element_strides(tensor)[place], dtype_bits(tensor.dtype) // 8
        if step > 1 and output.shape[fastest] * _SECTOR_BYTES > _BLOCK_ELEMENTS * width:
            total += output.elements * (min(_SECTOR_BYTES, width * step) - width)
    return total


def _fastest_dimension(tensor: TensorMeta) -> int | None:
    """The dimension along which its elements are neighbors; None where there is none."""
    pairs = zip(tensor.shape, element_strides(tensor), strict=True)
    return next((i for i, (length, step) in enumerate(pairs) if length > 1 and step == 1), None)


def is_contiguous(tensor: TensorMeta) -> bool:
    """Whether its elements lie row by row without gaps."""
    return _layout(tensor) == _layout(TensorMeta(shape=tensor.shape, dtype=tensor.dtype))


def _layout(tensor: TensorMeta) -> tuple[tuple[int, int], ...]:
    """(length, stride) of every dimension longer than one."""
    pairs = zip(tensor.shape, element_strides(tensor), strict=True)
    return tuple((length, step) for length, step in pairs if length != 1)


def element_strides(tensor: TensorMeta) -> tuple[int, ...]:
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
