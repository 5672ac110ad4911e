"""LLaDA: masked diffusion in blocks from left to right, re-masking all but the most confident predictions.

Nie et al., "Large Language Diffusion Models", arXiv:2502.09992: algorithm 4 (random re-masking) and algorithm 5
(low-confidence re-masking), semi-autoregressive blocks, classifier-free guidance, and Gumbel noise as in the authors'
generate.py. The mask token is never predicted, as in the paper's p_theta(x_0 | x_t). Leaves out the options that
suppress end-of-sequence tokens, and never stops early. Each step shows the network all positions, without a cache.

Shape suffixes: B batch, P prompt positions, L prompt and generated positions, V vocabulary, N commits of one step.
"""

import math
from dataclasses import dataclass

import torch

from workloads.errors import WorkloadError
from workloads.markers import phase
from workloads.samplers.protocol import Denoiser, Generation, SamplerOptions, make_generator

REMASKING = ("low_confidence", "random")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(SamplerOptions):
    """Options of LLaDA's sampler.

    Attributes:
        steps: denoising steps over all blocks, None for one per token.
        block_length: tokens per block, None for a single block.
        remasking: `low_confidence` commits the most probable predictions of a step, `random` any of them.
        cfg_scale: strength of classifier-free guidance; 0 runs without.
    """

    steps: int | None = None
    block_length: int | None = None
    remasking: str = "low_confidence"
    cfg_scale: float = 0.0

    def __post_init__(self) -> None:
        SamplerOptions.__post_init__(self)
        if self.remasking not in REMASKING:
            raise WorkloadError(f"llada: remasking must be one of {', '.join(REMASKING)}, got {self.remasking!r}")
        if not (math.isfinite(self.cfg_scale) and self.cfg_scale >= 0):
            raise WorkloadError(f"llada: cfg_scale must be finite and >= 0, got {self.cfg_scale}")
        block, steps = self.tokens_per_block, self.gen_length if self.steps is None else self.steps
        if block <= 0 or self.gen_length % block:
            allowed = [n for n in range(1, self.gen_length + 1) if self.gen_length % n == 0]
            raise WorkloadError(
                f"llada: block_length must divide gen_length = {self.gen_length} "
                f"({', '.join(map(str, allowed))}), got {block}"
            )
        blocks = self.gen_length // block
        if steps <= 0 or steps % blocks or steps > self.gen_length:
            raise WorkloadError(
                f"llada: steps must be a multiple of the {blocks} blocks (gen_length {self.gen_length} / block_length "
                f"{block}), from {blocks} to {self.gen_length}, got {steps}"
            )

    @property
    def tokens_per_block(self) -> int:
        """Length of a block, the default filled in."""
        return self.gen_length if self.block_length is None else self.block_length

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.gen_length // self.tokens_per_block

    @property
    def steps_per_block(self) -> int:
        """Denoising steps of each block."""
        return (self.gen_length if self.steps is None else self.steps) // self.blocks


def transfer_counts(masked: int, steps: int) -> tuple[int, ...]:
    """Tokens that each of a block's steps commits; the first steps take the remainder.

    >>> transfer_counts(8, 3)
    (3, 3, 2)
    """
    base, remainder = divmod(masked, steps)
    return tuple(base + (step < remainder) for step in range(steps))


