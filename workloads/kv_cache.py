"""`KVCache`: keys and values of every layer, allocated once and written in place.

Shape suffixes: B batch, T positions that fit, S positions written, K key and value heads, C head width.
"""

import torch

from workloads.errors import WorkloadError
from workloads.markers import mark_role


class KVCache:
    """Keys and values, one pair of `[B, K, T, C]` tensors per layer, marked as `kv_cache`.

    Attributes:
        capacity: number of positions that fit.
        length: number of positions that count as filled; a network attends to these and to what it writes.
    """

    def __init__(
        self,
        *,
        layers: int,
        batch: int,
        kv_heads: int,
        capacity: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        def allocate() -> tuple[torch.Tensor, ...]:
            shape = (batch, kv_heads, capacity, head_dim)
            return tuple(mark_role(torch.empty(shape, dtype=dtype, device=device), "kv_cache") for _ in range(layers))

        self.capacity = capacity
        self.length = 0
        self._keys = allocate()
        self._values = allocate()

    def store(self, layer: int, position: int, k_BKSC: torch.Tensor, v_BKSC: torch.Tensor) -> None:
        """Write S rows of one layer from `position` on; whatever stood there is overwritten."""
        end = position + k_BKSC.shape[2]
        self._keys[layer][:, :, position:end].copy_(k_BKSC)
        self._values[layer][:, :, position:end].copy_(v_BKSC)

    def store_rows(self, layer: int, rows_BS: torch.Tensor, k_BKSC: torch.Tensor, v_BKSC: torch.Tensor) -> None:
        """Write S rows of one layer, each sequence's at positions of its own."""
        sequence_B1 = torch.arange(rows_BS.shape[0], device=rows_BS.device)[:, None]
        for whole, part_BKSC in ((self._keys[layer], k_BKSC), (self._values[layer], v_BKSC)):
            whole.transpose(1, 2).index_put_((sequence_B1, rows_BS), part_BKSC.transpose(1, 2))

    def read(self, layer: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The first `length` keys and values of one layer, as views `[B, K, length, C]`."""
        return self._keys[layer][:, :, :length], self._values[layer][:, :, :length]

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on, for example rejected drafts; nothing is moved."""
        if not 0 <= length <= self.length:
            raise WorkloadError(f"KV cache: truncate takes 0..{self.length} positions, got {length}")
        self.length = length
