"""Networks as a scenario shows them to a sampler: with a beginning that is already cached, or prompts that are shared.

Both change nothing of what comes out, only what has to be computed, and count the rows that they spare.

Shape suffixes: B sequences, S positions of one forward, L positions of the text, V vocabulary, K key and value heads,
C head width, N prompts, R samples of each prompt.
"""

from typing import Any

import torch

from workloads.errors import WorkloadError
from workloads.kv_cache import KVCache
from workloads.layered_cache import LayeredCache
from workloads.transformer import Transformer


class NetworkView:
    """A network with one of its ways changed; everything else is asked of the network itself.

    Attributes:
        spared_rows: for each forward that was shortened, in order: rows that a sampler counts and nobody computed.
    """

    def __init__(self, model: Transformer) -> None:
        self._model = model
        self.spared_rows: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


class KeptPrefix(NetworkView):
    """A network that has the keys and values of a text's first `kept` tokens: they are shown no more.

    Of the forward that would prefill them only the last row is left, since its logits are not in any cache.
    """

    def __init__(self, model: Transformer, text_BL: torch.Tensor, kept: int, block_length: int | None = None) -> None:
        """Fill the cache with the first `kept` tokens, block-causally where blocks are given; not to be measured."""
        super().__init__(model)
        cache = model.new_cache(*text_BL.shape)
        if isinstance(cache, LayeredCache) and cache.is_recurrent:
            raise WorkloadError(
                f"model preset {model.preset.name!r}: a recurrent state cannot be cut back to where a text is edited"
            )
        with torch.inference_mode():
            model(text_BL[:, :kept], cache=cache, last_only=True, block_length=block_length)
        self._cache, self._kept = cache, kept

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """The filled cache, cut back to what is kept.

        Raises:
            WorkloadError: more positions are asked for than the cache holds.
        """
        if capacity > self._cache.capacity:
            raise WorkloadError(f"kept prefix: its cache holds {self._cache.capacity} positions, got {capacity}")
        self._cache.truncate(self._kept)
        self.spared_rows.clear()
        return self._cache

    def __call__(
        self, tokens_BS: torch.Tensor, *, cache: KVCache | None = None, position: int = 0, **rest: Any
    ) -> torch.Tensor:
        """Logits, as the network gives them."""
        batch, rows = tokens_BS.shape
        logits_BSV: torch.Tensor
        if cache is not self._cache or position > 0 or rows > self._kept:
            logits_BSV = self._model(tokens_BS, cache=cache, position=position, **rest)
            return logits_BSV
        self.spared_rows.append(batch * (rows - 1))
        logits_BSV = self._model(tokens_BS[:, -1:], cache=cache, position=rows - 1, **rest)
        return logits_BSV


class SharedPrompts(NetworkView):
    """A network that prefills each prompt once for all its samples, which lie behind one another in the batch.

    A prefill is a forward into an empty cache of which the last row's logits are wanted: there a prompt's keys depend
    on nothing behind it. Its keys and values are copied to every sample. Forwards over a whole text, of which the
    prompt sees its answer, are no prefills and are left as they are.
    """

    def __init__(self, model: Transformer, samples: int) -> None:
        super().__init__(model)
        self._samples = samples

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty cache of the whole batch."""
        self.spared_rows.clear()
        return self._model.new_cache(batch, capacity)

    def __call__(
        self,
        tokens_BS: torch.Tensor,
        *,
        cache: KVCache | None = None,
        position: int = 0,
        last_only: bool = False,
        **rest: Any,
    ) -> torch.Tensor:
        """Logits, as the network gives them."""
        logits_BSV: torch.Tensor
        if cache is None or cache.length > 0 or not last_only or isinstance(cache, LayeredCache):
            logits_BSV = self._model(tokens_BS, cache=cache, position=position, last_only=last_only, **rest)
            return logits_BSV
        prompts, rows = tokens_BS.shape[0] // self._samples, tokens_BS.shape[1]
        few = self._model.new_cache(prompts, rows)
        logits_BSV = self._model(tokens_BS[:: self._samples], cache=few, last_only=True, **rest)
        cache.length = rows
        for layer in range(self._model.preset.layers):
            for whole_BKSC, part_NKSC in zip(cache.read(layer, rows), few.read(layer, rows), strict=True):
                whole_BKSC.view(prompts, self._samples, *whole_BKSC.shape[1:]).copy_(part_NKSC[:, None])
        self.spared_rows.append((tokens_BS.shape[0] - prompts) * rows)
        return logits_BSV.repeat_interleave(self._samples, dim=0)
