"""What samplers of block diffusion share: blocks at fixed positions, forwards of one block against the KV cache.

Blocks are counted from the start of the sequence. Those that the prompt fills are prefilled in one block-causal
forward; the rest of the prompt stands as given in the first block to generate; the last block ends where the sequence
does. A forward of a block writes its keys and values behind those of the blocks before, where the next forward of the
same block overwrites them: only the forward of the finished block, which `store` adds, leaves some to stay.

Shape suffixes: B batch, P prompt positions, L prompt and generated positions, S positions of one block, V vocabulary.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

from workloads.errors import WorkloadError
from workloads.kv_cache import KVCache
from workloads.markers import phase
from workloads.samplers.choosing import FilterOptions
from workloads.samplers.masked import append_masks
from workloads.samplers.protocol import Denoiser, Generation


class BlockDenoiser(Denoiser, Protocol):
    """A denoiser that can show several blocks at once, each seeing itself and those before."""

    def __call__(
        self,
        tokens_BS: torch.Tensor,
        *,
        cache: KVCache | None = None,
        position: int = 0,
        last_only: bool = False,
        block_length: int | None = None,
    ) -> torch.Tensor:
        """Logits, as of a `Denoiser`; with `block_length`, a position sees all up to the end of its block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockwiseOptions(FilterOptions):
    """Options of block diffusion.

    Attributes:
        temperature: 1 samples from the network's distribution, 0 takes the most probable tokens.
        block_length: positions per block.
        steps_per_block: denoising steps per block, None for one per position.
    """

    temperature: float = 1.0
    block_length: int = 16
    steps_per_block: int | None = None

    def __post_init__(self) -> None:
        FilterOptions.__post_init__(self)
        where = type(self).__module__.rpartition(".")[2]
        if self.block_length <= 0:
            raise WorkloadError(f"{where}: block_length must be > 0, got {self.block_length}")
        if self.steps_per_block is not None and self.steps_per_block <= 0:
            raise WorkloadError(f"{where}: steps_per_block must be > 0, got {self.steps_per_block}")


def block_edges(prompt_length: int, length: int, block_length: int) -> tuple[tuple[int, int], ...]:
    """Start and end of every block that holds a position to generate.

    >>> block_edges(prompt_length=6, length=15, block_length=4)
    ((4, 8), (8, 12), (12, 15))
    """
    first = prompt_length // block_length * block_length
    return tuple((start, min(start + block_length, length)) for start in range(first, length, block_length))


class BlockRun:
    """One generation block by block: the tokens, the cache, and the books of what each forward showed and committed.

    Attributes:
        tokens_BL: prompt, and masks that samplers fill in place.
        edges: start and end of the blocks to generate.
        committed: tokens that each forward committed so far.
    """

    def __init__(
        self, model: BlockDenoiser, prompt_BP: torch.Tensor, gen_length: int, block_length: int, mask_id: int
    ) -> None:
        """Lay out the masks and prefill the cache with the blocks that the prompt fills."""
        batch, self._prompt_length = prompt_BP.shape
        length = self._prompt_length + gen_length
        self.tokens_BL = append_masks(prompt_BP, gen_length, mask_id)
        self.edges = block_edges(self._prompt_length, length, block_length)
        self.committed: list[int] = []
        self._rows: list[int] = []
        self._cache = model.new_cache(batch, length)
        prefilled = self.edges[0][0]
        if self._cache is not None and prefilled > 0:
            with phase("prefill"):
                model(self.tokens_BL[:, :prefilled], cache=self._cache, last_only=True, block_length=block_length)
            self._count(batch * prefilled)

    def masked(self, start: int, end: int) -> int:
        """Masks of one sequence in a block nobody has worked on: all but what the prompt gives."""
        return end - max(start, self._prompt_length)

    def predict(self, model: Denoiser, start: int, end: int) -> torch.Tensor:
        """Logits `[B, S, V]` of a block, given the blocks before; without a cache those are shown again."""
        first = 0 if self._cache is None else start
        logits_BSV = model(self.tokens_BL[:, first:end], cache=self._cache, position=first)
        self._count(self.tokens_BL.shape[0] * (end - first))
        return logits_BSV[:, start - first :]

    def commit(self, count: int) -> None:
        """Credit the last forward with so many tokens, over the whole batch."""
        self.committed[-1] += count

    def store(self, model: Denoiser, block: int) -> None:
        """The extra forward that stores a finished block's keys and values; one row of logits, which nobody reads."""
        if self._cache is None:
            return
        start, end = self.edges[block]
        with phase("store_kv", step=block):
            model(self.tokens_BL[:, start:end], cache=self._cache, position=start, last_only=True)
        self._count(self.tokens_BL.shape[0] * (end - start))

    def generation(self) -> Generation:
        """The record of it all."""
        return Generation(
            tokens=self.tokens_BL,
            prompt_length=self._prompt_length,
            committed_per_forward=tuple(self.committed),
            rows_per_forward=tuple(self._rows),
        )

    def _count(self, rows: int) -> None:
        self._rows.append(rows)
        self.committed.append(0)
