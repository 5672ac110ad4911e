"""From torch objects to the plain records that cost rules read."""

from typing import Any

import torch

from profiler.costs.call import TensorMeta
from workloads.roles import Role

DTYPE_NAMES: dict[torch.dtype, str] = {
    value: str(value).removeprefix("torch.") for value in vars(torch).values() if isinstance(value, torch.dtype)
}


def tensor_meta(tensor: torch.Tensor, role: Role) -> TensorMeta:
    """Shape, strides and dtype of a tensor with the role that its storage plays."""
    strided = tensor.layout is torch.strided
    return TensorMeta(
        shape=tuple(int(n) for n in tensor.shape),
        dtype=DTYPE_NAMES[tensor.dtype],
        strides=tuple(int(n) for n in tensor.stride()) if strided else None,
        role=role,
    )


def plain_argument(value: Any, roles: "dict[int, Role]") -> object:
    """An argument without torch types: tensors become TensorMeta, sequences tuples, dtypes and devices strings.

    Args:
        value: what the program passed.
        roles: role of each tensor by `id`.
    """
    if isinstance(value, torch.Tensor):
        return tensor_meta(value, roles[id(value)])
    if isinstance(value, list | tuple):
        return tuple(plain_argument(item, roles) for item in value)
    if isinstance(value, torch.dtype):
        return DTYPE_NAMES[value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def schema_name(function: Any) -> str:
    """`aten::mm` for `torch.ops.aten.mm.default`."""
    return str(function._schema.name)
