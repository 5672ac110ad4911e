"""Speculative decoding: a small network drafts, one forward of the large one verifies, and no distribution changes.

Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", arXiv:2211.17192, algorithm 1 (also Chen
et al., arXiv:2302.01318): accept a draft with probability min(1, p / q), draw the first rejected one again from the
normalized positive part of p - q, and one more token where all are accepted. By default the network's own first layers
draft (early exit, as in Elhoushi et al., LayerSkip, arXiv:2404.16710, but with a KV cache of their own); any preset
with the same vocabulary may. A batch goes on together, by the fewest accepted drafts of its sequences, which leaves
each sequence's distribution exact. Leaves out trees of drafts and an adaptive draft length.

Shape suffixes: B batch, P prompt positions, L prompt and generated positions, G drafts, S = G + 1 verified rows,
V vocabulary.
"""

from dataclasses import dataclass

import torch

from workloads.errors import WorkloadError
from workloads.markers import phase
from workloads.samplers.autoregressive import choose_next
from workloads.samplers.choosing import FilterOptions, draw_tokens, probability_of
from workloads.samplers.drafting import DraftingDenoiser, add_drafter, drafter_of
from workloads.samplers.masked import commits_without_values
from workloads.samplers.protocol import Denoiser, Generation, make_generator

# On meta: acceptance 0.75 (T5-XXL drafted by T5-small, translation, greedy: table 2 of arXiv:2211.17192) lets a round
# of 4 drafts give (1 - 0.75^5) / (1 - 0.75) = 3.05 tokens.
PUBLISHED_COMMITS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(FilterOptions):
    """Options of speculative decoding; temperature and filters apply to both networks.

    Attributes:
        draft_length: drafts of each round.
        drafter: model preset that drafts; None for the first layers of the network itself.
        drafter_layers: how many of its first layers draft; None for a quarter.
        assumed_commits: tokens per sequence that each round is taken to give, at most `draft_length + 1`; None for what
            the networks say, and 3 on `meta`, where they say nothing.
    """

    draft_length: int = 4
    drafter: str | None = None
    drafter_layers: int | None = None
    assumed_commits: int | None = None

    def __post_init__(self) -> None:
        FilterOptions.__post_init__(self)
        if self.draft_length <= 0:
            raise WorkloadError(f"speculative: draft_length must be > 0, got {self.draft_length}")
        if self.drafter is not None and self.drafter_layers is not None:
            raise WorkloadError(
                f"speculative: drafter_layers belongs to early exit; leave it out with drafter={self.drafter}"
            )
        if self.assumed_commits is not None and not 1 <= self.assumed_commits <= self.draft_length + 1:
            raise WorkloadError(
                f"speculative: assumed_commits must lie in 1..{self.draft_length + 1}, got {self.assumed_commits}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculativeGeneration(Generation):
    """A generation whose forwards are the large network's: the prefill, then one per round.

    Attributes:
        draft_rows_per_forward: token rows that entered each evaluation of the drafter, over the whole batch.
    """

    draft_rows_per_forward: tuple[int, ...]


def prepare(model: Denoiser, options: Options) -> DraftingDenoiser:
    """Put the drafter that the options name beside a network, before anything is measured."""
    return add_drafter(model, preset_name=options.drafter, layers=options.drafter_layers, seed=options.seed)


@torch.inference_mode()
def sample(model: Denoiser, prompt_BP: torch.Tensor, options: Options) -> SpeculativeGeneration:
    """Continue each prompt by `options.gen_length` tokens.

    Raises:
        WorkloadError: the prompt is empty.
    """
    batch, prompt_length = prompt_BP.shape
    if prompt_length == 0:
        raise WorkloadError("speculative: the prompt must have at least one token, got none")
    length = prompt_length + options.gen_length
    generator = make_generator(prompt_BP.device, options.seed)
    tokens_BL = prompt_BP.new_zeros((batch, length))
    tokens_BL[:, :prompt_length].copy_(prompt_BP)
    target, drafter = _Reader(model, tokens_BL), _Reader(drafter_of(model), tokens_BL)
    with phase("prefill"):
        first_B1V = target.read(prompt_length, rows=1)
        tokens_BL[:, prompt_length].copy_(choose_next(first_B1V[:, 0], options, generator))
        if options.gen_length > 2:
            drafter.read(prompt_length, rows=1)
    committed = [batch]
    end = prompt_length + 1
    while end < length:
        drafts = min(options.draft_length, length - end - 1)
        with phase("draft", step=len(committed) - 1):
            proposal = [_draft(drafter, end + i, options, generator) for i in range(drafts)]
        with phase("verify", step=len(committed) - 1):
            logits_BSV = target.read(end + drafts, rows=drafts + 1)
            accepted = _verify(logits_BSV, proposal, tokens_BL[:, end : end + drafts + 1], options, generator)
        target.rewind(end + accepted)
        drafter.rewind(end + accepted)
        committed.append(batch * (accepted + 1))
        end += accepted + 1
    return SpeculativeGeneration(
        tokens=tokens_BL,
        prompt_length=prompt_length,
        committed_per_forward=tuple(committed),
        rows_per_forward=tuple(target.rows),
        draft_rows_per_forward=tuple(drafter.rows),
    )


class _Reader:
    """A network that reads along a growing sequence, with its cache if it has one."""

    def __init__(self, model: Denoiser, tokens_BL: torch.Tensor) -> None:
        self.model = model
        self.tokens_BL = tokens_BL
        self.cache = model.new_cache(*tokens_BL.shape)
        self.length = 0
        self.rows: list[int] = []

    def read(self, end: int, *, rows: int) -> torch.Tensor:
        """Logits `[B, rows, V]` of the last positions before `end`; shows what has not been read yet."""
        start = 0 if self.cache is None else self.length
        shown_BS = self.tokens_BL[:, start:end]
        logits_BSV = self.model(shown_BS, cache=self.cache, position=start, last_only=rows == 1)
        self.rows.append(shown_BS.numel())
        self.length = end
        return logits_BSV[:, -rows:]

    def rewind(self, length: int) -> None:
        """Forget what was read from `length` on."""
        self.length = min(self.length, length)
        if self.cache is not None:
            self.cache.truncate(self.length)


def _draft(drafter: _Reader, end: int, options: Options, generator: torch.Generator | None) -> torch.Tensor:
    """Write a draft at position `end`; gives the distribution `[B, V]` that it comes from (logits where greedy)."""
    logits_BV = drafter.read(end, rows=1)[:, 0]
    if options.temperature == 0:
        drafter.tokens_BL[:, end].copy_(logits_BV.argmax(dim=-1))
        return logits_BV
    probability_BV = options.distribution(logits_BV)
    drafter.tokens_BL[:, end].copy_(draw_tokens(probability_BV, generator))
    return probability_BV


def _verify(
    logits_BSV: torch.Tensor,
    proposal: list[torch.Tensor],
    tokens_BS: torch.Tensor,
    options: Options,
    generator: torch.Generator | None,
) -> int:
    """Accept drafts, write the token behind them in place, and give how many were accepted."""
    draft_BG = tokens_BS[:, :-1]
    drafts = draft_BG.shape[1]
    if options.temperature == 0:
        best_BS = logits_BSV.argmax(dim=-1)
        kept = _count_accepted(best_BS[:, :-1] == draft_BG, options)
        tokens_BS[:, kept].copy_(best_BS[:, kept])
        return kept
    p_BSV = options.distribution(logits_BSV)
    if drafts == 0:
        tokens_BS[:, 0].copy_(draw_tokens(p_BSV[:, 0], generator))
        return 0
    q_BGV = torch.stack(proposal, dim=1)
    uniform_BG = torch.rand(draft_BG.shape, device=draft_BG.device, generator=generator)
    accept_BG = uniform_BG * probability_of(q_BGV, draft_BG) < probability_of(p_BSV[:, :-1], draft_BG)
    kept = _count_accepted(accept_BG, options)
    p_BV = p_BSV[:, kept]
    if kept == drafts:
        tokens_BS[:, kept].copy_(draw_tokens(p_BV, generator))
        return kept
    residual_BV = (p_BV - q_BGV[:, kept]).clamp_(min=0)
    # Where p and q are equal but for rounding nothing is left over, and p itself is right.
    is_residual_B = ~accept_BG[:, kept] & (residual_BV.sum(dim=-1) > 0)
    drawn_B = draw_tokens(torch.where(is_residual_B[:, None], residual_BV, p_BV), generator)
    tokens_BS[:, kept].copy_(torch.where(accept_BG[:, kept], draft_BG[:, kept], drawn_B))
    return kept


def _count_accepted(accept_BG: torch.Tensor, options: Options) -> int:
    """Drafts before the first rejected one, the fewest of the batch."""
    drafts = accept_BG.shape[1]
    assumed = commits_without_values(options.assumed_commits, accept_BG.device, PUBLISHED_COMMITS)
    leading_B = accept_BG.long().cumprod(dim=-1).sum(dim=-1)
    fewest = leading_B.min()
    return min(assumed - 1, drafts) if assumed is not None else int(fewest)
