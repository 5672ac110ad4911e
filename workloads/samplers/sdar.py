"""SDAR: block diffusion with a KV cache that commits by position, by confidence or by entropy.

Cheng et al., "SDAR: A Synergistic Diffusion-AutoRegression Paradigm", arXiv:2510.06303, and the authors' generate.py
and JetEngine: block-causal prefill, then per block at most `steps_per_block` forwards of its rows against the cache of
those before, and one more that stores its keys and values. Step i commits `k_i`, its even share of the block:
`sequential` the leftmost masks, `low_confidence_static` the most confident, `low_confidence_dynamic` all above a
threshold and at least the `k_i` most confident; `entropy_bounded` takes positions by rising entropy while the sum stays
below a bound, and at least one. Confidence is the probability of the drawn token after temperature, top-k and top-p.
The mask is never predicted, and positions that are not masked are never written. Leaves out stopping at the end of a
sequence. In a batch, sequences wait for the slowest.

Shape suffixes: B batch, P prompt positions, S positions of one block, V vocabulary.
"""

from dataclasses import dataclass

import torch

from workloads.errors import WorkloadError
from workloads.markers import phase
from workloads.samplers.blocks import BlockDenoiser, BlockRun, BlockwiseOptions
from workloads.samplers.choosing import (
    commit_best,
    commit_where,
    draw_tokens,
    negative_entropy,
    probability_of,
    select_best,
    select_low_entropy,
)
from workloads.samplers.masked import commits_without_values, require_mask_id, transfer_counts
from workloads.samplers.protocol import Generation, make_generator

STRATEGIES = ("sequential", "low_confidence_static", "low_confidence_dynamic", "entropy_bounded")
PUBLISHED_COMMITS = 2  # 2.55 tokens per forward of a like model, LLaDA2.0-mini at threshold 0.95 (arXiv:2512.15745)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(BlockwiseOptions):
    """Options of SDAR, besides those of its blocks.

    Attributes:
        block_length: tokens per block.
        strategy: which of the proposed tokens a step commits.
        threshold: confidence above which `low_confidence_dynamic` commits.
        entropy_bound: nats that the entropies of one step's commits stay below, for `entropy_bounded`; 0.35 is a choice
            of this project.
        assumed_commits: tokens per sequence and step to commit where values decide (`low_confidence_dynamic` and
            `entropy_bounded`), the most confident ones; None lets values decide, and takes 2 on `meta`.
    """

    block_length: int = 4
    strategy: str = "low_confidence_dynamic"
    threshold: float = 0.85
    entropy_bound: float = 0.35
    assumed_commits: int | None = None

    def __post_init__(self) -> None:
        BlockwiseOptions.__post_init__(self)
        if self.strategy not in STRATEGIES:
            raise WorkloadError(f"sdar: strategy must be one of {', '.join(STRATEGIES)}, got {self.strategy!r}")
        if not 0 <= self.threshold <= 1:
            raise WorkloadError(f"sdar: threshold must lie in 0..1, got {self.threshold}")
        if not self.entropy_bound > 0:
            raise WorkloadError(f"sdar: entropy_bound must be > 0, got {self.entropy_bound}")
        if self.assumed_commits is not None and self.assumed_commits <= 0:
            raise WorkloadError(f"sdar: assumed_commits must be > 0, got {self.assumed_commits}")


@torch.inference_mode()
def sample(model: BlockDenoiser, prompt_BP: torch.Tensor, options: Options) -> Generation:
    """Generate `options.gen_length` tokens behind each prompt, block by block."""
    mask_id = require_mask_id(model, "sdar")
    batch = prompt_BP.shape[0]
    generator = make_generator(prompt_BP.device, options.seed)
    run = BlockRun(model, prompt_BP, options.gen_length, options.block_length, mask_id)
    shares = transfer_counts(options.block_length, options.steps_per_block or options.block_length)
    step = 0
    for block, (start, end) in enumerate(run.edges):
        tokens_BS = run.tokens_BL[:, start:end]
        masked, step_in_block = batch * run.masked(start, end), 0
        while masked > 0:
            with phase("denoise", step=step):
                logits_BSV = run.predict(model, start, end)
                logits_BSV[..., mask_id].fill_(-torch.inf)
                probability_BSV = options.distribution(logits_BSV)
                share = shares[min(step_in_block, len(shares) - 1)]
                count = _commit(tokens_BS, probability_BSV, mask_id, masked, share, options, generator)
            run.commit(count)
            masked -= count
            step += 1
            step_in_block += 1
        run.store(model, block)
    return run.generation()


def _commit(
    tokens_BS: torch.Tensor,
    probability_BSV: torch.Tensor,
    mask_id: int,
    masked: int,
    share: int,
    options: Options,
    generator: torch.Generator | None,
) -> int:
    """Write what the strategy allows, in place; gives the number of tokens over the whole batch."""
    batch, positions = tokens_BS.shape
    is_greedy = options.temperature == 0
    token_BS = probability_BSV.argmax(dim=-1) if is_greedy else draw_tokens(probability_BSV, generator)
    if options.strategy == "sequential":
        rank_S = torch.arange(positions, 0, -1, dtype=torch.float32, device=tokens_BS.device)
        confidence_BS = rank_S.expand(batch, -1)
    else:
        confidence_BS = probability_of(probability_BSV, token_BS)
    is_filled_BS = tokens_BS != mask_id
    confidence_BS = confidence_BS.masked_fill(is_filled_BS, -torch.inf)
    is_fixed = options.strategy in {"sequential", "low_confidence_static"}
    count = share if is_fixed else commits_without_values(options.assumed_commits, tokens_BS.device, PUBLISHED_COMMITS)
    if count is not None:
        count = min(count, masked // batch)
        commit_best(tokens_BS, token_BS, confidence_BS, count)
        return batch * count
    if options.strategy == "entropy_bounded":
        entropy_BS = (-negative_entropy(probability_BSV)).masked_fill(is_filled_BS, torch.inf)
        selected_BS = select_low_entropy(entropy_BS, options.entropy_bound, counts_itself=True)
    else:
        selected_BS = select_best(confidence_BS, share).logical_or_(confidence_BS > options.threshold)
    commit_where(tokens_BS, token_BS, selected_BS)
    return int(selected_BS.sum())
