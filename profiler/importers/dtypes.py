"""Element types: foreign spellings, PyTorch's numbering, and type promotion without torch."""

from collections.abc import Sequence

from profiler.costs.call import TensorMeta
from profiler.op import DTYPE_BITS

# C++ spellings that the PyTorch profiler writes under "Input type", and the NCCL metadata's under "dtype".
FOREIGN_DTYPES: dict[str, str] = {
    "double": "float64",
    "float": "float32",
    "c10::Half": "float16",
    "c10::BFloat16": "bfloat16",
    "c10::Float8_e4m3fn": "float8_e4m3fn",
    "c10::Float8_e4m3fnuz": "float8_e4m3fn",  # AMD's variant; as wide and as fast
    "c10::Float8_e5m2": "float8_e5m2",
    "c10::Float8_e5m2fnuz": "float8_e5m2",
    "c10::complex<float>": "complex64",
    "c10::complex<double>": "complex128",
    "long int": "int64",
    "long": "int64",
    "long long": "int64",
    "int": "int32",
    "short int": "int16",
    "short": "int16",
    "signed char": "int8",
    "unsigned char": "uint8",
    "unsigned short": "uint16",
    "unsigned int": "uint32",
    "unsigned long": "uint64",
    "bool": "bool",
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Float8_e4m3fn": "float8_e4m3fn",
    "Float8_e4m3fnuz": "float8_e4m3fn",
    "Float8_e5m2": "float8_e5m2",
    "Float8_e5m2fnuz": "float8_e5m2",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
}

# c10/core/ScalarType.h: how a dtype argument is written among the "Concrete Inputs".
NUMBERED_DTYPES: dict[int, str] = {
    0: "uint8",
    1: "int8",
    2: "int16",
    3: "int32",
    4: "int64",
    5: "float16",
    6: "float32",
    7: "float64",
    9: "complex64",
    10: "complex128",
    11: "bool",
    15: "bfloat16",
    23: "float8_e5m2",
    24: "float8_e4m3fn",
    25: "float8_e5m2",
    26: "float8_e4m3fn",
    27: "uint16",
    28: "uint32",
    29: "uint64",
}


def numbered_dtype(number: object) -> str | None:
    """The dtype of PyTorch's numbering, None for what is no such number.

    >>> numbered_dtype(15), numbered_dtype(None)
    ('bfloat16', None)
    """
    return NUMBERED_DTYPES.get(number) if isinstance(number, int) and not isinstance(number, bool) else None


def category(dtype: str) -> int:
    """Rank of a dtype's category in promotion: bool 0, integers 1, floats 2, complex 3.

    >>> [category(dtype) for dtype in ("bool", "uint8", "bfloat16", "complex64")]
    [0, 1, 2, 3]
    """
    if dtype == "bool":
        return 0
    if dtype.startswith("complex"):
        return 3
    return 1 if dtype.startswith(("int", "uint")) else 2


def promote(values: Sequence[object]) -> str | None:
    """PyTorch's type promotion of tensors, zero-dimensional tensors and Python numbers; None without a tensor
    (or for half-precision complex).

    A lower class of operand changes the result only where its category is higher (torch.result_type).

    >>> promote([TensorMeta(shape=(2,), dtype="bfloat16"), TensorMeta(shape=(), dtype="float64")])
    'bfloat16'
    >>> promote([TensorMeta(shape=(2,), dtype="int64"), 0.5])
    'float32'
    """
    tensors = [value for value in values if isinstance(value, TensorMeta)]
    if not tensors:
        return None
    numbers = [value for value in values if isinstance(value, bool | int | float | complex)]
    result = ""
    for dtypes in (
        [tensor.dtype for tensor in tensors if tensor.shape],
        [tensor.dtype for tensor in tensors if not tensor.shape],
        [_number_dtype(number) for number in numbers],
    ):
        if not dtypes:
            continue
        joined = dtypes[0]
        for dtype in dtypes[1:]:
            joined = _join(joined, dtype)
        if not result or category(joined) > category(result):
            if joined == "complex64" and result == "float16":
                return None  # complex32, which is no dtype here
            result = "complex128" if joined == "complex64" and result == "float64" else joined
    return result


def _number_dtype(number: object) -> str:
    if isinstance(number, bool):
        return "bool"
    if isinstance(number, int):
        return "int64"
    return "float32" if isinstance(number, float) else "complex64"


def _join(left: str, right: str) -> str:
    """The smaller type that holds both, within PyTorch's lattice."""
    if left == right:
        return left
    if {left, right} == {"complex64", "float64"}:
        return "complex128"
    if category(left) != category(right):
        return left if category(left) > category(right) else right
    if {left, right} == {"float16", "bfloat16"}:
        return "float32"
    if {left, right} == {"uint8", "int8"}:
        return "int16"
    return left if DTYPE_BITS[left] >= DTYPE_BITS[right] else right
