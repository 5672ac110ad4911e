"""What is remembered of a distinct operation, so that its next call costs a look-up; and how it is learned."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from profiler.capture.metadata import DTYPE_NAMES, plain_argument, schema_name, tensor_meta
from profiler.costs.call import AtenCall, base_name
from profiler.costs.roles import cached_inputs, output_role
from profiler.costs.rules import build_op
from profiler.op import Op
from workloads.roles import Role

ReplayPlan = tuple[tuple[tuple[int, ...], tuple[int, ...], torch.dtype] | int, ...]
_MOST_REMEMBERED = 4096
_PLAIN_TYPES = (torch.Tensor, torch.nn.Parameter)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KnownCall:
    """What is remembered of a distinct operation; nothing of it belongs to one recording.

    Attributes:
        is_plain: it ran on a device and gave one ordinary tensor, and nothing below asks for more than its record.
        op: its costs.
        inputs: how many tensors its arguments hold.
        read_positions: which of these each operand of `op.inputs` is.
        role: of the first output, None where an input was written in place and keeps its role.
        output_roles: the same of every output.
        write_positions: which of the outputs each operand of `op.outputs` is; others (statistics that attention keeps
            for a backward pass) are no operands.
        cached_positions: inputs now known to be a KV cache.
        replay: how to make the outputs on meta without running the operation, None where it must run.
        replay_at: where the tensors stand among the arguments (`arguments_with_tensors`) of an operation whose replay
            gives one tensor and asks for no more than its record; None for any other.
        returns_tuple: whether the outputs come as a tuple.
        on_meta: whether nothing was computed, so that there is no time to keep.
        shaped_by_values: the values of the inputs decide the outputs' shapes, so each call is looked at anew.
        vocabulary: rows of the table that an embedding looked up, 0 where that is no vocabulary.
        devices: types of the devices of the outputs.
    """

    is_plain: bool
    op: Op
    inputs: int
    read_positions: tuple[int, ...]
    role: Role | None
    output_roles: tuple[Role | None, ...]
    write_positions: tuple[int, ...]
    cached_positions: tuple[int, ...]
    replay: ReplayPlan | None
    replay_at: tuple[int, ...] | None
    returns_tuple: bool
    on_meta: bool
    shaped_by_values: bool
    vocabulary: int
    devices: frozenset[str]


@dataclass(slots=True, kw_only=True, eq=False)
class NewCall:
    """An operation that has just run and is to be learned.

    Attributes:
        identity: its ATen overload, or its ATen name.
        args: its arguments.
        kwargs: its keyword arguments.
        result: what it gave.
        tensors: the tensors among the arguments, in order.
        roles: their roles.
        vocab_size: width of the logits as far as it is known.
        strict: raise `UnknownOperationError` where there is no cost rule.
    """

    identity: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    tensors: list[torch.Tensor]
    roles: tuple[Role, ...]
    vocab_size: int | None
    strict: bool


# What is learned depends on nothing but what the key names, so all recordings of this process share it.
_remembered: dict[object, KnownCall] = {}


def learn(key: tuple[object, ...], new: NewCall) -> KnownCall:
    """Work out the cost of an operation that has just run, and how to repeat it on meta.

    Args:
        key: tells this operation from any other by all but what it gave.
        new: the operation and what it gave.
    """
    name = new.identity if isinstance(new.identity, str) else schema_name(new.identity)
    outputs = tensors_in(new.result)
    aliases = tuple(_alias_position(output, new.tensors) for output in outputs)
    if not name.startswith("aten::"):  # somebody's own operation may be defined anew under the same name
        return _work_out(name, new, outputs, aliases)
    gave = tuple((tensor.shape, strides_of(tensor), tensor.dtype, tensor.device.type) for tensor in outputs)
    types = tuple(type(value) for value in (new.result, *outputs, *new.tensors))
    whole_key = (key, name, new.vocab_size, new.strict, aliases, gave, types)
    known = _remembered.get(whole_key)
    if known is None:
        known = _work_out(name, new, outputs, aliases)
        if len(_remembered) >= _MOST_REMEMBERED:
            _remembered.clear()
        _remembered[whole_key] = known
    return known


def _work_out(name: str, new: NewCall, outputs: Sequence[torch.Tensor], aliases: tuple[int, ...]) -> KnownCall:
    role_by_id = {id(tensor): role for tensor, role in zip(new.tensors, new.roles, strict=True)}
    call = AtenCall(
        name=name,
        args=tuple(plain_argument(value, role_by_id) for value in new.args),
        kwargs=tuple((key, plain_argument(value, role_by_id)) for key, value in new.kwargs.items()),
    )
    role_of_fresh = output_role(call, new.vocab_size)
    metas = tuple(
        tensor_meta(output, new.roles[alias] if alias >= 0 else role_of_fresh(tuple(output.shape)))
        for output, alias in zip(outputs, aliases, strict=True)
    )
    op = build_op(replace(call, outputs=metas), strict=new.strict)
    output_roles = tuple(None if alias >= 0 else meta.role for meta, alias in zip(metas, aliases, strict=True))
    cached_positions = tuple(i for i in cached_inputs(op) if new.roles[i] == "activations")
    on_meta = bool(outputs) and outputs[0].is_meta
    shaped_by_values = torch.Tag.dynamic_output_shape in getattr(new.identity, "tags", ())
    is_single = type(new.result) in _PLAIN_TYPES and new.result.layout is torch.strided
    is_simple = is_single and len(op.outputs) == 1 and not (shaped_by_values or cached_positions)
    replay_plan = _replay_plan(new.result, outputs, new.tensors, aliases)
    return KnownCall(
        is_plain=is_simple and not on_meta,
        op=op,
        inputs=len(new.tensors),
        read_positions=_read_positions(op, [(tuple(t.shape), DTYPE_NAMES[t.dtype]) for t in new.tensors]),
        role=output_roles[0] if output_roles else None,
        output_roles=output_roles,
        write_positions=_write_positions(op, [(meta.shape, meta.dtype) for meta in metas]),
        cached_positions=cached_positions,
        replay=replay_plan,
        replay_at=_tensor_places(new) if is_simple and replay_plan is not None else None,
        returns_tuple=isinstance(new.result, tuple),
        on_meta=on_meta,
        shaped_by_values=shaped_by_values,
        vocabulary=_vocabulary(call),
        devices=frozenset(tensor.device.type for tensor in outputs),
    )


def _vocabulary(call: AtenCall) -> int:
    """Rows of the table that an embedding reads, 0 for anything else and for a table of positions.

    A table of positions is not twice as tall as it is wide.
    """
    if base_name(call.name) != "embedding":
        return 0
    rows, width = call.tensor(0).shape
    return rows if rows > 2 * width else 0


def strides_of(tensor: torch.Tensor) -> object:
    """Strides of a tensor, its layout where that has none."""
    return tensor.stride() if tensor.layout is torch.strided else tensor.layout


def tensors_in(result: Any) -> Sequence[torch.Tensor]:
    """The tensors that an operation returned."""
    if isinstance(result, torch.Tensor):
        return (result,)
    if isinstance(result, list | tuple):
        return [item for item in result if isinstance(item, torch.Tensor)]
    return ()


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


def _write_positions(op: Op, tensors: Sequence[tuple[tuple[int, ...], str]]) -> tuple[int, ...]:
    """Which output tensor each operand of `op.outputs` is: rules list operands in the order of the outputs."""
    positions: list[int] = []
    candidate = 0
    for operand in op.outputs:
        while candidate < len(tensors) - 1 and tensors[candidate] != (operand.shape, operand.dtype):
            candidate += 1
        if candidate < len(tensors):
            positions.append(candidate)
        candidate += 1
    return tuple(positions)


def _replay_plan(
    result: Any, outputs: Sequence[torch.Tensor], tensors: list[torch.Tensor], aliases: tuple[int, ...]
) -> ReplayPlan | None:
    """How to make the outputs without running the operation; None where it must run."""
    all_meta = bool(outputs) and all(type(t) in _PLAIN_TYPES and t.is_meta for t in (*outputs, *tensors))
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


def arguments_with_tensors(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Any]:
    """The arguments of an operation, with those of a list where it comes first, as of `cat`.

    >>> arguments_with_tensors(([1, 2],), {"dim": 3})
    (1, 2, 3)
    """
    first = args[0] if args else None
    arguments = first if type(first) is list or type(first) is tuple else args
    return (*arguments, *kwargs.values()) if kwargs else arguments


def _tensor_places(new: NewCall) -> tuple[int, ...] | None:
    """Where all the tensors stand in `arguments_with_tensors`; None where one of them is elsewhere."""
    arguments = arguments_with_tensors(new.args, new.kwargs)
    places = tuple(i for i, value in enumerate(arguments) if isinstance(value, torch.Tensor))
    return places if len(places) == len(new.tensors) else None


def replay(known: KnownCall, tensors: list[torch.Tensor]) -> Any:
    """The outputs of a repeated operation on meta."""
    assert known.replay is not None
    with torch._C._DisableTorchDispatch():  # making an output is no operation of the program
        made = [
            tensors[spec]
            if isinstance(spec, int)
            else torch.empty_strided(spec[0], spec[1], dtype=spec[2], device="meta")
            for spec in known.replay
        ]
    return tuple(made) if known.returns_tuple else made[0]
