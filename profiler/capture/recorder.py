"""The dispatch-level recorder: sees every operation below autograd, whoever wrote the program.

Costs are worked out once per distinct operation; a repeated one costs a look-up. On `meta`, a repeated operation is
not run again: its outputs are made anew from the shapes that the first run gave.

After each large operation of a program the processor's caches hold its data and not this code, which makes every line
of it many times dearer than in a tight loop. So the way of a repeated call is short and straight: what can wait until
the end of the recording is left to `CallLog`.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter_ns
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from profiler.capture.call_log import CallLog
from profiler.capture.known_calls import (
    KnownCall,
    NewCall,
    arguments_with_tensors,
    learn,
    replay,
    strides_of,
    tensors_in,
)
from profiler.capture.metadata import schema_name
from profiler.capture.module_paths import ModulePaths
from profiler.capture.nvtx_ranges import NvtxRanges
from profiler.capture.storages import Storages
from profiler.capture.timing import CudaEvents, Stamp
from profiler.costs.rules import is_free
from workloads.markers import Marker, current_marker, mark_count

NEVER = sys.maxsize
_FREE = "free"
_ALLOCATE = "allocate"
_DECOMPOSE = "decompose"
_OBSERVE = "observe"
_IN_ROWS = "in rows"
# Looked up at every operation, so by the shortest way.
_TENSOR = torch.Tensor
_PARAMETER = torch.nn.Parameter
_DROPOUT = torch.ops.aten.dropout.default  # (input, p, train)
_DisableTorchDispatch = torch._C._DisableTorchDispatch
_is_grad_enabled = torch.is_grad_enabled
_empty_strided = torch.empty_strided
_META = torch.device("meta")
_NO_KWARGS: dict[str, Any] = {}
# Free, but what they return is a new storage, at an address that may have been another's.
_ALLOCATING = frozenset({"empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided"})
# Kernels for rows that lie one behind the other: inside, what does not is copied first (PyTorch, layer_norm_kernel.cu).
_ROW_KERNELS = frozenset({"native_layer_norm"})
_CLONE = torch.ops.aten.clone.default
# Composite operations kept whole because real devices have one kernel for them.
WHOLE = frozenset({"scaled_dot_product_attention", "rms_norm", "linear"})


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Records distinct ops and the sequence of calls while it is the active dispatch mode."""

    def __init__(
        self,
        *,
        strict: bool,
        vocab_size: int | None,
        timing: bool,
        events: CudaEvents | None,
        nvtx: NvtxRanges | None,
    ) -> None:
        """See `profiler.capture.session.capture` for the arguments."""
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.log = CallLog()
        self.modules = ModulePaths()
        self.storages = Storages()
        self._entries = self.storages.entries
        self.flush: Callable[[], None] = _no_flush
        self.flush_at = NEVER  # the number of versions from which `flush` is called after a call; see `Stream`
        self._known: dict[tuple[object, ...], KnownCall] = {}
        self._dispositions: dict[int, str] = {}
        self._strict = strict
        self._vocab_size = vocab_size
        self._vocab_given = vocab_size is not None
        self._stamp: Callable[[], Stamp] | None = (
            None if not timing else perf_counter_ns if events is None else events.mark
        )
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
        if disposition is _IN_ROWS and not args[0].is_contiguous():
            copied = self.observe(_CLONE, _CLONE, args[:1], {"memory_format": torch.contiguous_format})
            args = (copied, *args[1:])
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
        versions: list[int] = []
        key: list[object] = [id(identity)]
        self._add_tokens(args, key, versions)
        if kwargs:
            key += kwargs
            self._add_tokens(kwargs.values(), key, versions)
        whole_key = tuple(key)
        known = self._known.get(whole_key)
        if known is None or not known.is_plain:
            if known is None or known.replay_at is None or _is_grad_enabled():
                return self._observe_slowly(whole_key, versions, identity, func, args, kwargs)
            arguments = arguments_with_tensors(args, kwargs)
            if _any_elsewhere(arguments, known.replay_at):
                return self._observe_slowly(whole_key, versions, identity, func, args, kwargs)
            return self._replay_plainly(known, versions, arguments)
        marker = current_marker()
        if self._nvtx is not None:
            self._change_marker(marker)
        stamp = self._stamp
        start = end = None
        guard = _DisableTorchDispatch()  # not as a context: that would cost two calls more; below dispatch it is off
        try:
            if stamp is None:
                result = func(*args, **kwargs) if kwargs else func(*args)
            else:
                start = stamp()
                result = func(*args, **kwargs) if kwargs else func(*args)
                end = stamp()
        finally:
            del guard
        storages = self.storages
        storages.versions = version = storages.versions + 1
        address = result.untyped_storage()._cdata
        role = known.role
        before = 0
        if role is None:
            role, before = self._entries[address]
        self._entries[address] = (role, version)
        log = self.log
        log.add_call((known, marker, self.modules.current, start, end))
        log.add_reads(versions)
        log.add_writes((version, before))
        if version >= self.flush_at:
            self.flush()
        return result

    def _replay_plainly(self, known: KnownCall, versions: list[int], arguments: Sequence[Any]) -> Any:
        """The same on meta for an operation seen before that gives one tensor, new or written in place."""
        marker = current_marker()
        if self._nvtx is not None:
            self._change_marker(marker)
        assert known.replay is not None and known.replay_at is not None
        (made,) = known.replay
        if isinstance(made, int):
            result = arguments[known.replay_at[made]]
        else:
            guard = _DisableTorchDispatch()  # making an output is no operation of the program
            try:
                result = _empty_strided(made[0], made[1], dtype=made[2], device=_META)
            finally:
                del guard
        storages = self.storages
        address = result.untyped_storage()._cdata
        role = known.role
        before = 0
        if role is None:
            role, before = self._entries[address]
        storages.versions = version = storages.versions + 1
        self._entries[address] = (role, version)
        log = self.log
        log.add_call((known, marker, self.modules.current, None, None))
        log.add_reads(versions)
        log.add_writes((version, before))
        if version >= self.flush_at:
            self.flush()
        return result

    def _observe_slowly(
        self,
        key: tuple[object, ...],
        versions: list[int],
        identity: Any,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """The same for an operation that is new, or known to need more than its record."""
        known = self._known.get(key)
        tensors: list[torch.Tensor] = []
        _collect_tensors(args, tensors)
        _collect_tensors(kwargs.values(), tensors)
        marker = current_marker()
        self._change_marker(marker)
        start: Stamp = None
        end: Stamp = None
        if known is not None and known.replay is not None and not torch.is_grad_enabled() and _on_meta(tensors):
            result = replay(known, tensors)
        else:
            stamp = self._stamp or _no_stamp
            with _DisableTorchDispatch():
                start = stamp()
                result = func(*args, **kwargs)
                end = stamp()
        outputs = tensors_in(result)
        if known is None or known.shaped_by_values:
            if known is not None:
                key = (*key, *(output.shape for output in outputs))
                known = self._known.get(key)
            if known is None:
                known = self._known[key] = self._learn(key, identity, args, kwargs, result, tensors)
        for position in known.cached_positions:
            self.storages.set_role(tensors[position], "kv_cache")
        if known.on_meta:
            start = end = None
        self.log.add_call((known, marker, self.modules.current, start, end))
        self.log.add_reads(versions)
        self._write(outputs, known)
        if self.storages.versions >= self.flush_at:
            self.flush()
        return result

    def _write(self, outputs: Sequence[torch.Tensor], known: KnownCall) -> None:
        """Note what a call wrote: a version for each operand, and the storages of outputs that are none."""
        written = known.write_positions
        if len(written) < len(outputs):
            for position, output in enumerate(outputs):
                if position not in written and known.output_roles[position] is not None:
                    self.storages.allocate(output)
        roles = [known.output_roles[position] for position in written]
        self.storages.write([outputs[position] for position in written], roles, self.log.writes)

    def _add_tokens(self, values: Iterable[Any], key: list[object], versions: list[int]) -> None:
        """Append what tells one distinct operation from another, and the versions of the tensors."""
        entries = self._entries
        for value in values:
            kind = type(value)
            if kind is _TENSOR or kind is _PARAMETER:
                try:
                    entry = entries.get(value.untyped_storage()._cdata)
                    if entry is None or (kind is _PARAMETER and entry[0] != "weights"):
                        entry = self.storages.read(value)
                    key += (value.shape, value.stride(), value.dtype, entry[0])
                except (NotImplementedError, RuntimeError):  # it has no storage, or no strides
                    entry = self.storages.read(value)
                    key += (value.shape, value.layout, value.dtype, entry[0])
                versions.append(entry[1])
            elif kind is int or value is None:
                key.append(value)
            elif kind is float or kind is bool:
                key += (kind, value)  # 1 == 1.0 == True, yet they are different arguments
            elif kind is list or kind is tuple:
                key.append(len(value))
                self._add_tokens(value, key, versions)
            elif isinstance(value, _TENSOR):
                role, version = self.storages.read(value)
                versions.append(version)
                key += (value.shape, strides_of(value), value.dtype, role)
            else:
                key.append(value)

    def _change_marker(self, marker: Marker) -> None:
        if self._nvtx is not None and marker is not self._marker:
            self._marker = marker
            self._nvtx.change(marker)

    def _learn(
        self,
        key: tuple[object, ...],
        identity: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Any,
        tensors: list[torch.Tensor],
    ) -> KnownCall:
        known = learn(
            key,
            NewCall(
                identity=identity,
                args=args,
                kwargs=kwargs,
                result=result,
                tensors=tensors,
                roles=tuple(self.storages.read(tensor)[0] for tensor in tensors),
                vocab_size=self._vocab_size,
                strict=self._strict,
            ),
        )
        if known.vocabulary and not self._vocab_given:  # unless the user named it
            self._vocab_size = max(known.vocabulary, self._vocab_size or 0)
        return known


def _no_stamp() -> None:
    """The clock of a recording that only counts."""


def _no_flush() -> None:
    """A recording that stays in memory."""


def _collect_tensors(values: Iterable[Any], tensors: list[torch.Tensor]) -> None:
    """Append the tensors among arguments in order, those inside lists included."""
    for value in values:
        if isinstance(value, torch.Tensor):
            tensors.append(value)
        elif type(value) is list or type(value) is tuple:
            _collect_tensors(value, tensors)


def _any_elsewhere(arguments: Sequence[Any], places: tuple[int, ...]) -> bool:
    """Whether any tensor among the arguments is not on meta: what is known of an operation does not tell where."""
    for place in places:  # noqa: SIM110 - any() would cost a generator at every operation
        if not arguments[place].is_meta:
            return True
    return False


def _on_meta(tensors: list[torch.Tensor]) -> bool:
    return all(tensor.is_meta for tensor in tensors)


def _disposition(func: Any) -> str:
    """Whether an operation is free, stands for others, or is to be observed, with its operand in rows or as it is."""
    name = schema_name(func)
    namespace, _, short = name.partition("::")
    if short in _ROW_KERNELS:
        return _IN_ROWS
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