@torch.inference_mode()
def sample(model: Denoiser, prompt_BP: torch.Tensor, options: Options) -> Generation:
    """Fill `options.gen_length` masks behind each prompt."""
    mask_id = model.mask_id
    if mask_id is None:
        raise WorkloadError("llada: the network has no mask token; give a masked-diffusion model such as llada-8b")
    batch, prompt_length = prompt_BP.shape
    length = prompt_length + options.gen_length
    generator = make_generator(prompt_BP.device, options.seed)
    tokens_BL = prompt_BP.new_full((batch, length), mask_id)
    tokens_BL[:, :prompt_length].copy_(prompt_BP)
    counts = transfer_counts(options.tokens_per_block, options.steps_per_block)
    for step in range(options.blocks * len(counts)):
        block, step_in_block = divmod(step, len(counts))
        block_end = prompt_length + (block + 1) * options.tokens_per_block
        with phase("denoise", step=step):
            logits_BLV = _predict(model, tokens_BL, prompt_length, mask_id, options.cfg_scale)
            proposal_BL = choose_tokens(logits_BLV, options.temperature, generator)
            confidence_BL = _confidence(logits_BLV, proposal_BL, options.remasking, generator)
            confidence_BL[:, block_end:].fill_(-torch.inf)
            _commit(tokens_BL, proposal_BL, confidence_BL, mask_id, counts[step_in_block])
    rows = batch * length * (2 if options.cfg_scale > 0 else 1)
    return Generation(
        tokens=tokens_BL,
        prompt_length=prompt_length,
        committed_per_forward=tuple(batch * count for count in counts) * options.blocks,
        rows_per_forward=(rows,) * (options.blocks * len(counts)),
    )


def _predict(
    model: Denoiser, tokens_BL: torch.Tensor, prompt_length: int, mask_id: int, cfg_scale: float
) -> torch.Tensor:
    """Logits of all positions; guided by a second copy of the batch whose prompt is masked."""
    if cfg_scale == 0:
        logits_BLV = model(tokens_BL)
    else:
        unprompted_BL = tokens_BL.clone()
        unprompted_BL[:, :prompt_length].fill_(mask_id)
        conditional_BLV, unconditional_BLV = model(torch.cat((tokens_BL, unprompted_BL))).chunk(2)
        logits_BLV = guide(conditional_BLV, unconditional_BLV, cfg_scale)
    logits_BLV[..., mask_id].fill_(-torch.inf)
    return logits_BLV


def guide(conditional_BLV: torch.Tensor, unconditional_BLV: torch.Tensor, cfg_scale: float) -> torch.Tensor:
    """Classifier-free guidance `un + (s + 1) (c - un)` (arXiv:2502.09992, appendix; generate.py)."""
    return unconditional_BLV + (cfg_scale + 1) * (conditional_BLV - unconditional_BLV)


def choose_tokens(logits_BLV: torch.Tensor, temperature: float, generator: torch.Generator | None) -> torch.Tensor:
    """The most probable token, or by temperature a sample from `softmax(logits / temperature)`.

    The sample is `argmax exp(logits) / (-log u)^temperature` in float64: lower precision of the Gumbel noise lowers
    the quality of text (Zheng et al., arXiv:2409.02908).
    """
    if temperature == 0:
        return logits_BLV.argmax(dim=-1)
    logits_BLV = logits_BLV.double()
    uniform_BLV = torch.rand(logits_BLV.shape, dtype=torch.float64, device=logits_BLV.device, generator=generator)
    return (logits_BLV.exp() / (-uniform_BLV.log()) ** temperature).argmax(dim=-1)


def _confidence(
    logits_BLV: torch.Tensor, proposal_BL: torch.Tensor, remasking: str, generator: torch.Generator | None
) -> torch.Tensor:
    if remasking == "random":
        return torch.rand(proposal_BL.shape, device=proposal_BL.device, generator=generator)
    probability_BLV = torch.softmax(logits_BLV, dim=-1)
    return probability_BLV.gather(-1, proposal_BL[..., None])[..., 0]


def _commit(
    tokens_BL: torch.Tensor, proposal_BL: torch.Tensor, confidence_BL: torch.Tensor, mask_id: int, count: int
) -> None:
    """Write the proposals at the `count` most confident masked positions of each sequence."""
    confidence_BL = confidence_BL.masked_fill_(tokens_BL != mask_id, -torch.inf)
    chosen_BN = confidence_BL.topk(count, dim=-1).indices
    tokens_BL.scatter_(1, chosen_BN, proposal_BL.gather(1, chosen_BN))
