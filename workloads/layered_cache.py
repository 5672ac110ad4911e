"""`LayeredCache`: a KV cache whose layers differ: own widths, one latent per token, a recurrent state, or nothing.

Shape suffixes: B batch, T positions that fit, K key and value heads, W channels, L window less one; the state's own
shape is its layer's business.
"""
# ruff: noqa: N815 - shape suffixes, on records as well

from dataclasses import dataclass
from typing import NamedTuple

import torch

from workloads.errors import WorkloadError
from workloads.kv_cache import KVCache
from workloads.markers import mark_role


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMemory:
    """What one layer keeps per sequence.

    Attributes:
        kv_heads: heads of keys and values; 0 where it keeps none.
        key_width: width of a stored key.
        value_width: width of a stored value; 0 where values are part of the keys.
        conv: channels and length of the convolution's last inputs; None where it has no state.
        state: shape of the recurrent state of one sequence.
    """

    kv_heads: int = 0
    key_width: int = 0
    value_width: int = 0
    conv: tuple[int, int] | None = None
    state: tuple[int, ...] = ()


class RecurrentState(NamedTuple):
    """What a state space keeps: the convolution's last inputs `[B, W, L]` and the state; written in place."""

    conv_BWL: torch.Tensor
    state: torch.Tensor


class LayeredCache(KVCache):
    """Keys, values and states of layers that differ; recurrent states take each token once and in order."""

    def __init__(
        self,
        memories: tuple[LayerMemory, ...],
        *,
        batch: int,
        capacity: int,
        dtype: torch.dtype,
        device: torch.device | str,
        state_dtype: torch.dtype | None = None,
    ) -> None:
        """An empty cache.

        Args:
            memories: what each layer keeps.
            batch: sequences.
            capacity: positions that fit.
            dtype: of keys, values, inputs of convolutions, and states.
            device: where it lies.
            state_dtype: of recurrent states, where engines keep them wider than the rest; None for `dtype`.
        """

        def allocate(*shape: int, kept_as: torch.dtype = dtype) -> torch.Tensor:
            return mark_role(torch.zeros(batch, *shape, dtype=kept_as, device=device), "kv_cache")

        self.capacity = capacity
        self.length = 0
        self.state_length = 0
        self._keys = tuple(allocate(memory.kv_heads, capacity, memory.key_width) for memory in memories)
        self._values = tuple(allocate(memory.kv_heads, capacity, memory.value_width) for memory in memories)
        self._states = tuple(
            None
            if memory.conv is None
            else RecurrentState(allocate(*memory.conv), allocate(*memory.state, kept_as=state_dtype or dtype))
            for memory in memories
        )

    @property
    def is_recurrent(self) -> bool:
        """Whether some layer has a recurrent state."""
        return any(state is not None for state in self._states)

    def state_of(self, layer: int) -> RecurrentState:
        """The recurrent state of one layer.

        Raises:
            WorkloadError: the layer keeps none.
        """
        state = self._states[layer]
        if state is None:
            raise WorkloadError(f"cache: layer {layer} keeps no recurrent state")
        return state

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on; recurrent states cannot.

        Raises:
            WorkloadError: a layer keeps a recurrent state.
        """
        if self.is_recurrent and length < self.length:
            raise WorkloadError(f"cache: a recurrent state forgets nothing, got truncate({length}) of {self.length}")
        super().truncate(length)
