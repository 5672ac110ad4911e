"""Turns the recorded inputs of a CPU op (dims, types, strides, concrete values) into the arguments of an `AtenCall`."""

import json
from collections.abc import Mapping
from typing import Any

from profiler.costs.call import TensorMeta, base_name
from profiler.importers.dtypes import FOREIGN_DTYPES
from profiler.importers.kineto_file import get_arg
from profiler.importers.shapes.arguments import Args

# No tensor of a real program is larger; a size above this is a fault of the file.
_LARGEST_ELEMENT_COUNT = 2**48
_TENSOR_LISTS = ("TensorList", "GenericList")
# Where `out=` stands among the recorded inputs: behind the arguments of the functional form.
_OUT_POSITION = {
    "mm": 2,
    "bmm": 2,
    "addmm": 5,
    "mul": 2,
    "div": 2,
    "add": 3,
    "sub": 3,
    "cat": 2,
    "index_select": 3,
}


class UnreadableInputError(Exception):
    """The recorded inputs of an op make no sense (negative or impossible sizes, lists that do not match)."""


def has_shapes(args: Mapping[str, Any]) -> bool:
    """Whether the shapes of an op's inputs were recorded."""
    return isinstance(get_arg(args, "Input Dims"), list)


def read_arguments(args: Mapping[str, Any], *, list_dtype: str | None = None) -> Args:
    """Positional arguments in the schema's order: tensors, tuples of them, numbers, lists, strings, None.

    Args:
        args: the arguments of a CPU op's event.
        list_dtype: dtype of tensors inside lists, which the profiler does not record; None where nobody knows.

    Raises:
        UnreadableInputError: where sizes are negative or impossible, or a dtype is unknown.
    """
    dims, types = get_arg(args, "Input Dims"), get_arg(args, "Input type")
    strides, concrete = get_arg(args, "Input Strides"), get_arg(args, "Concrete Inputs")
    if not isinstance(dims, list) or not isinstance(types, list) or len(dims) != len(types):
        raise UnreadableInputError("dims and types do not match")
    strides = strides if isinstance(strides, list) and len(strides) == len(dims) else [None] * len(dims)
    concrete = concrete if isinstance(concrete, list) and len(concrete) == len(dims) else [""] * len(dims)
    return tuple(
        _argument(shape, str(kind), stride, value, list_dtype)
        for shape, kind, stride, value in zip(dims, types, strides, concrete, strict=True)
    )


def _argument(shape: Any, kind: str, strides: Any, concrete: Any, list_dtype: str | None) -> object:
    if kind in FOREIGN_DTYPES:
        return _tensor(shape, FOREIGN_DTYPES[kind], strides)
    if kind in _TENSOR_LISTS and isinstance(shape, list) and shape and all(isinstance(item, list) for item in shape):
        if list_dtype is None:
            raise UnreadableInputError("the dtype of tensors in a list is not recorded")
        rows = strides if isinstance(strides, list) and len(strides) == len(shape) else [None] * len(shape)
        return tuple(_tensor(item, list_dtype, row) for item, row in zip(shape, rows, strict=True))
    if shape:
        raise UnreadableInputError(f"unknown type {kind!r} of a tensor")
    return _concrete(concrete)


def _tensor(shape: Any, dtype: str, strides: Any) -> TensorMeta:
    if not isinstance(shape, list) or not all(_is_size(size) for size in shape):
        raise UnreadableInputError(f"sizes must be whole numbers >= 0, got {str(shape)[:80]}")
    elements = 1
    for size in shape:
        elements *= size
    if elements > _LARGEST_ELEMENT_COUNT:
        raise UnreadableInputError(f"sizes are impossible: {str(shape)[:80]}")
    known = isinstance(strides, list) and len(strides) == len(shape) and all(_is_size(stride) for stride in strides)
    return TensorMeta(shape=tuple(shape), dtype=dtype, strides=tuple(strides) if known else None)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_ELEMENT_COUNT


def _concrete(text: Any) -> object:
    """A scalar or list of scalars as the profiler writes it (`-1`, `True`, `0.125`, `[1, -1]`, empty for None)."""
    if not isinstance(text, str) or not text or len(text) > 1000:
        return None
    try:
        value = json.loads(text.replace("True", "true").replace("False", "false").replace(".]", ".0]"))
    except (ValueError, RecursionError):
        return _number(text)
    return tuple(value) if isinstance(value, list) else value


def _number(text: str) -> object:
    """What JSON does not know: `0.`, `inf`; any other text stays text."""
    try:
        return float(text)
    except ValueError:
        return text


def split_out(name: str, args: Args) -> tuple[Args, TensorMeta | None]:
    """Arguments without a trailing `out=` tensor, and that tensor."""
    position = _OUT_POSITION.get(base_name(name))
    if position is None or len(args) != position + 1:
        return args, None
    last = args[position]
    return (args[:position], last) if isinstance(last, TensorMeta) else (args, None)


def canonical_arguments(name: str, args: Args) -> Args:
    """Arguments in the order that the cost rules read; the vendor convolutions order theirs differently.

    `cudnn_convolution(x, w, padding, stride, dilation, groups, ...)`, `miopen_convolution` and `mkldnn_convolution`
    `(x, w, bias, padding, stride, dilation, groups, ...)` become `convolution(x, w, bias, stride, padding, dilation,
    transposed, output_padding, groups)`.
    """
    short = base_name(name)
    if short == "cudnn_convolution" and len(args) >= 6:
        padding, stride, dilation, groups = args[2:6]
        return (args[0], args[1], None, stride, padding, dilation, False, (0,), groups)
    if short in ("miopen_convolution", "mkldnn_convolution") and len(args) >= 7:
        padding, stride, dilation, groups = args[3:7]
        return (args[0], args[1], args[2], stride, padding, dilation, False, (0,), groups)
    return args


def unwrap_numbers(args: Args) -> Args:
    """Python numbers that arrived as zero-dimensional tensors, as numbers: `x * 0.5` records a `double` beside `x`.

    A number sits in the kernel's arguments and moves no memory. A zero-dimensional float64 or int64 tensor beside a
    tensor that is no float64 is taken for one. Its value is not recorded; only its type matters, so 0 stands for it.
    """
    shaped = {arg.dtype for arg in args if isinstance(arg, TensorMeta) and arg.shape}
    if not shaped or "float64" in shaped:
        return args
    numbers = {"float64": 0.0, "int64": 0}
    return tuple(numbers.get(arg.dtype, arg) if isinstance(arg, TensorMeta) and not arg.shape else arg for arg in args)
