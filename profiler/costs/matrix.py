"""Cost of matrix products and convolutions."""

from collections.abc import Callable
from dataclasses import replace
from math import prod

from profiler.costs.call import AtenCall, TensorMeta
from profiler.op import Kind, Op


def product_op(
    call: AtenCall, *, kind: Kind, batch: int, m: int, n: int, k: int, added: int = 0, flops: int | None = None
) -> Op:
    """A product `[batch, m, k] x [batch, k, n]` of 2*batch*m*n*k FLOPs unless given, and `added` FLOPs of epilogue."""
    return Op(
        kind=kind,
        name=call.name,
        dtype=call.output.dtype if call.output.dtype != "int32" else next(call.tensors()).dtype,
        inputs=tuple(tensor.operand() for tensor in call.tensors()),
        outputs=tuple(tensor.operand() for tensor in call.outputs),
        sizes=(("batch", batch), ("m", m), ("n", n), ("k", k)),
        matrix_flops=2 * batch * m * n * k if flops is None else flops,
        vector_flops=added,
    )


def _mm(call: AtenCall) -> Op:
    left, right = call.tensor(0), call.tensor(1)
    return product_op(call, kind="gemm", batch=1, m=left.shape[0], n=right.shape[1], k=left.shape[1])


def _addmm(call: AtenCall) -> Op:
    left, right = call.tensor(1), call.tensor(2)
    added = call.output.elements
    return product_op(call, kind="gemm", batch=1, m=left.shape[0], n=right.shape[1], k=left.shape[1], added=added)


def _bmm(call: AtenCall) -> Op:
    left, right = call.tensor(0), call.tensor(1)
    batch, m, k = left.shape
    return product_op(call, kind="gemm", batch=batch, m=m, n=right.shape[2], k=k)


def _baddbmm(call: AtenCall) -> Op:
    left, right = call.tensor(1), call.tensor(2)
    batch, m, k = left.shape
    return product_op(call, kind="gemm", batch=batch, m=m, n=right.shape[2], k=k, added=call.output.elements)


def _linear(call: AtenCall) -> Op:
    rows, weight = call.tensor(0), call.tensor(1)
    n, k = weight.shape if len(weight.shape) == 2 else (1, weight.shape[0])
    has_bias = isinstance(call.argument(2, "bias"), TensorMeta)
    added = call.output.elements if has_bias else 0
    return product_op(call, kind="gemm", batch=1, m=rows.elements // max(1, k), n=n, k=k, added=added)


def _matmul(call: AtenCall) -> Op:
    left, right = call.tensor(0), call.tensor(1)
    k = left.shape[-1]
    n = right.shape[-1] if len(right.shape) > 1 else 1
    if len(right.shape) <= 2:
        return product_op(call, kind="gemm", batch=1, m=left.elements // max(1, k), n=n, k=k)
    m = left.shape[-2] if len(left.shape) > 1 else 1
    batch = call.output.elements // max(1, m * n)
    return product_op(call, kind="gemm", batch=batch, m=m, n=n, k=k)


def _mv(call: AtenCall) -> Op:
    m, k = call.tensor(0).shape
    return product_op(call, kind="gemm", batch=1, m=m, n=1, k=k)


def _dot(call: AtenCall) -> Op:
    return product_op(call, kind="gemm", batch=1, m=1, n=1, k=call.tensor(0).elements)


def _grouped_mm(call: AtenCall) -> Op:
    """A product for each group of rows, as mixtures of experts use it: [M, K] x [G, K, N], groups by row offsets.

    Where a dimension is cut by offsets only its sum is known: every group is taken to have an equal part, and every
    matrix to be read. The other forms cut N ([G, M, K] x [K, N]), K ([M, K] x [K, N]) or nothing.
    """
    left, right = call.tensor(0), call.tensor(1)
    m, k, n = left.shape[-2], left.shape[-1], right.shape[-1]
    if len(left.shape) == len(right.shape) == 3:
        return product_op(call, kind="gemm", batch=left.shape[0], m=m, n=n, k=k)
    groups = max(tensor.shape[0] for tensor in (left, right, call.output) if len(tensor.shape) == 3)
    cut = {(2, 3): "m", (3, 2): "n", (2, 2): "k"}[len(left.shape), len(right.shape)]
    sizes = {"m": m, "n": n, "k": k}
    sizes[cut] = -(-sizes[cut] // groups)
    return product_op(call, kind="gemm", batch=groups, flops=2 * m * n * k, **sizes)


def _convolution(call: AtenCall) -> Op:
    """Implicit GEMM: m = batch x output positions, n = output channels, k = input channels x window, per group.

    A transposed convolution applies each weight once per *input* position.
    """
    rows, weight, out = call.tensor(0), call.tensor(1), call.output
    transposed = bool(call.argument(6, "transposed", False))
    groups_value = call.argument(8, "groups", 1)
    groups = groups_value if isinstance(groups_value, int) else 1
    window = prod(weight.shape[2:])
    spatial = prod(rows.shape[2:]) if transposed else prod(out.shape[2:])
    added = out.elements if isinstance(call.argument(2, "bias"), TensorMeta) else 0
    out_channels = weight.shape[1] if transposed else weight.shape[0] // max(1, groups)
    in_channels = weight.shape[0] // max(1, groups) if transposed else weight.shape[1]
    positions = rows.shape[0] * spatial
    op = product_op(call, kind="conv", batch=groups, m=positions, n=out_channels, k=in_channels * window, added=added)
    extra = (("sequences", rows.shape[0]), ("tokens", positions), ("update", int(spatial == 1)))
    return replace(op, sizes=(*op.sizes, *extra))


RULES: dict[str, Callable[[AtenCall], Op]] = {
    "mm": _mm,
    "_scaled_mm": _mm,
    "_int_mm": _mm,
    "addmm": _addmm,
    "_addmm_activation": _addmm,
    "bmm": _bmm,
    "_grouped_mm": _grouped_mm,
    "_scaled_grouped_mm": _grouped_mm,
    "baddbmm": _baddbmm,
    "linear": _linear,
    "matmul": _matmul,
    "mv": _mv,
    "dot": _dot,
    "vdot": _dot,
    "convolution": _convolution,
    "_convolution": _convolution,
    "cudnn_convolution": _convolution,
    "miopen_convolution": _convolution,
    "mkldnn_convolution": _convolution,
}
