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
        self.versions = 0  # ids given so far
        # Storages that no recorded operation made: first version, bytes, and whether they were there before.
        self.allocations: list[tuple[int, int, bool]] = []

    def read(self, tensor: torch.Tensor) -> tuple[Role, int]:
        """Role and version id of what `tensor` shows."""
        address = _address(tensor)
        entry = self.entries.get(address)
        if entry is None or (type(tensor) is torch.nn.Parameter and entry[0] != "weights"):
            if entry is None:
                entry = self._meet(tensor, address, is_outside=True)
            else:  # a parameter shown as something else before
                entry = self.entries[address] = ("weights", entry[1])
        return entry

    def allocate(self, tensor: torch.Tensor) -> None:
        """Note a bare allocation, whose address may have been another storage's before."""
        self._meet(tensor, _address(tensor), is_outside=False)

    def _meet(self, tensor: torch.Tensor, address: int, *, is_outside: bool) -> tuple[Role, int]:
        self.versions += 1
        self.allocations.append((self.versions, _storage_bytes(tensor), is_outside))
        entry = self.entries[address] = (marked_role(tensor, address) or "activations", self.versions)
        return entry

    def write(self, tensors: Sequence[torch.Tensor], roles: Sequence[Role | None], written: list[int]) -> None:
        """Append two ids for each tensor that is written now: its new version, and the one before in the same storage.

        That is 0 for a new storage. A tensor with role None was written in place and keeps the role of its storage.
        """
        for tensor, role in zip(tensors, roles, strict=True):
            address = _address(tensor)
            kept, before = (role, 0) if role is not None else self.read(tensor)
            self.versions += 1
            self.entries[address] = (kept, self.versions)
            written += (self.versions, before)

    def apply_marks(self) -> None:
        """Take over the roles of storages that were marked after an operation had made them."""
        for address, role in marked_storages.items():
            if address in self.entries:
                self.entries[address] = (role, self.entries[address][1])

    def set_role(self, tensor: torch.Tensor, role: Role) -> None:
        """Give a storage another role from now on."""
        self.entries[_address(tensor)] = (role, self.read(tensor)[1])


def _storage_bytes(tensor: torch.Tensor) -> int:
    """Bytes of a tensor's whole storage; of its elements where it has none."""
    try:
        return int(tensor.untyped_storage().nbytes())
    except (NotImplementedError, RuntimeError):
        return tensor.numel() * tensor.element_size()


def _address(tensor: torch.Tensor) -> int:
    """Identity of a tensor's storage; a tensor without one (sparse, wrapper) stands for itself."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return id(tensor)
