"""The `fused` view of a trace: chains of pointwise and row-wise ops join the op that produced their input.

What a good compiler would do: a chain's intermediate tensors never reach memory, so a fused op moves only what enters
and leaves the chain. FLOPs stay as they are.
"""

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import replace
from itertools import pairwise
from math import prod

import numpy as np

from profiler.errors import TraceError
from profiler.op import MATRIX_KINDS, Op, Operand
from profiler.traces import Calls, IntArray, Kernels, Trace, operand_offsets

# What may join a chain; a producer of any kind may head one, but for those whose output order is not row by row.
_JOINS = frozenset({"pointwise", "reduction", "norm", "softmax"})
_HEADS = frozenset(
    {"gemm", "attention", "conv", "pointwise", "reduction", "norm", "softmax", "gather", "random", "copy"}
)
_ROW_KINDS = frozenset({"reduction", "norm", "softmax"})

_Place = tuple[int, int]  # which member of a group, and which of its inputs or outputs


def fuse(trace: Trace, *, uncompiled: Callable[[str], bool] = lambda _: False) -> Trace:
    """The fused view of an eager trace.

    A call joins the latest group if it reads what that group produced, runs in the same phase, step and stream, and is
    pointwise over as many elements as a member, or a row operation. A row operation cannot join a matrix product (its
    tiles hold no whole rows): it starts a group with the pointwise call that feeds it. An intermediate tensor that a
    later call outside reads is still written, and one that a group reads twice is read once.

    Args:
        trace: with dataflow, or a fused view, which comes back as it is.
        uncompiled: whether a compiler does not see the calls of a module, given its path; they join nothing.

    Raises:
        TraceError: where the trace holds no dataflow (imported traces do not).
    """
    if trace.view == "fused":
        return trace
    if len(trace.calls) and not len(trace.calls.writes):
        raise TraceError(
            f"trace {trace.name!r}: has no dataflow, so the fused view cannot be formed; use the eager view"
        )
    grouping = _Grouping(trace, [uncompiled(path) for path in trace.modules])
    for call in range(len(trace.calls)):
        grouping.add(call)
    return join_calls(trace, grouping.groups)


class _Grouping:
    """Grows groups of calls in the order of the calls; only the latest group may grow, as a stream runs in order."""

    def __init__(self, trace: Trace, is_apart: Sequence[bool]) -> None:
        self.groups: list[list[int]] = []
        self._is_apart = [is_apart[module] for module in trace.calls.module.tolist()]
        self._kinds = [op.kind for op in trace.ops]
        self._elements = [_elements(op) for op in trace.ops]
        self._op_of = trace.calls.op.tolist()
        reads_of, writes_of = operand_offsets(trace.ops, trace.calls.op)
        self._reads = _split(trace.calls.reads, reads_of)
        self._writes = _split(trace.calls.writes, writes_of)
        self._region = np.stack([trace.calls.phase, trace.calls.step, trace.calls.stream]).T.tolist()
        self._open: list[int] = []
        self._produced: set[int] = set()

    def add(self, call: int) -> None:
        """Put the next call into the open group or a new one."""
        kind = self._kinds[self._op_of[call]]
        if self._is_apart[call]:
            self._start([])
            self.groups.append([call])
        elif self._may_join(call, kind):
            if kind in _ROW_KINDS and self._has_product():
                self._split_before(call)
            self._append(call)
        else:
            self._start([call] if kind in _HEADS else [])
            if kind not in _HEADS:
                self.groups.append([call])

    def _may_join(self, call: int, kind: str) -> bool:
        if kind not in _JOINS or not self._open or self._region[call] != self._region[self._open[-1]]:
            return False
        if self._produced.isdisjoint(self._reads[call]):
            return False
        if kind in _ROW_KINDS:
            return not self._has_product() or self._feeder(call)
        elements = self._elements[self._op_of[call]]
        return any(elements == self._elements[self._op_of[member]] for member in self._open)

    def _has_product(self) -> bool:
        return self._kinds[self._op_of[self._open[0]]] in MATRIX_KINDS

    def _feeder(self, call: int) -> bool:
        """Whether the group's last call made what this row operation reads, and can move into its kernel."""
        last = self._open[-1]
        return len(self._open) > 1 and not set(self._writes[last]).isdisjoint(self._reads[call])

    def _split_before(self, call: int) -> None:
        """A tile of a product holds no whole rows: the row operation takes only its feeder along."""
        feeder = self._open.pop()
        self._start([feeder])

    def _start(self, members: list[int]) -> None:
        self._open = []
        self._produced = set()
        if members:
            self.groups.append(self._open)
            for member in members:
                self._append(member)

    def _append(self, call: int) -> None:
        self._open.append(call)
        self._produced.update(self._writes[call])


def _split(values: IntArray, offsets: IntArray) -> list[list[int]]:
    flat, bounds = values.tolist(), offsets.tolist()
    return [flat[begin:end] for begin, end in pairwise(bounds)]


