"""The dispatch-level recorder: sees every operation below autograd, whoever wrote the program.

Costs are worked out once per distinct operation; a repeated one costs a look-up. On `meta`, a repeated operation is
not run again: its outputs are made anew from the shapes that the first run gave.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter_ns
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from profiler.capture.metadata import plain_argument, schema_name, tensor_meta
from profiler.capture.module_paths import ModulePaths
from profiler.capture.nvtx_ranges import NvtxRanges
from profiler.capture.storages import Storages
from profiler.capture.timing import CudaEvents, Stamp
from profiler.costs.call import AtenCall, base_name
from profiler.costs.roles import cached_inputs, output_role
from profiler.costs.rules import build_op, is_free
from profiler.op import Op
from workloads.markers import Marker, current_marker, mark_count
from workloads.roles import Role

_FREE = "free"
_ALLOCATE = "allocate"
_DECOMPOSE = "decompose"
_OBSERVE = "observe"
# Looked up at every operation, so by the shortest way.
_TENSOR = torch.Tensor
_PARAMETER = torch.nn.Parameter
_DROPOUT = torch.ops.aten.dropout.default  # (input, p, train)
_DisableTorchDispatch = torch._C._DisableTorchDispatch
_NO_KWARGS: dict[str, Any] = {}
# Free, but what they return is a new storage, at an address that may have been another's.
_ALLOCATING = frozenset({"empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided"})
# Composite operations kept whole because real devices have one kernel for them.
WHOLE = frozenset({"scaled_dot_product_attention", "rms_norm", "linear"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is remembered of a distinct operation."""

    op: int
    read_positions: tuple[int, ...]
    output_roles: tuple[Role | None, ...]  # None: an input written in place keeps its role
    cached_positions: tuple[int, ...]  # inputs now known to be a KV cache
    replay: tuple[tuple[tuple[int, ...], tuple[int, ...], torch.dtype] | int, ...] | None
    returns_tuple: bool
    on_meta: bool
    shaped_by_values: bool  # the values of the inputs decide the outputs' shapes, so each call is looked at anew


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Records distinct ops and the sequence of calls while it is the active dispatch mode."""

    def __init__(
        self, *, strict: bool, vocab_size: int | None, events: CudaEvents | None, nvtx: NvtxRanges | None
    ) -> None:
        """See `profiler.capture.session.capture` for the arguments."""
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.ops: list[Op] = []
        # One entry per call in each, or several in `reads` and `writes`: flat lists of plain values, since a container
        # per call would keep Python's garbage collector busy while the program is timed.
        self.call_ops: list[int] = []
        self.markers: list[Marker] = []
        self.paths: list[str] = []
        self.starts: list[Stamp] = []
        self.ends: list[Stamp] = []
        self.reads: list[int] = []
        self.writes: list[int] = []
        self.replaces: list[int] = []
        self.modules = ModulePaths()
        self.devices: set[str] = set()
        self.storages = Storages()
        self._op_index: dict[Op, int] = {}
        self._known: dict[object, Known] = {}
        self._dispositions: dict[int, str] = {}
        self._strict = strict
        self._vocab_size = vocab_size
        self._vocab_given = vocab_size is not None
        self._stamp: Callable[[], Stamp] = perf_counter_ns if events is None else events.mark
        self._nvtx = nvtx
        self._marker = Marker("", None)
        self._marks_seen = mark_count[0]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spare every call the wrapper that hides it from torch.compile, which costs more than the recording."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operation and record it unless it is free."""
        disposition = self._dispositions.get(id(func))
        if disposition is None:
            disposition = self._dispositions[id(func)] = _disposition(func)
        if disposition is _FREE:
            if args:
                self.note_source(args[0])
            return func(*args, **kwargs) if kwargs else func(*args)
        if disposition is _ALLOCATE:
            allocated = func(*args, **kwargs) if kwargs else func(*args)
            self.storages.allocate(allocated)
            return allocated
        if disposition is _DECOMPOSE:
            if func is _DROPOUT and not (args[1] and args[2]):
                return args[0]  # as it runs unrecorded; its decomposition would copy
            with self:
                return func.decompose(*args, **(kwargs or {}))
        return self.observe(func, func, args, kwargs or _NO_KWARGS)

    def note_source(self, tensor: object) -> None:
        """Remember a parameter before its first view: the view no longer tells that it is one."""
        if type(tensor) is torch.nn.Parameter:
            self.storages.read(tensor)

    def observe(self, identity: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one operation and record it. This is the hot path: a repeated operation costs one look-up.

        Args:
            identity: the ATen overload, or the ATen name of a function whose inner operations stay unseen.
            func: what to call.
            args: its arguments.
            kwargs: its keyword arguments.
        """
        if mark_count[0] != self._marks_seen:
            self._marks_seen = mark_count[0]
            self.storages.apply_marks()
        tensors: list[torch.Tensor] = []
        versions: list[int] = []
        key: list[object] = [id(identity)]
        self._add_tokens(args, key, tensors, versions)
        if kwargs:
            key.extend(kwargs)
            self._add_tokens(kwargs.values(), key, tensors, versions)
        key_tuple = tuple(key)
        known = self._known.get(key_tuple)
        marker = current_marker()
        if marker is not self._marker:
            self._change_marker(marker)
        start: Stamp = None
        end: Stamp = None
        if known is not None and known.replay is not None and not torch.is_grad_enabled():
            result = _replay(known, tensors)
        else:
            stamp = self._stamp
            with _DisableTorchDispatch():  # below dispatch it is off already
                start = stamp()
                result = func(*args, **kwargs)
                end = stamp()
        outputs = (result,) if type(result) is _TENSOR else _tensors_in(result)
        if known is None or known.shaped_by_values:
            key_tuple = (*key_tuple, *(output.shape for output in outputs)) if known is not None else key_tuple
            known = self._known.get(key_tuple) or self._learn(identity, args, kwargs, result, outputs, tensors)
            self._known[key_tuple] = known
        for position in known.cached_positions:
            self.storages.set_role(tensors[position], "kv_cache")
        self.call_ops.append(known.op)
        self.markers.append(marker)
        self.paths.append(self.modules.current)
        self.starts.append(None if known.on_meta else start)
        self.ends.append(None if known.on_meta else end)
        for position in known.read_positions:
            self.reads.append(versions[position])
        self.storages.write(outputs, known.output_roles, self.writes, self.replaces)
        return result

    def _add_tokens(
        self, values: Iterable[Any], key: list[object], tensors: list[torch.Tensor], versions: list[int]
    ) -> None:
        """Append what tells one distinct operation from another; collect the tensors and their versions."""
        storages = self.storages
        for value in values:
            kind = type(value)
            if kind is _TENSOR or kind is _PARAMETER:
                entry = storages.entries.get(value.untyped_storage()._cdata)
                if entry is None or (kind is _PARAMETER and entry[0] != "weights"):
                    entry = storages.read(value)
                tensors.append(value)
                versions.append(entry[1])
                key += (value.shape, value.stride(), value.dtype, entry[0])
            elif kind is int or value is None:
                key.append(value)
            elif kind is float or kind is bool:
                key += (kind, value)  # 1 == 1.0 == True, yet they are different arguments
            elif kind is list or kind is tuple:
                key.append(len(value))
                self._add_tokens(value, key, tensors, versions)
            elif isinstance(value, torch.Tensor):
                role, version = storages.read(value)
                tensors.append(value)
                versions.append(version)
                key += (value.shape, _strides(value), value.dtype, role)
            else:
                key.append(value)

    def _change_marker(self, marker: Marker) -> None:
        self._marker = marker
        if self._nvtx is not None:
            self._nvtx.change(marker)

    def _learn(
        self,
        identity: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Any,
        outputs: Sequence[torch.Tensor],
        tensors: list[torch.Tensor],
    ) -> Known:
        """Work out the cost of an operation met for the first time, and how to repeat it on meta."""
        name = identity if isinstance(identity, str) else schema_name(identity)
        roles = {id(tensor): self.storages.read(tensor)[0] for tensor in tensors}
        call = AtenCall(
            name=name,
            args=tuple(plain_argument(value, roles) for value in args),
            kwargs=tuple((key, plain_argument(value, roles)) for key, value in kwargs.items()),
        )
        self._note_vocabulary(call)
        aliases = tuple(_alias_position(output, tensors) for output in outputs)
        role_of_fresh = output_role(call, self._vocab_size)
        metas = tuple(
            tensor_meta(output, roles[id(tensors[alias])] if alias >= 0 else role_of_fresh(tuple(output.shape)))
            for output, alias in zip(outputs, aliases, strict=True)
        )
        op = build_op(replace(call, outputs=metas), strict=self._strict)
        index = self._op_index.setdefault(op, len(self.ops))
        if index == len(self.ops):
            self.ops.append(op)
        self.devices.update(tensor.device.type for tensor in outputs)
        inputs = [tensor_meta(tensor, "activations") for tensor in tensors]
        return Known(
            op=index,
            read_positions=_read_positions(op, [(meta.shape, meta.dtype) for meta in inputs]),
            output_roles=tuple(None if alias >= 0 else meta.role for meta, alias in zip(metas, aliases, strict=True)),
            cached_positions=tuple(i for i in cached_inputs(op) if roles[id(tensors[i])] == "activations"),
            replay=_replay_plan(result, outputs, tensors, aliases),
            returns_tuple=isinstance(result, tuple),
            on_meta=bool(outputs) and outputs[0].is_meta,
            shaped_by_values=torch.Tag.dynamic_output_shape in getattr(identity, "tags", ()),
        )

    def _note_vocabulary(self, call: AtenCall) -> None:
        """The rows of the largest embedding table read so far are the vocabulary, unless the user named it."""
        if not self._vocab_given and base_name(call.name) == "embedding":
            rows, width = call.tensor(0).shape
            if rows > 2 * width:  # a table of positions is not taller than that
                self._vocab_size = max(rows, self._vocab_size or 0)


def _disposition(func: Any) -> str:
    """Whether an operation is free, stands for others, or is to be observed."""
    name = schema_name(func)
    namespace, _, short = name.partition("::")
    if short in WHOLE:
        return _OBSERVE
    if namespace in ("prim", "profiler") or is_free(name):
        return _ALLOCATE if short in _ALLOCATING else _FREE
    if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
        return _DECOMPOSE
    returns = func._schema.returns
    is_view = bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)
    if is_view or not (returns or func._schema.is_mutable):
        return _FREE
    return _OBSERVE


def _strides(tensor: torch.Tensor) -> object:
    return tensor.stride() if tensor.layout is torch.strided else tensor.layout


def _tensors_in(result: Any) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, list | tuple):
        return [item for item in result if isinstance(item, torch.Tensor)]
    return []


def _alias_position(output: torch.Tensor, tensors: list[torch.Tensor]) -> int:
    """Which input an in-place or `out=` operation returned, -1 for a fresh tensor."""
    return next((i for i, tensor in enumerate(tensors) if tensor is output), -1)


def _read_positions(op: Op, tensors: list[tuple[tuple[int, ...], str]]) -> tuple[int, ...]:
    """Which argument tensor each operand of `op.inputs` is.

    Rules list operands in argument order and leave out only targets that are written without being read, which come
    first; so operands are matched from the last argument backwards.
    """
    positions: list[int] = []
    candidate = len(tensors) - 1
    for operand in reversed(op.inputs):
        while candidate >= 0 and tensors[candidate] != (operand.shape, operand.dtype):
            candidate -= 1
        positions.append(max(candidate, 0))
        candidate -= 1
    return tuple(reversed(positions))


def _replay_plan(
    result: Any, outputs: Sequence[torch.Tensor], tensors: list[torch.Tensor], aliases: tuple[int, ...]
) -> tuple[tuple[tuple[int, ...], tuple[int, ...], torch.dtype] | int, ...] | None:
    """How to make the outputs without running the operation; None where it must run."""
    all_meta = bool(outputs) and all(
        type(t) in (torch.Tensor, torch.nn.Parameter) and t.is_meta for t in (*outputs, *tensors)
    )
    complete = isinstance(result, torch.Tensor) or (isinstance(result, tuple) and len(result) == len(outputs))
    if not (all_meta and complete):
        return None
    plan: list[tuple[tuple[int, ...], tuple[int, ...], torch.dtype] | int] = []
    inputs = {tensor.untyped_storage()._cdata for tensor in tensors}
    for output, alias in zip(outputs, aliases, strict=True):
        if alias >= 0:
            plan.append(alias)
        elif output.untyped_storage()._cdata in inputs or output.layout is not torch.strided:
            return None
        else:
            plan.append((tuple(output.shape), output.stride(), output.dtype))
    return tuple(plan)


def _replay(known: Known, tensors: list[torch.Tensor]) -> Any:
    """The outputs of a repeated operation on meta."""
    assert known.replay is not None
    made = [
        tensors[spec] if isinstance(spec, int) else torch.empty_strided(spec[0], spec[1], dtype=spec[2], device="meta")
        for spec in known.replay
    ]
    return tuple(made) if known.returns_tuple else made[0]
