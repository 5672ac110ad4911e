"""dKV-Cache-Decode: LLaDA's steps with keys and values of decoded tokens cached, one step after they were decoded.

Ma et al., "dKV-Cache: The Cache for Diffusion Language Models", arXiv:2505.15781, the variant `Decode`, and the
authors' code for LLaDA: a token's keys and values change most in the step that decodes it, so they are cached with one
step's delay. A step shows the network only rows that are not cached: every mask, and what the step before decoded.
All rows are shown in a block's first two steps and in every `refresh`-th. The mask token is never predicted. Leaves out
the variants `Greedy` and `Prefill`, guidance and random re-masking.

Shape suffixes: B batch, P prompt positions, L prompt and generated positions, S positions shown, N commits of one step,
V vocabulary.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

from workloads.errors import WorkloadError
from workloads.kv_cache import KVCache
from workloads.markers import phase
from workloads.samplers.choosing import choose_tokens, probability_of
from workloads.samplers.masked import BlockOptions, append_masks, require_mask_id, transfer_counts
from workloads.samplers.protocol import Denoiser, Generation, make_generator


class RowDenoiser(Denoiser, Protocol):
    """A bidirectional network that can be shown chosen rows against a filled cache."""

    def __call__(
        self,
        tokens_BS: torch.Tensor,
        *,
        cache: KVCache | None = None,
        position: int = 0,
        last_only: bool = False,
        rows_BS: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits `[B, S, V]`; with `rows_BS` of tokens at these positions, whose keys and values are overwritten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(BlockOptions):
    """Options of dKV-Cache, besides those of its blocks.

    Attributes:
        refresh: every so many steps of a block all rows are shown; 1 is LLaDA.
    """

    refresh: int = 8

    def __post_init__(self) -> None:
        BlockOptions.__post_init__(self)
        if self.refresh <= 0:
            raise WorkloadError(f"dkv_cache: refresh must be > 0, got {self.refresh}")


@torch.inference_mode()
def sample(model: RowDenoiser, prompt_BP: torch.Tensor, options: Options) -> Generation:
    """Fill `options.gen_length` masks behind each prompt.

    Raises:
        WorkloadError: the network keeps no KV cache.
    """
    mask_id = require_mask_id(model, "dkv_cache")
    batch, prompt_length = prompt_BP.shape
    length = prompt_length + options.gen_length
    generator = make_generator(prompt_BP.device, options.seed)
    tokens_BL = append_masks(prompt_BP, options.gen_length, mask_id)
    cache = model.new_cache(batch, length)
    if cache is None:
        raise WorkloadError("dkv_cache: needs a network that keeps a KV cache")
    counts = transfer_counts(options.tokens_per_block, options.steps_per_block)
    rows: list[int] = []
    for block in range(options.blocks):
        done = prompt_length + block * options.tokens_per_block
        block_end = done + options.tokens_per_block
        cached_BL = decoded_BL = tokens_BL != mask_id
        for step, count in enumerate(counts):
            is_full = step < 2 or step % options.refresh == 0
            shown = length if is_full else length - done - sum(counts[: step - 1])
            with phase("denoise", step=len(rows)):
                if is_full:
                    row_BS = torch.arange(length, device=tokens_BL.device).expand(batch, length)
                    logits_BSV = model(tokens_BL, cache=cache)
                else:
                    row_BS = (~cached_BL).to(torch.int8).argsort(dim=-1, descending=True, stable=True)[:, :shown]
                    logits_BSV = model(tokens_BL.gather(1, row_BS), cache=cache, rows_BS=row_BS)
                logits_BSV[..., mask_id].fill_(-torch.inf)
                proposal_BS = choose_tokens(logits_BSV, options.temperature, generator)
                confidence_BS = probability_of(torch.softmax(logits_BSV, dim=-1), proposal_BS)
                confidence_BS.masked_fill_(row_BS >= block_end, -torch.inf)
                confidence_BS.masked_fill_(tokens_BL.gather(1, row_BS) != mask_id, -torch.inf)
                chosen_BN = confidence_BS.topk(count, dim=-1).indices
                tokens_BL.scatter_(1, row_BS.gather(1, chosen_BN), proposal_BS.gather(1, chosen_BN))
                cached_BL, decoded_BL = decoded_BL, tokens_BL != mask_id
            rows.append(batch * shown)
    return Generation(
        tokens=tokens_BL,
        prompt_length=prompt_length,
        committed_per_forward=tuple(batch * count for count in counts) * options.blocks,
        rows_per_forward=tuple(rows),
    )
