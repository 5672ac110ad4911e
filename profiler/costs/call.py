"""`AtenCall` and `TensorMeta`: what a cost rule sees of a call, wherever the call was recorded."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from profiler.errors import TraceError
from profiler.op import Operand, dtype_bits
from workloads.roles import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorMeta:
    """Shape, strides (None: contiguous), dtype and role of one tensor."""

    shape: tuple[int, ...]
    dtype: str
    strides: tuple[int, ...] | None = None
    role: Role = "activations"

    @property
    def elements(self) -> int:
        """Number of elements that it shows, repeats of an expanded dimension included."""
        return prod(self.shape)

    @property
    def stored_bytes(self) -> int:
        """Bytes of its distinct elements: an expanded dimension (stride 0) is stored once.

        >>> TensorMeta(shape=(4, 8), dtype="float32", strides=(0, 1)).stored_bytes
        32
        """
        if self.strides is None:
            distinct = self.elements
        else:
            distinct = prod(n for n, stride in zip(self.shape, self.strides, strict=True) if stride != 0 or n == 0)
        return (distinct * dtype_bits(self.dtype) + 7) // 8

    def operand(self, moved_bytes: int | None = -1) -> Operand:
        """As an operand that moves all of its stored bytes, or as many as given (None: nobody knows)."""
        moved = self.stored_bytes if moved_bytes == -1 else moved_bytes
        return Operand(shape=self.shape, dtype=self.dtype, role=self.role, moved_bytes=moved)


@dataclass(frozen=True, slots=True, kw_only=True)
class AtenCall:
    """One call as recorded: `args` hold TensorMeta, tuples of them, numbers, strings, None in the schema's order.

    Attributes:
        name: ATen name without overload, for example `aten::mm`.
        args: positional arguments.
        kwargs: keyword arguments as (name, value) pairs.
        outputs: the tensors returned.
        is_pointwise: the framework says that this is an elementwise operation.
    """

    name: str
    args: tuple[object, ...] = ()
    kwargs: tuple[tuple[str, object], ...] = ()
    outputs: tuple[TensorMeta, ...] = ()
    is_pointwise: bool = False

    def tensors(self) -> Iterator[TensorMeta]:
        """Every input tensor in argument order, those inside lists included, keyword arguments last."""
        for value in (*self.args, *(value for _, value in self.kwargs)):
            if isinstance(value, TensorMeta):
                yield value
            elif isinstance(value, tuple):
                yield from (item for item in value if isinstance(item, TensorMeta))

    def tensor(self, index: int) -> TensorMeta:
        """The positional argument `index`, which must be a tensor.

        Raises:
            TraceError: it is none.
        """
        value = self.args[index] if index < len(self.args) else None
        if not isinstance(value, TensorMeta):
            raise TraceError(f"{self.name}: argument {index} must be a tensor, got {value!r}")
        return value

    def argument(self, index: int, name: str, default: object = None) -> object:
        """The positional argument `index`, else the keyword argument `name`, else `default`."""
        if index < len(self.args):
            return self.args[index]
        return dict(self.kwargs).get(name, default)

    @property
    def output(self) -> TensorMeta:
        """The first output.

        Raises:
            TraceError: the call has no output tensor.
        """
        if not self.outputs:
            raise TraceError(f"{self.name}: has no output tensor")
        return self.outputs[0]


def base_name(name: str) -> str:
    """Rule name of an ATen op: without namespace, overload and the in-place underscore.

    >>> base_name("aten::add_.Tensor"), base_name("aten::__and__"), base_name("c10d::allreduce_")
    ('add', '__and__', 'allreduce')
    """
    short = name.rpartition("::")[2].partition(".")[0]
    if short.endswith("_") and not short.startswith("__"):
        return short.removesuffix("_")
    return short
