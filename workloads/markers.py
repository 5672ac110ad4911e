"""Markers that programs put around their parts: phase and step, and roles of tensors.

They cost next to nothing when nobody records, and know nothing of the profiler: the recorder reads
`current_marker()` at each operation, and `marked_role()` where it meets a tensor's storage for the first time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple
from weakref import finalize

import torch

from workloads.errors import WorkloadError
from workloads.roles import ROLES, Role


class Marker(NamedTuple):
    """The part of a program that is running: phase path such as `denoise` and step number."""

    phase: str
    step: int | None


_marker: ContextVar[Marker] = ContextVar("roofscape_marker", default=Marker("", None))  # noqa: B039 - immutable


@contextmanager
def phase(name: str, *, step: int | None = None) -> Iterator[None]:
    """Name the part of the program inside this block.

    Nested phases join with `/` (`generate/denoise`); a step given inside overrides the outer one.

    Args:
        name: what this part does, for example `prefill`, `decode`, `denoise`.
        step: which iteration of it this is, counted from 0.
    """
    outer = _marker.get()
    path = f"{outer.phase}/{name}" if outer.phase else name
    token = _marker.set(Marker(path, outer.step if step is None else step))
    try:
        yield
    finally:
        _marker.reset(token)


# The innermost phase and step that is open in this thread or task: `current_marker() -> Marker`. It is the bound method
# itself, since a recorder asks at every operation.
current_marker: Callable[[], Marker] = _marker.get


# Roles of marked storages by address. A recorder looks again when `mark_count` has changed.
marked_storages: dict[int, Role] = {}
mark_count: list[int] = [0]


def mark_role(tensor: torch.Tensor, role: Role) -> torch.Tensor:
    """Say what a long-lived tensor is, for example a preallocated KV cache.

    Parameters need no mark. The mark belongs to the tensor's storage, so its views share it, and ends with the tensor.

    Raises:
        WorkloadError: there is no such role.
    """
    if role not in ROLES:
        raise WorkloadError(f"role must be one of {', '.join(ROLES)}, got {role!r}")
    address = tensor.untyped_storage()._cdata
    marked_storages[address] = role
    mark_count[0] += 1
    finalize(tensor, marked_storages.pop, address, None)
    return tensor


def marked_role(tensor: torch.Tensor, storage_address: int) -> Role | None:
    """The role that `mark_role` gave this storage, `weights` for a parameter, else None."""
    if isinstance(tensor, torch.nn.Parameter):
        return "weights"
    return marked_storages.get(storage_address)
