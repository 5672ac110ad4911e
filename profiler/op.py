"""`Op`: one distinct operation, what was asked of any machine; and `Operand`, a tensor that it reads or writes."""

from dataclasses import dataclass
from typing import Literal, get_args

from profiler.errors import TraceError
from workloads.roles import Role

Kind = Literal[
    "gemm",
    "attention",
    "conv",
    "pointwise",
    "reduction",
    "norm",
    "softmax",
    "gather",
    "scatter",
    "sort",
    "topk",
    "scan",
    "random",
    "copy",
    "collective",
    "moe",
    "unknown",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
MATRIX_KINDS: frozenset[str] = frozenset({"gemm", "attention", "conv", "moe"})

# Sizes that every op of a kind carries in `Op.sizes`; the cost model and the kernel models read no others.
SIZES: dict[str, tuple[str, ...]] = {
    "gemm": ("batch", "m", "n", "k"),
    "attention": ("batch", "heads", "kv_heads", "queries", "keys", "head_dim", "value_dim", "causal"),
    "conv": ("batch", "m", "n", "k"),  # as implicit GEMM; batch counts the groups
    "pointwise": ("elements",),
    "reduction": ("rows", "columns"),
    "norm": ("rows", "columns"),
    "softmax": ("rows", "columns"),
    "gather": ("rows", "row_bytes"),
    "scatter": ("rows", "row_bytes"),
    "sort": ("rows", "columns"),
    "topk": ("rows", "columns", "k"),
    "scan": ("rows", "columns"),
    "random": ("elements",),
    "copy": ("elements",),
    "collective": ("elements", "ranks"),
    "moe": ("tokens", "hidden", "inter", "experts", "topk"),  # a layer of experts in one fused kernel
    "unknown": (),
}

DTYPE_BITS: dict[str, int] = {
    "float64": 64,
    "float32": 32,
    "tfloat32": 32,
    "bfloat16": 16,
    "float16": 16,
    "float8_e4m3fn": 8,
    "float8_e5m2": 8,
    "float4_e2m1fn": 4,
    "int64": 64,
    "int32": 32,
    "int16": 16,
    "int8": 8,
    "int4": 4,
    "uint8": 8,
    "uint16": 16,
    "uint32": 32,
    "uint64": 64,
    "bool": 8,
    "complex64": 64,
    "complex128": 128,
}


def dtype_bits(dtype: str) -> int:
    """Width of one element in bits (4-bit types exist).

    Raises:
        TraceError: there is no such dtype.

    >>> dtype_bits("bfloat16")
    16
    """
    try:
        return DTYPE_BITS[dtype]
    except KeyError:
        raise TraceError(f"unknown dtype {dtype!r}; known: {', '.join(DTYPE_BITS)}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """A tensor that an op reads or writes, and how many of its bytes cross the memory interface.

    `moved_bytes` may be less than the tensor holds (a gather reads the selected rows, an expanded tensor its distinct
    elements), and is None where nobody knows.
    """

    shape: tuple[int, ...]
    dtype: str
    role: Role = "activations"
    moved_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One distinct operation: what was asked, and nothing of any machine.

    Attributes:
        kind: canonical kind, one of `KINDS`.
        name: the foreign name, for example `aten::mm`; several joined by ` + ` where ops were fused.
        dtype: the type computed in.
        inputs: tensors read, in argument order.
        outputs: tensors written.
        sizes: the sizes that `SIZES` names for this kind, as (name, value) pairs.
        matrix_flops: FLOPs of matrix products (a multiply-add is 2), dense; None where unknown.
        vector_flops: all other FLOPs; None where unknown. Each elementary function counts as documented in
            `profiler.costs.pointwise`.
        skippable_flops: the part of `matrix_flops` that a causal mask lets a kernel skip.
    """

    kind: Kind
    name: str
    dtype: str
    inputs: tuple[Operand, ...] = ()
    outputs: tuple[Operand, ...] = ()
    sizes: tuple[tuple[str, int], ...] = ()
    matrix_flops: int | None = 0
    vector_flops: int | None = 0
    skippable_flops: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise TraceError(f"op {self.name!r}: kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        missing = set(SIZES[self.kind]) - {name for name, _ in self.sizes}
        if missing:
            raise TraceError(f"op {self.name!r} of kind {self.kind}: sizes lack {', '.join(sorted(missing))}")

    def size(self, name: str) -> int:
        """One of this op's sizes by name.

        Raises:
            TraceError: ops of this kind have no such size.
        """
        for key, value in self.sizes:
            if key == name:
                return value
        raise TraceError(f"op {self.name!r} of kind {self.kind} has no size {name!r}")

    @property
    def flops(self) -> int | None:
        """All FLOPs, dense (as the field's counters count: a causal mask halves nothing), None where unknown."""
        if self.matrix_flops is None or self.vector_flops is None:
            return None
        return self.matrix_flops + self.vector_flops

    @property
    def required_flops(self) -> int | None:
        """FLOPs that no implementation can avoid: `flops` less what a causal mask lets a kernel skip."""
        return None if self.flops is None else self.flops - self.skippable_flops

    def read_bytes(self, role: Role | None = None) -> int | None:
        """Bytes read through memory, of one role or of all; None where unknown."""
        return _moved_bytes(self.inputs, role)

    def write_bytes(self, role: Role | None = None) -> int | None:
        """Bytes written through memory, of one role or of all; None where unknown."""
        return _moved_bytes(self.outputs, role)


def _moved_bytes(operands: tuple[Operand, ...], role: Role | None) -> int | None:
    """Sum over one side of an op; where one of its tensors is unknown, so is the share of every role."""
    total = 0
    for operand in operands:
        if operand.moved_bytes is None:
            return None
        if role is None or operand.role == role:
            total += operand.moved_bytes
    return total
