"""`Workload`: a trace condensed to the distinct kernels that decide its time on any chip."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from explorer.errors import ExplorationError
from profiler.memory import memory_use
from profiler.op import Op, Operand
from profiler.serving_view import serving_view
from profiler.traces import Trace
from simulator.op_columns import BoolArray, FloatArray, IntArray, OpColumns

# Kernels of one kind and type that differ in sizes alone are represented by so many of them: the keys that attention
# meets grow by one a step, and hundreds of steps need not be costed one by one.
_MOST_VARIANTS = 3
# Sizes that shape a kernel: ops that differ in one of them are never represented by each other.
_SHAPING = {"gemm": ("batch", "n", "k"), "attention": ("batch", "heads", "kv_heads", "queries", "head_dim", "causal")}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Workload:
    """What a chip is judged by.

    Attributes:
        name: as people call it.
        ops: representative kernels as columns, [O].
        names: their names.
        counts: calls that each stands for, [O]; not whole where one stands for larger and smaller ones.
        is_sampling: kernels that work on logits and are no products, which a sampling unit would do instead, [O].
        logits_bytes: bytes of logits that those read, over all calls.
        logits: their number.
        sampled_passes: times that logits are sampled from, each one pass of a sampling unit.
        calls: calls of the whole trace, for the host that issues them.
        units: tokens or images that one run makes.
        unit: `token` or `image`.
        needed_bytes: memory that the run needs at its peak, NaN where nobody knows: then every chip holds it.
        quality: score of this operating point, NaN where nobody knows; its source is in `quality_source`.
        quality_source: where the score comes from.
    """

    name: str
    ops: OpColumns
    names: tuple[str, ...]
    counts: FloatArray
    is_sampling: BoolArray
    logits_bytes: float
    logits: float
    sampled_passes: float
    calls: int
    units: float
    unit: str
    needed_bytes: float
    quality: float = float("nan")
    quality_source: str = field(default="")

    def __len__(self) -> int:
        return len(self.counts)


def workload_from_trace(
    trace: Trace,
    *,
    name: str = "",
    units: float = 1.0,
    unit: str = "token",
    quality: float = float("nan"),
    quality_source: str = "",
    needed_bytes: float | None = None,
    fused: bool = True,
    most_variants: int = _MOST_VARIANTS,
) -> Workload:
    """Condense a trace.

    Args:
        trace: what runs.
        name: of the workload; the trace's where empty.
        units: tokens or images that the whole trace makes.
        unit: which of them.
        quality: score of this operating point.
        quality_source: where that comes from.
        needed_bytes: memory that the run needs; None to find its peak in the trace, where that tells of storages.
        fused: cost what a serving engine would run (`profiler.serving_view`), else every op as called.
        most_variants: representatives of kernels that differ in sizes alone.

    Raises:
        ExplorationError: where the trace has no calls, or makes nothing.
    """
    if not len(trace.calls):
        raise ExplorationError(f"workload {name or trace.name!r}: its trace holds no calls")
    if not units > 0:
        raise ExplorationError(f"workload {name or trace.name!r}: units must be > 0, got {units}")
    view = serving_view(trace) if fused else trace
    counts = np.bincount(view.calls.op, minlength=len(view.ops)).astype(np.float64)
    sampling = np.array([samples(op) for op in view.ops], dtype=np.bool_)
    logits_bytes, logits, passes = _sampled(view.ops, counts)
    kept, kept_counts = condense(view.ops, counts, sampling, most_variants)
    return Workload(
        name=name or trace.name,
        ops=OpColumns.from_ops([view.ops[i] for i in kept]),
        names=tuple(view.ops[i].name for i in kept),
        counts=kept_counts,
        is_sampling=sampling[kept],
        logits_bytes=logits_bytes,
        logits=logits,
        sampled_passes=passes,
        calls=len(view.calls),
        units=float(units),
        unit=unit,
        needed_bytes=_needed_bytes(trace) if needed_bytes is None else needed_bytes,
        quality=quality,
        quality_source=quality_source,
    )


def _needed_bytes(trace: Trace) -> float:
    """Peak of live bytes; unknown for imported traces, which do not tell of storages."""
    return float(memory_use(trace).peak_bytes) if len(trace.calls.replaces) else float("nan")


def condense(
    ops: Sequence[Op], counts: FloatArray, sampling: BoolArray, most_variants: int
) -> tuple[IntArray, FloatArray]:
    """Representatives of ops that differ in sizes alone, and the calls that each stands for.

    Ops of one kind, name, type, number of operands and order of magnitude (a factor of 2 of work) are ordered by what
    they move and compute and cut into parts of about equal work; the member nearest to a part's mean stands for it,
    with as many calls as make up the part's work.

    Args:
        ops: all ops of a trace.
        counts: calls of each, [O].
        sampling: whether a sampling unit would take it, [O].
        most_variants: parts of a group, at most.

    Returns:
        (indices into `ops`, calls), both [R].
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, op in enumerate(ops):
        if counts[i] > 0:
            sizes = dict(op.sizes)
            shape = tuple(sizes.get(size) for size in _SHAPING.get(op.kind, ()))
            magnitude = int(math.log2(max(_work(op), 1.0)))
            key = (op.kind, op.name, op.dtype, len(op.inputs), len(op.outputs), bool(sampling[i]), shape, magnitude)
            groups.setdefault(key, []).append(i)
    kept: list[int] = []
    calls: list[float] = []
    for members in groups.values():
        work = np.array([_work(ops[i]) for i in members])
        order = np.argsort(work, kind="stable")
        indices, work = np.array(members)[order], work[order]
        share = np.cumsum(counts[indices] * np.maximum(work, 1.0))
        if len(members) <= most_variants:
            part = np.arange(len(members))
        else:
            part = np.minimum((share / share[-1] * most_variants).astype(int), most_variants - 1)
        for number in np.unique(part):
            some = np.flatnonzero(part == number)
            weights = counts[indices[some]]
            mean = float(np.average(work[some], weights=weights))
            nearest = some[int(np.argmin(np.abs(work[some] - mean)))]
            scale = mean / work[nearest] if work[nearest] > 0 else 1.0
            kept.append(int(indices[nearest]))
            calls.append(float(weights.sum()) * scale)
    return np.array(kept, dtype=np.int64), np.array(calls)


def _work(op: Op) -> float:
    """Something that grows with an op's time on any chip: its bytes, and its FLOPs at 100 a byte."""
    moved = sum(operand.moved_bytes or 0 for operand in (*op.inputs, *op.outputs))
    return moved + ((op.matrix_flops or 0) + (op.vector_flops or 0)) / 100.0


def samples(op: Op) -> bool:
    """Whether it works on logits and is no product: fused kernels may hold them among their outputs alone."""
    return op.kind not in ("gemm", "conv") and any(operand.role == "logits" for operand in (*op.inputs, *op.outputs))


def written_logits(op: Op) -> Operand | None:
    """The logits that a product writes; None where it writes none, or is none."""
    found = [operand for operand in op.outputs if op.kind == "gemm" and operand.role == "logits"]
    return found[0] if found else None


def _sampled(ops: Sequence[Op], counts: FloatArray) -> tuple[float, float, float]:
    """(bytes, number, passes) of the logits that products write."""
    moved = elements = passes = 0.0
    for op, count in zip(ops, counts, strict=True):
        logits = written_logits(op)
        if logits is not None:
            moved += count * (logits.moved_bytes or 0)
            elements += count * float(np.prod(logits.shape))
            passes += count
    return moved, elements, passes
