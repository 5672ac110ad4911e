"""LLaDA 2.1: blocks whose masks fill above one threshold, while tokens already there are edited above another.

"LLaDA2.1: Speeding Up Text Diffusion via Token Editing", arXiv:2602.08676, and its serving algorithm `JointThreshold`
of SGLang. Each forward shows one block against the exact keys and values of all before it. In every step masks whose
prediction is more probable than `threshold` become tokens (at least the best of them), and tokens of the block whose
prediction differs with more than `edit_threshold` are replaced. A block without masks goes on being edited for at most
`max_edits` steps; the step that changes nothing ends it, and leaves its keys and values in the cache, so no further
forward stores them. The mask token is never predicted. Leaves out multi-block editing, the penalty on repeated tokens,
top-k and top-p, and early stopping; the prompt is one block.

Shape suffixes: B batch, P prompt positions, L prompt and generated positions, S positions of the block, V vocabulary.
"""

from dataclasses import dataclass

import torch

from workloads.errors import WorkloadError
from workloads.markers import phase
from workloads.samplers.choosing import commit_best, commit_where, draw_tokens, probability_of, select_confident
from workloads.samplers.masked import BlockOptions, append_masks, commits_without_values, require_mask_id
from workloads.samplers.protocol import Denoiser, Generation, make_generator

# On meta: 8 steps and the one that ends the block give 32 / 9 = 3.56 tokens per forward; published are 3.64 for
# LLaDA2.1-flash in quality mode (thresholds 0.7 and 0.5, average of table 1 of arXiv:2602.08676).
PUBLISHED_COMMITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(BlockOptions):
    """Options of LLaDA 2.1's sampler; the defaults are its quality mode, 0.5 and 0.0 are its speed mode.

    Attributes:
        threshold: a mask becomes a token above this probability.
        edit_threshold: a token is replaced by a different one above this probability.
        max_edits: steps that a block without masks may go on being edited.
        assumed_commits: masks per sequence that each step is taken to fill, whatever the probabilities; None to compare
            them, and 4 on `meta`, where there are none.
        assumed_edits: further steps that each block then takes, besides the one that changes nothing.
    """

    threshold: float = 0.7
    edit_threshold: float = 0.5
    max_edits: int = 16
    assumed_commits: int | None = None
    assumed_edits: int = 0

    def __post_init__(self) -> None:
        BlockOptions.__post_init__(self)
        if self.steps is not None:
            raise WorkloadError(f"llada_edit: steps follow from the thresholds; leave steps out, got {self.steps}")
        for name in ("threshold", "edit_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise WorkloadError(f"llada_edit: {name} must lie in 0..1, got {getattr(self, name)}")
        if self.max_edits < 0:
            raise WorkloadError(f"llada_edit: max_edits must be >= 0, got {self.max_edits}")
        if self.assumed_commits is not None and self.assumed_commits <= 0:
            raise WorkloadError(f"llada_edit: assumed_commits must be > 0, got {self.assumed_commits}")
        if not 0 <= self.assumed_edits <= self.max_edits:
            raise WorkloadError(f"llada_edit: assumed_edits must lie in 0..{self.max_edits}, got {self.assumed_edits}")


@torch.inference_mode()
def sample(model: Denoiser, prompt_BP: torch.Tensor, options: Options) -> Generation:
    """Fill and edit `options.gen_length` masks behind each prompt; a commit is a mask that became a token."""
    mask_id = require_mask_id(model, "llada_edit")
    batch, prompt_length = prompt_BP.shape
    generator = make_generator(prompt_BP.device, options.seed)
    tokens_BL = append_masks(prompt_BP, options.gen_length, mask_id)
    cache = model.new_cache(batch, tokens_BL.shape[1])
    committed: list[int] = []
    rows: list[int] = []
    if prompt_length and cache is not None:
        with phase("prefill"):
            model(prompt_BP, cache=cache, last_only=True)
        committed.append(0)
        rows.append(prompt_BP.numel())
    for start in range(prompt_length, tokens_BL.shape[1], options.tokens_per_block):
        end = start + options.tokens_per_block
        block = _Block(tokens_BL[:, start:end], mask_id, options)
        first = 0 if cache is None else start
        while not block.is_finished:
            with phase("edit" if block.masked == 0 else "denoise", step=len(rows)):
                logits_BSV = model(tokens_BL[:, first:end], cache=cache, position=first)[:, start - first :]
                logits_BSV[..., mask_id].fill_(-torch.inf)
                committed.append(block.step(*_propose(logits_BSV, options.temperature, generator)))
            rows.append(batch * (end - first))
    return Generation(
        tokens=tokens_BL,
        prompt_length=prompt_length,
        committed_per_forward=tuple(committed),
        rows_per_forward=tuple(rows),
    )


def _propose(
    logits_BSV: torch.Tensor, temperature: float, generator: torch.Generator | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """A token for every position and its probability, both of the tempered distribution."""
    if temperature > 0:
        logits_BSV = logits_BSV / temperature
    probability_BSV = torch.softmax(logits_BSV, dim=-1)
    token_BS = draw_tokens(probability_BSV, generator) if temperature > 0 else probability_BSV.argmax(dim=-1)
    return token_BS, probability_of(probability_BSV, token_BS)


class _Block:
    """One block on its way from masks to its last edit; sequences that are done wait for the others."""

    def __init__(self, tokens_BS: torch.Tensor, mask_id: int, options: Options) -> None:
        self.tokens_BS = tokens_BS
        self.mask_id = mask_id
        self.options = options
        self.masked = tokens_BS.numel()
        self.is_finished = False
        self.assumed = commits_without_values(options.assumed_commits, tokens_BS.device, PUBLISHED_COMMITS)
        self.edit_steps = 0
        self.edit_steps_B = torch.zeros(len(tokens_BS), dtype=torch.long, device=tokens_BS.device)
        self.finished_B = torch.zeros(len(tokens_BS), dtype=torch.bool, device=tokens_BS.device)

    def step(self, proposal_BS: torch.Tensor, probability_BS: torch.Tensor) -> int:
        """Fill and edit in place; gives the number of masks filled over the whole batch."""
        masked_BS = self.tokens_BS == self.mask_id
        confidence_BS = probability_BS.masked_fill(~masked_BS, -torch.inf)
        if self.assumed is not None:
            return self._step_as_assumed(proposal_BS, confidence_BS, self.assumed)
        self.edit_steps_B += ~masked_BS.any(dim=-1)
        self.finished_B |= self.edit_steps_B > self.options.max_edits
        edit_BS = (probability_BS > self.options.edit_threshold) & (self.tokens_BS != proposal_BS) & ~masked_BS
        change_BS = select_confident(confidence_BS, self.options.threshold) | edit_BS
        change_BS &= ~self.finished_B[:, None]
        commit_where(self.tokens_BS, proposal_BS, change_BS)
        self.finished_B |= ~change_BS.any(dim=-1)
        filled, unfinished = torch.stack(((change_BS & masked_BS).sum(), (~self.finished_B).sum())).tolist()
        self.masked -= filled
        self.is_finished = unfinished == 0
        return int(filled)

    def _step_as_assumed(self, proposal_BS: torch.Tensor, confidence_BS: torch.Tensor, assumed: int) -> int:
        batch = len(self.tokens_BS)
        if self.masked == 0:
            self.edit_steps += 1
            self.is_finished = self.edit_steps > self.options.assumed_edits
            return 0
        count = min(assumed, self.masked // batch)
        commit_best(self.tokens_BS, proposal_BS, confidence_BS, count)
        self.masked -= batch * count
        return batch * count
