"""BD3-LM: block diffusion; masked diffusion inside a block, given the KV cache of the blocks before.

Arriola et al., "Block Diffusion: Interpolating Between Autoregressive and Diffusion Language Models", arXiv:2503.09573,
algorithm 2 and the authors' code: inside a block either the first-hitting sampler (Zheng et al., arXiv:2409.02908,
exact: the next reveal happens at `t u^(1 / masked)`, at any masked position, so exactly one token per forward) or
ancestral steps on an even grid of times from 1 to 0, with the last prediction reused, without a forward, where nothing
was revealed. Probabilities in float64, nucleus filter, Gumbel-max over rows x V; a finished block costs one extra
forward that stores its keys and values. Leaves out the sliding context window and early stopping. The nucleus contains
the token that reaches its mass. On `meta` ancestral steps run the expected number of forwards, evenly spread, and no
block ends before its last step.

Shape suffixes: B batch, P prompt positions, S positions of one block, V vocabulary.
"""

import itertools
import random
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from workloads.errors import WorkloadError
from workloads.markers import phase
from workloads.samplers.blocks import BlockDenoiser, BlockRun, BlockwiseOptions
from workloads.samplers.choosing import commit_best, commit_where, keep_top_k, keep_top_p
from workloads.samplers.masked import require_mask_id
from workloads.samplers.noise import absorbing_posterior, at_noise, race, reverse_times, token_probabilities
from workloads.samplers.protocol import Generation, make_generator
from workloads.samplers.reveals import expected_changes, spread

UPDATES = ("first_hitting", "ddpm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(BlockwiseOptions):
    """Options of BD3-LM, besides those of its blocks.

    Attributes:
        update: `first_hitting` reveals one token per forward; `ddpm` takes `steps_per_block` ancestral steps.
    """

    update: str = "first_hitting"

    def __post_init__(self) -> None:
        BlockwiseOptions.__post_init__(self)
        if self.update not in UPDATES:
            raise WorkloadError(f"bd3lm: update must be one of {', '.join(UPDATES)}, got {self.update!r}")
        if self.update == "first_hitting" and self.steps_per_block is not None:
            raise WorkloadError(
                f"bd3lm: first_hitting takes one step per token; give update=ddpm for steps_per_block = "
                f"{self.steps_per_block}"
            )


@torch.inference_mode()
def sample(model: BlockDenoiser, prompt_BP: torch.Tensor, options: Options) -> Generation:
    """Generate `options.gen_length` tokens behind each prompt, block by block."""
    mask_id = require_mask_id(model, "bd3lm")
    run = BlockRun(model, prompt_BP, options.gen_length, options.block_length, mask_id)
    sampler = _BlockSampler(model, run, mask_id, options, make_generator(prompt_BP.device, options.seed))
    for block in range(len(run.edges)):
        if options.update == "first_hitting":
            sampler.hit(block)
        else:
            sampler.step_down(block)
        run.store(model, block)
    return run.generation()


class _BlockSampler:
    """Both ways to fill the masks of one block."""

    def __init__(
        self,
        model: BlockDenoiser,
        run: BlockRun,
        mask_id: int,
        options: Options,
        generator: torch.Generator | None,
    ) -> None:
        self.model = model
        self.run = run
        self.mask_id = mask_id
        self.options = options
        self.generator = generator
        self.times = random.Random(options.seed)
        self.steps = 0

    def hit(self, block: int) -> None:
        """Reveal one random masked position of each sequence per forward, until none is left."""
        start, end = self.run.edges[block]
        tokens_BS = self.run.tokens_BL[:, start:end]
        time = 1.0
        for masked in range(self.run.masked(start, end), 0, -1):
            time *= (1 - self.times.random()) ** (1 / masked)
            with self._step():
                token_BS = race(self._predict(start, end, time), self.generator)
                order_BS = torch.rand(tokens_BS.shape, device=tokens_BS.device, generator=self.generator)
                order_BS.masked_fill_(tokens_BS != self.mask_id, -torch.inf)
                commit_best(tokens_BS, token_BS, order_BS, 1)
            self.run.commit(tokens_BS.shape[0])

    def step_down(self, block: int) -> None:
        """Ancestral steps; one that reveals nothing lets the next go without a forward."""
        start, end = self.run.edges[block]
        tokens_BS = self.run.tokens_BL[:, start:end]
        steps = self.options.steps_per_block or self.options.block_length
        total = left = tokens_BS.shape[0] * self.run.masked(start, end)
        assumed = (True, *spread(expected_changes(steps, total) - 1, steps - 1))
        clean_BSV = None
        is_changed = True
        for step, (time, next_time) in enumerate(itertools.pairwise(reverse_times(steps, 0.0))):
            if left == 0 and not tokens_BS.is_meta:
                break
            with self._step():
                if tokens_BS.is_meta:
                    is_changed = assumed[step]
                if clean_BSV is None or is_changed:
                    clean_BSV = self._predict(start, end, time)
                token_BS = race(absorbing_posterior(clean_BSV.clone(), self.mask_id, time, next_time), self.generator)
                commit_where(tokens_BS, token_BS, tokens_BS == self.mask_id)
                masked = (tokens_BS == self.mask_id).sum()
                remaining = round(total * next_time) if masked.is_meta else int(masked)
            is_changed = remaining < left
            self.run.commit(left - remaining)
            left = remaining

    def _step(self) -> AbstractContextManager[None]:
        self.steps += 1
        return phase("denoise", step=self.steps - 1)

    def _predict(self, start: int, end: int, time: float) -> torch.Tensor:
        """Distribution of each clean token in float64, nothing on the mask and outside the nucleus."""
        logits_BSV = self.run.predict(at_noise(self.model, time), start, end).double()
        logits_BSV[..., self.mask_id].fill_(-torch.inf)
        if self.options.temperature == 0:
            return token_probabilities(logits_BSV, 0.0)
        logits_BSV = keep_top_k(logits_BSV / self.options.temperature, self.options.top_k)
        return token_probabilities(keep_top_p(logits_BSV, self.options.top_p), 1.0)
