"""Follows storages: which role the bytes play, and which version of them an operation reads or writes."""

from collections.abc import Sequence

import torch

from workloads.markers import marked_role, marked_storages
from workloads.roles import Role


class Storages:
    """Role and version of every storage met, by its address.

    Views share their storage, so they share its role. Each write makes a new version, whose id tells the producer of
    what a later operation reads. A freed storage's address may be used again: every operation's output starts afresh,
    and a parameter is always `weights`.
    """

    def __init__(self) -> None:
        """Start with no storage known."""
        self.entries: dict[int, tuple[Role, int]] = {}
        self._versions = 0

    def read(self, tensor: torch.Tensor) -> tuple[Role, int]:
        """Role and version id of what `tensor` shows."""
        address = _address(tensor)
        entry = self.entries.get(address)
        if entry is None or (type(tensor) is torch.nn.Parameter and entry[0] != "weights"):
            self._versions += 1
            entry = self.entries[address] = (marked_role(tensor, address) or "activations", self._versions)
        return entry

    def write(self, tensors: Sequence[torch.Tensor], roles: Sequence[Role | None], versions: list[int]) -> None:
        """Append the version ids of what is written now; a tensor with role None keeps the role of its storage."""
        for tensor, role in zip(tensors, roles, strict=True):
            address = _address(tensor)
            self._versions += 1
            kept = role or (self.entries[address] if address in self.entries else self.read(tensor))[0]
            self.entries[address] = (kept, self._versions)
            versions.append(self._versions)

    def apply_marks(self) -> None:
        """Take over the roles of storages that were marked after an operation had made them."""
        for address, role in marked_storages.items():
            if address in self.entries:
                self.entries[address] = (role, self.entries[address][1])

    def set_role(self, tensor: torch.Tensor, role: Role) -> None:
        """Give a storage another role from now on."""
        self.entries[_address(tensor)] = (role, self.read(tensor)[1])


def _address(tensor: torch.Tensor) -> int:
    """Identity of a tensor's storage; a tensor without one (sparse, wrapper) stands for itself."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return id(tensor)
