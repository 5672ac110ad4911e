"""Follows storages: which role the bytes play, and which version of them an operation reads or writes."""

import torch

from workloads.markers import marked_role
from workloads.roles import Role

_DENSE = (torch.Tensor, torch.nn.Parameter)


class Storages:
    """Role and version of every storage met.

    Views share their storage, so they share its role. Each write makes a new version, whose id tells the producer of
    what a later operation reads. A freed storage's address may be used again: every operation's output starts afresh,
    and a parameter is always `weights`.
    """

    def __init__(self) -> None:
        """Start with no storage known."""
        self._entries: dict[int, tuple[Role, int]] = {}
        self._versions = 0

    def read(self, tensor: torch.Tensor) -> tuple[Role, int]:
        """Role and version id of what `tensor` shows."""
        kind = type(tensor)
        address = tensor.untyped_storage()._cdata if kind in _DENSE else _address(tensor)
        entry = self._entries.get(address)
        if entry is None or (kind is torch.nn.Parameter and entry[0] != "weights"):
            entry = (marked_role(tensor, address) or "activations", self._next_version())
            self._entries[address] = entry
        return entry

    def write(self, tensor: torch.Tensor, role: Role | None) -> int:
        """Version id of what is written now; with role None the storage keeps the role that it has."""
        address = tensor.untyped_storage()._cdata if type(tensor) in _DENSE else _address(tensor)
        if role is None:
            entry = self._entries.get(address)
            role = entry[0] if entry is not None else (marked_role(tensor, address) or "activations")
        version = self._next_version()
        self._entries[address] = (role, version)
        return version

    def set_role(self, tensor: torch.Tensor, role: Role) -> None:
        """Give a storage another role from now on."""
        address = _address(tensor)
        _, version = self._entries.get(address, ("", self._next_version()))
        self._entries[address] = (role, version)

    def _next_version(self) -> int:
        self._versions += 1
        return self._versions


def _address(tensor: torch.Tensor) -> int:
    """Identity of a tensor's storage; a tensor without one (sparse, wrapper) stands for itself."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return id(tensor)
