"""Fast-dLLM: LLaDA's blocks with approximate KV caches and as many commits per step as confidence allows.

Wu et al., "Fast-dLLM: Training-free Acceleration of Diffusion LLM by Enabling KV Cache and Parallel Decoding",
arXiv:2505.22618, algorithm 1 and the authors' code for LLaDA and (`token_shift`) for Dream. A block's first step shows
all positions and fills the cache; later steps show the block and everything behind it (`cache=prefix`) or the block
alone, overwriting its own keys and values in place (`cache=dual`). Without a cache and with fixed steps this is LLaDA.
Softmax runs in float64, as the authors have it. The mask token is never predicted. Leaves out random re-masking, the
orderings and filters of Dream, and the second Gumbel draw that the authors' prefix path throws away.

Shape suffixes: B batch, P prompt positions, L prompt and generated positions, S positions shown, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch

from workloads.errors import WorkloadError
from workloads.markers import phase
from workloads.samplers.choosing import (
    choose_tokens,
    commit_best,
    commit_where,
    probability_of,
    select_by_factor,
    select_confident,
)
from workloads.samplers.masked import (
    BlockOptions,
    append_masks,
    commits_without_values,
    require_mask_id,
    transfer_counts,
)
from workloads.samplers.protocol import Denoiser, Generation, make_generator

CACHES = ("none", "prefix", "dual")
PUBLISHED_COMMITS = 3  # 3.25 tokens per forward at threshold 0.9 (arXiv:2505.22618, GSM8K, LLaDA-8B, block 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(BlockOptions):
    """Options of Fast-dLLM, besides those of its blocks; without threshold and factor each step commits a fixed count.

    Attributes:
        cache: `none` shows all positions always, `prefix` keeps what stands before the block, `dual` all around it.
        threshold: commit every prediction more probable than this, and always the best.
        factor: commit the best n, for the largest n with `(n + 1)(1 - c_n) < factor`, and always the best.
        token_shift: read position i from row i - 1, as Dream does. The row before a block is shown in its first step
            only, so that with a cache this step commits the block's first position, and nothing else.
        assumed_commits: tokens per sequence that each step is taken to commit under threshold or factor, whatever the
            confidences; None to compare them, and 3 on `meta`, where there are none.
    """

    cache: str = "dual"
    threshold: float | None = None
    factor: float | None = None
    token_shift: bool = False
    assumed_commits: int | None = None

    def __post_init__(self) -> None:
        BlockOptions.__post_init__(self)
        if self.cache not in CACHES:
            raise WorkloadError(f"fast_dllm: cache must be one of {', '.join(CACHES)}, got {self.cache!r}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise WorkloadError(f"fast_dllm: threshold must lie in 0..1, got {self.threshold}")
        if self.factor is not None and not (math.isfinite(self.factor) and self.factor > 0):
            raise WorkloadError(f"fast_dllm: factor must be finite and > 0, got {self.factor}")
        if self.assumed_commits is not None and self.assumed_commits <= 0:
            raise WorkloadError(f"fast_dllm: assumed_commits must be > 0, got {self.assumed_commits}")
        rules = [name for name in ("steps", "threshold", "factor") if getattr(self, name) is not None]
        if len(rules) > 1:
            raise WorkloadError(f"fast_dllm: give one of steps, threshold and factor, got {' and '.join(rules)}")
        if self.begins_with_one and self.steps_per_block == 1 < self.tokens_per_block:
            raise WorkloadError(
                f"fast_dllm: steps must be at least {2 * self.blocks} with token_shift and a cache (a block's first "
                f"step commits one token), got {self.steps}"
            )

    @property
    def is_fixed(self) -> bool:
        """Whether each step commits a count known beforehand."""
        return self.threshold is None and self.factor is None

    @property
    def begins_with_one(self) -> bool:
        """Whether a block's first step commits its first position alone."""
        return self.token_shift and self.cache != "none"

    @property
    def fixed_counts(self) -> tuple[int, ...]:
        """Tokens per sequence that each of a block's steps commits, where that is known beforehand."""
        if self.begins_with_one and self.tokens_per_block > 1:
            return (1, *transfer_counts(self.tokens_per_block - 1, self.steps_per_block - 1))
        return transfer_counts(self.tokens_per_block, self.steps_per_block)


@torch.inference_mode()
def sample(model: Denoiser, prompt_BP: torch.Tensor, options: Options) -> Generation:
    """Fill `options.gen_length` masks behind each prompt.

    Raises:
        WorkloadError: a cache is asked for of a network that keeps none.
    """
    mask_id = require_mask_id(model, "fast_dllm")
    batch, prompt_length = prompt_BP.shape
    length = prompt_length + options.gen_length
    generator = make_generator(prompt_BP.device, options.seed)
    cache = None if options.cache == "none" else model.new_cache(batch, length)
    if cache is None and options.cache != "none":
        raise WorkloadError(f"fast_dllm: cache={options.cache} needs a network that keeps a KV cache; give cache=none")
    tokens_BL = append_masks(prompt_BP, options.gen_length, mask_id)
    committed: list[int] = []
    rows: list[int] = []
    for block in range(options.blocks):
        start = prompt_length + block * options.tokens_per_block
        end = start + options.tokens_per_block
        masked, step_in_block = batch * options.tokens_per_block, 0
        while masked > 0:
            first = 0 if cache is None or step_in_block == 0 else start
            last = end if options.cache == "dual" and step_in_block > 0 else length
            with phase("denoise", step=len(rows)):
                shown_BS = tokens_BL[:, first:last]
                logits_BSV = model(shown_BS, cache=cache, position=first)
                logits_BSV[..., mask_id].fill_(-torch.inf)
                if options.token_shift:
                    logits_BSV = torch.cat((logits_BSV[:, :1], logits_BSV[:, :-1]), dim=1)
                proposal_BS = choose_tokens(logits_BSV, options.temperature, generator)
                confidence_BS = probability_of(torch.softmax(logits_BSV.double(), dim=-1), proposal_BS)
                allowed = start + 1 if options.begins_with_one and step_in_block == 0 else end
                confidence_BS[:, allowed - first :].fill_(-torch.inf)
                confidence_BS.masked_fill_(shown_BS != mask_id, -torch.inf)
                committed.append(_commit(shown_BS, proposal_BS, confidence_BS, options, step_in_block, masked))
            rows.append(batch * (last - first))
            masked -= committed[-1]
            step_in_block += 1
    return Generation(
        tokens=tokens_BL,
        prompt_length=prompt_length,
        committed_per_forward=tuple(committed),
        rows_per_forward=tuple(rows),
    )


def _commit(
    tokens_BS: torch.Tensor,
    proposal_BS: torch.Tensor,
    confidence_BS: torch.Tensor,
    options: Options,
    step_in_block: int,
    masked: int,
) -> int:
    """Write what the rule allows, in place; gives the number of tokens over the whole batch."""
    batch = tokens_BS.shape[0]
    if options.begins_with_one and step_in_block == 0:
        count: int | None = 1
    elif options.is_fixed:
        count = options.fixed_counts[step_in_block]
    else:
        count = commits_without_values(options.assumed_commits, tokens_BS.device, PUBLISHED_COMMITS)
    if count is not None:
        count = min(count, masked // batch)
        commit_best(tokens_BS, proposal_BS, confidence_BS, count)
        return batch * count
    if options.factor is not None:
        selected_BS = select_by_factor(confidence_BS, options.factor)
    else:
        assert options.threshold is not None
        selected_BS = select_confident(confidence_BS, options.threshold)
    commit_where(tokens_BS, proposal_BS, selected_BS)
    return int(selected_BS.sum())