def _elements(op: Op) -> int:
    """Elements of the first output."""
    return prod(op.outputs[0].shape) if op.outputs else 0


def can_join_layers(trace: Trace, layers: Sized, kind: str) -> bool:
    """Whether a trace has layers that are one kernel in engines, and calls of theirs that can be joined.

    Args:
        trace: eager.
        layers: that were found in it.
        kind: what they are called, in the plural.

    Raises:
        TraceError: the trace is a fused view already, or has such layers but holds no dataflow.
    """
    if trace.view == "fused":
        raise TraceError(f"trace {trace.name!r}: {kind} are found in the eager view only")
    if layers and not len(trace.calls.writes):
        raise TraceError(f"trace {trace.name!r}: has no dataflow, so {kind} cannot be joined")
    return len(layers) > 0


def join_calls(trace: Trace, groups: Sequence[Sequence[int]]) -> Trace:
    """One call per group of calls, with distinct fused ops found by what they are made of.

    What a group makes and nobody behind it reads is not written, and what its members hand on never leaves it.

    Args:
        trace: with dataflow.
        groups: indices of calls in their order; every call is in one group.
    """
    calls = trace.calls
    reads_of, writes_of = operand_offsets(trace.ops, calls.op)
    reads, writes, op_of = _split(calls.reads, reads_of), _split(calls.writes, writes_of), calls.op.tolist()
    last_reader = {tensor: call for call, tensors in enumerate(reads) for tensor in tensors}
    known: dict[tuple[object, ...], int] = {}
    ops: list[Op] = []
    new_op: list[int] = []
    new_reads: list[int] = []
    new_writes: list[int] = []
    for group in groups:
        kept_reads = _entering(group, reads, writes)
        kept_writes = _leaving(group, writes, last_reader)
        members = tuple(op_of[call] for call in group)
        key = (members, tuple(kept_reads), tuple(kept_writes))
        index = known.get(key)
        if index is None:
            index = known[key] = len(ops)
            ops.append(_fused_op([trace.ops[i] for i in members], key[1], key[2]))
        new_op.append(index)
        new_reads += kept_reads.values()
        new_writes += kept_writes.values()
    firsts = np.array([group[0] for group in groups], dtype=np.int64)
    return replace(
        trace,
        view="fused",
        ops=tuple(ops),
        calls=Calls(
            op=np.array(new_op, dtype=np.int64),
            phase=calls.phase[firsts],
            step=calls.step[firsts],
            module=calls.module[firsts],
            stream=calls.stream[firsts],
            start_s=np.full(len(groups), np.nan),
            duration_s=np.full(len(groups), np.nan),
            energy_j=np.full(len(groups), np.nan),
            reads=np.array(new_reads, dtype=np.int64),
            writes=np.array(new_writes, dtype=np.int64),
        ),
        kernels=Kernels(),
        kernel_names=(),
    )


def _entering(group: Sequence[int], reads: Sequence[list[int]], writes: Sequence[list[int]]) -> dict[_Place, int]:
    """What a group reads and has not made itself, once each, by the place where it is read first."""
    entering: dict[_Place, int] = {}
    inside: set[int] = set()
    for member, call in enumerate(group):
        for position, tensor in enumerate(reads[call]):
            if tensor not in inside:
                entering[member, position] = tensor
                inside.add(tensor)
        inside.update(writes[call])
    return entering


def _leaving(group: Sequence[int], writes: Sequence[list[int]], last_reader: Mapping[int, int]) -> dict[_Place, int]:
    """What a group writes and somebody reads after it, or nobody does (a result), by the place where it is written."""
    last = group[-1]
    return {
        (member, position): tensor
        for member, call in enumerate(group)
        for position, tensor in enumerate(writes[call])
        if last_reader.get(tensor, last + 1) > last
    }


def _fused_op(members: Sequence[Op], reads: Sequence[_Place], writes: Sequence[_Place]) -> Op:
    """One op of several: its head's kind and sizes, everybody's FLOPs, and the traffic that enters and leaves."""
    head = next((op for op in members if op.kind not in ("pointwise", "copy", "random")), members[0])
    if len(members) == 1:
        return replace(members[0], inputs=_pick(members, reads, "inputs"), outputs=_pick(members, writes, "outputs"))

    def total(values: list[int | None]) -> int | None:
        return None if any(value is None for value in values) else sum(value or 0 for value in values)

    return replace(
        head,
        name=" + ".join(op.name for op in members),
        inputs=_pick(members, reads, "inputs"),
        outputs=_pick(members, writes, "outputs"),
        matrix_flops=total([op.matrix_flops for op in members]),
        vector_flops=total([op.vector_flops for op in members]),
        skippable_flops=sum(op.skippable_flops for op in members),
    )


def _pick(members: Sequence[Op], places: Sequence[_Place], side: str) -> tuple[Operand, ...]:
    picked: list[Operand] = []
    for member, position in places:
        operands: tuple[Operand, ...] = getattr(members[member], side)
        picked.append(operands[position])
    return tuple(picked)
