"""`OpColumns`: ops as NumPy columns along the first axis, which broadcast against chips along the last."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiler.costs.call import base_name
from profiler.op import DTYPE_BITS, KINDS, SIZES, Op, Operand

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

# Conditions under which an op was measured or is to run, 0 where nothing is said: copies of the weights that a
# benchmark goes through in turn (none: cold caches), whether it holds the quantizing of its input, the part of its
# tokens whose keys and values it stores, and whether the library ran it with its default tile, not one tuned for it.
CONDITIONS: tuple[str, ...] = ("weight_copies", "quantizes_input", "stores_kv", "untuned")
# Sizes that a table or an op may give beyond those of its kind, 0 where it does not.
_OPTIONAL_SIZES = (
    *("window", "gated", "skew", "expert_ranks"),
    "running",  # experts of a layer that have tokens, where that is known; balanced or skewed loads say it else
    "scattered_bytes",  # sectors of operands that lie in another order than the op's output, beyond their own bytes
    "single_accesses",  # elements of all operands, where a pointwise op or a copy moves them one by one
    "single_dimensions",  # along which each of these works out its place, 0 counting as 1
    "converts",  # whether it converts each of them to another type as well
    "apart",  # a reduction over numbers that are no neighbors in memory
    "joins",  # a concatenation of parts of which one does not lie row by row
    "masked",  # attention that is given a mask as a tensor, which flash kernels do not take
    "weight_element_bytes",  # of a layer of experts whose weights are of another type than its rows
    "direct",  # a collective whose ranks all send to one another at once
    *("sequences", "update", "state", "groups", "chunk", "delta"),  # of convolutions and scans along sequences
)
SIZE_NAMES: tuple[str, ...] = (
    *dict.fromkeys(name for names in SIZES.values() for name in names),
    *_OPTIONAL_SIZES,
    *CONDITIONS,
)
DTYPES: tuple[str, ...] = tuple(DTYPE_BITS)
_SIZE_INDEX = {name: i for i, name in enumerate(SIZE_NAMES)}
_KIND_INDEX: dict[str, int] = {kind: i for i, kind in enumerate(KINDS)}
_DTYPE_INDEX = {dtype: i for i, dtype in enumerate(DTYPES)}


def _split(names: str) -> list[str]:
    return names.split()


# Elementary functions per output element, which run on special-function units. Activations of the form
# x / (1 + exp(-x)) need an exponential and a reciprocal.
SPECIAL_PER_ELEMENT: dict[str, int] = {
    **dict.fromkeys(
        _split("""acos asin atan atan2 cos cosh div divide erf erfc erfinv exp exp2 expm1 lgamma log log10 log1p log2
        pow reciprocal rsqrt sin sinh sqrt tan tanh true_divide elu celu selu"""),
        1,
    ),
    **dict.fromkeys(_split("sigmoid silu mish softplus gelu glu logit logaddexp polar log_sigmoid_forward"), 2),
}
# Elementary functions per element of a row: softmax takes one exponential; a norm takes one root per row.
_SPECIAL_PER_ROW_ELEMENT = {"softmax": 1}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpColumns:
    """Ops as columns, each [O, 1].

    Attributes:
        kind: index into `KINDS`.
        sizes: [O, sizes] in the order of `SIZE_NAMES`, 0 where the kind has no such size.
        dtype: index into `DTYPES`, the type computed in.
        input_element_bytes: of the widest of the two largest inputs.
        output_element_bytes: of the first output.
        read_bytes: known bytes read (what is unknown is missing here and flagged by `is_partial`).
        write_bytes: known bytes written, likewise.
        required_matrix_flops: matrix FLOPs that no kernel can skip.
        matrix_flops: matrix FLOPs, dense.
        vector_flops: all other FLOPs.
        special_flops: elementary functions among them, for the special-function units.
        collective_passes: how often a ring moves the payload: 2 for an all-reduce, else 1.
        is_partial: whether FLOPs or bytes are unknown in part, so that the costs are only of what is known.
    """

    kind: IntArray
    sizes: FloatArray
    dtype: IntArray
    input_element_bytes: FloatArray
    output_element_bytes: FloatArray
    read_bytes: FloatArray
    write_bytes: FloatArray
    required_matrix_flops: FloatArray
    matrix_flops: FloatArray
    vector_flops: FloatArray
    special_flops: FloatArray
    collective_passes: FloatArray
    is_partial: BoolArray

    @classmethod
    def from_ops(cls, ops: Sequence[Op]) -> "OpColumns":
        """Columns of a sequence of ops."""
        rows = [_op_row(op) for op in ops]
        table = np.array(rows, dtype=np.float64).reshape(len(rows), len(_ROW_FIELDS))
        columns: dict[str, Any] = {name: table[:, [i]] for i, name in enumerate(_ROW_FIELDS)}
        for name in ("kind", "dtype"):
            columns[name] = columns[name].astype(np.int64)
        columns["is_partial"] = columns["is_partial"].astype(np.bool_)
        sizes = np.zeros((len(rows), len(SIZE_NAMES)))
        for i, op in enumerate(ops):
            for name, value in op.sizes:
                if name in _SIZE_INDEX:
                    sizes[i, _SIZE_INDEX[name]] = value
        return cls(sizes=sizes, **columns)

    def __len__(self) -> int:
        return len(self.kind)

    def size(self, name: str) -> FloatArray:
        """One size of every op, [O, 1]."""
        return self.sizes[:, [_SIZE_INDEX[name]]]

    def take(self, index: IntArray) -> "OpColumns":
        """The ops at these positions."""
        return OpColumns(**{column.name: getattr(self, column.name)[index] for column in fields(self)})

    @property
    def moved_bytes(self) -> FloatArray:
        """Known bytes that cross the memory interface at least once, [O, 1]."""
        return self.read_bytes + self.write_bytes


_ROW_FIELDS = tuple(column.name for column in fields(OpColumns) if column.name != "sizes")


def kind_code(kind: str) -> int:
    """Index of a kind in `KINDS`."""
    return _KIND_INDEX[kind]


def _op_row(op: Op) -> tuple[float, ...]:
    """One op in the order of `_ROW_FIELDS`."""
    reads, reads_known = _sum_known(op.inputs)
    writes, writes_known = _sum_known(op.outputs)
    matrix = op.matrix_flops or 0
    own_bytes = DTYPE_BITS.get(op.dtype, 32) / 8
    output_bytes = DTYPE_BITS.get(op.outputs[0].dtype, 32) / 8 if op.outputs else own_bytes
    return (
        _KIND_INDEX[op.kind],
        _DTYPE_INDEX.get(op.dtype, _DTYPE_INDEX["float32"]),
        _input_element_bytes(op) or own_bytes,
        output_bytes,
        reads,
        writes,
        max(0, matrix - op.skippable_flops),
        matrix,
        op.vector_flops or 0,
        special_flops(op),
        2.0 if op.kind == "collective" and base_name(op.name) in ("allreduce", "all_reduce") else 1.0,
        not (reads_known and writes_known and op.matrix_flops is not None and op.vector_flops is not None),
    )


def _sum_known(operands: Iterable[Operand]) -> tuple[float, bool]:
    total, is_known = 0.0, True
    for operand in operands:
        if operand.moved_bytes is None:
            is_known = False
        else:
            total += operand.moved_bytes
    return total, is_known


def _input_element_bytes(op: Op) -> float:
    largest = sorted(op.inputs, key=lambda operand: operand.moved_bytes or 0, reverse=True)[:2]
    return max((DTYPE_BITS.get(operand.dtype, 32) / 8 for operand in largest), default=0.0)


def special_flops(op: Op) -> float:
    """Elementary functions of an op; a fused op adds those of its pointwise parts, one output element each."""
    sizes = dict(op.sizes)
    elements = sizes.get("elements", sizes.get("rows", 0) * sizes.get("columns", 0))
    if not elements and op.kind in ("gemm", "conv"):
        elements = sizes["batch"] * sizes["m"] * sizes["n"]
    per_element = sum(SPECIAL_PER_ELEMENT.get(base_name(part), 0) for part in op.name.split(" + "))
    own = elements * _SPECIAL_PER_ROW_ELEMENT.get(op.kind, 0)
    return float(own + per_element * elements)
