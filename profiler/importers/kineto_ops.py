"""Builds the `Op` of each launched call: recorded inputs, inferred outputs, guessed roles, then the cost rules."""

import re
from collections.abc import Sequence
from dataclasses import replace

from profiler.costs.call import AtenCall, TensorMeta, base_name
from profiler.costs.pointwise import FLOPS_PER_ELEMENT
from profiler.costs.rules import build_op, has_rule
from profiler.errors import TraceError
from profiler.importers.dtypes import FOREIGN_DTYPES
from profiler.importers.kineto_arguments import (
    UnreadableInputError,
    canonical_arguments,
    has_shapes,
    read_arguments,
    split_out,
    unwrap_numbers,
)
from profiler.importers.kineto_file import DeviceSpan, HostSpan, get_arg
from profiler.importers.kineto_links import COMMUNICATION_OP, is_collective_kernel
from profiler.importers.kineto_nesting import NONE, Nesting
from profiler.importers.shapes.arguments import Args
from profiler.importers.shapes.inference import infer_outputs
from profiler.importers.unknown_ops import collective_op, copy_op, opaque_op
from profiler.importers.weight_roles import mark_weights, output_role
from profiler.op import Op, dtype_bits

_LARGEST_COUNT = 2**63 - 1
# PyTorch's copy kernels move elements of a type known only by its width in bytes.
_OPAQUE_WIDTH = re.compile(r"OpaqueType<(\d{1,2})u?>")


class OpBuilder:
    """Builds ops of one trace, each distinct recorded call once."""

    def __init__(self, ops: Nesting) -> None:
        self._ops = ops
        self._built: dict[tuple[str, ...], Op] = {}
        self._dtypes = _recorded_dtypes(ops.spans)
        self._vocabulary_rows = _vocabulary_rows(ops.spans)

    def build(self, anchor: int, kernels: Sequence[DeviceSpan]) -> Op:
        """The op of one call: what the CPU op `anchor` asked for, or what its kernels tell where there is none."""
        if anchor == NONE:
            return self._without_op(kernels[0])
        span = self._ops.spans[anchor]
        if span.name == COMMUNICATION_OP or any(is_collective_kernel(kernel.name) for kernel in kernels):
            return collective_op(self._collective_name(anchor), *(k.args for k in kernels), span.args)
        only_copies = all(kernel.category != "kernel" for kernel in kernels)
        if only_copies and (not has_shapes(span.args) or not has_rule(span.name)):
            largest = max(kernels, key=lambda kernel: kernel.duration_ps or 0)
            return copy_op(largest)
        list_dtype = self._list_dtype(kernels)
        inside_embedding = any(self._ops.spans[i].name == "aten::embedding" for i in self._ops.chain(anchor))
        recorded = (get_arg(span.args, name) for name in ("Input Dims", "Input type", "Input Strides"))
        key = (span.name, *map(repr, recorded), repr(get_arg(span.args, "Concrete Inputs")), f"{list_dtype}")
        key = (*key, str(inside_embedding))
        if key not in self._built:
            self._built[key] = self._from_inputs(span, list_dtype, inside_embedding)
        return self._built[key]

    def _without_op(self, kernel: DeviceSpan) -> Op:
        if is_collective_kernel(kernel.name):
            return collective_op(kernel.name, kernel.args)
        return opaque_op(kernel.name) if kernel.category == "kernel" else copy_op(kernel)

    def _collective_name(self, anchor: int) -> str:
        """The op that asked for the collective, `c10d::allreduce_`, of which the record holds only the sizes."""
        names = [self._ops.spans[index].name for index in self._ops.chain(anchor)]
        return next((name for name in names if name.startswith("c10d::")), names[0])

    def _from_inputs(self, span: HostSpan, list_dtype: str | None, inside_embedding: bool) -> Op:
        if not has_shapes(span.args):
            return opaque_op(span.name)
        try:
            args = read_arguments(span.args, list_dtype=list_dtype)
        except UnreadableInputError:
            return opaque_op(span.name)
        args, out = split_out(span.name, args)
        args = mark_weights(span.name, args, inside_embedding=inside_embedding)
        args = canonical_arguments(span.name, args)
        if base_name(span.name) in FLOPS_PER_ELEMENT:
            args = unwrap_numbers(args)
        return self._cost(span.name, args, out)

    def _cost(self, name: str, args: Args, out: TensorMeta | None) -> Op:
        call = AtenCall(name=name, args=args)
        try:
            outputs = infer_outputs(name, args)
            if not has_rule(name) or outputs is None:
                return opaque_op(name, tuple(call.tensors()))
            if out is not None:
                outputs = (replace(outputs[0], dtype=out.dtype), *outputs[1:])
            columns = outputs[0].shape[-1] if outputs and outputs[0].shape else 0
            role = output_role(name, columns, self._vocabulary_rows)
            outputs = tuple(replace(output, role=role) for output in outputs)
            op = build_op(replace(call, outputs=outputs))
        except (TraceError, ValueError, IndexError, TypeError, ZeroDivisionError):
            # The inputs are a stranger's and need not fit the schema that a rule expects of this op.
            return opaque_op(name, tuple(call.tensors()))
        counts = (op.flops, op.read_bytes(), op.write_bytes())
        return op if all(count is None or count <= _LARGEST_COUNT for count in counts) else opaque_op(name)

    def _list_dtype(self, kernels: Sequence[DeviceSpan]) -> str | None:
        """The dtype of tensors in lists: the only recorded dtype as wide as the elements that a copy kernel names."""
        widths = {int(match[1]) for kernel in kernels if (match := _OPAQUE_WIDTH.search(kernel.name))}
        if len(widths) != 1:
            return None
        bits = 8 * widths.pop()
        fitting = [dtype for dtype in self._dtypes if dtype_bits(dtype) == bits]
        return fitting[0] if len(fitting) == 1 else None


def _recorded_dtypes(spans: Sequence[HostSpan]) -> tuple[str, ...]:
    names: set[str] = set()
    for span in spans:
        types = get_arg(span.args, "Input type")
        if isinstance(types, list):
            names.update(kind for kind in types if isinstance(kind, str) and kind in FOREIGN_DTYPES)
    return tuple(sorted({FOREIGN_DTYPES[name] for name in names}))


def _vocabulary_rows(spans: Sequence[HostSpan]) -> int | None:
    """Rows of the largest embedding table that was read."""
    rows = [0]
    for span in spans:
        dims = get_arg(span.args, "Input Dims") if span.name == "aten::embedding" else None
        table = dims[0] if isinstance(dims, list) and dims else None
        if isinstance(table, list) and len(table) == 2 and isinstance(table[0], int):
            rows.append(table[0])
    return max(rows) or None
