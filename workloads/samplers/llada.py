"""LLaDA: masked diffusion in blocks from left to right, re-masking all but the most confident predictions.

Nie et al., "Large Language Diffusion Models", arXiv:2502.09992: algorithm 4 (random re-masking) and algorithm 5
(low-confidence re-masking), semi-autoregressive blocks, classifier-free guidance, and Gumbel noise as in the authors'
generate.py. The mask token is never predicted, as in the paper's p_theta(x_0 | x_t). Leaves out the options that
suppress end-of-sequence tokens, and never stops early. Each step shows the network all positions, without a cache.

Shape suffixes: B batch, P prompt positions, L prompt and generated positions, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch

from workloads.errors import WorkloadError
from workloads.markers import phase
from workloads.samplers.choosing import choose_tokens, commit_best, probability_of
from workloads.samplers.masked import BlockOptions, append_masks, require_mask_id, transfer_counts
from workloads.samplers.protocol import Denoiser, Generation, make_generator

REMASKING = ("low_confidence", "random")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(BlockOptions):
    """Options of LLaDA's sampler, besides those of its blocks.

    Attributes:
        remasking: `low_confidence` commits the most probable predictions of a step, `random` any of them.
        cfg_scale: strength of classifier-free guidance; 0 runs without.
    """

    remasking: str = "low_confidence"
    cfg_scale: float = 0.0

    def __post_init__(self) -> None:
        BlockOptions.__post_init__(self)
        if self.remasking not in REMASKING:
            raise WorkloadError(f"llada: remasking must be one of {', '.join(REMASKING)}, got {self.remasking!r}")
        if not (math.isfinite(self.cfg_scale) and self.cfg_scale >= 0):
            raise WorkloadError(f"llada: cfg_scale must be finite and >= 0, got {self.cfg_scale}")


@torch.inference_mode()
def sample(model: Denoiser, prompt_BP: torch.Tensor, options: Options) -> Generation:
    """Fill `options.gen_length` masks behind each prompt."""
    mask_id = require_mask_id(model, "llada")
    batch, prompt_length = prompt_BP.shape
    length = prompt_length + options.gen_length
    generator = make_generator(prompt_BP.device, options.seed)
    tokens_BL = append_masks(prompt_BP, options.gen_length, mask_id)
    counts = transfer_counts(options.tokens_per_block, options.steps_per_block)
    for step in range(options.blocks * len(counts)):
        block, step_in_block = divmod(step, len(counts))
        block_end = prompt_length + (block + 1) * options.tokens_per_block
        with phase("denoise", step=step):
            logits_BLV = _predict(model, tokens_BL, prompt_length, mask_id, options.cfg_scale)
            proposal_BL = choose_tokens(logits_BLV, options.temperature, generator)
            confidence_BL = _confidence(logits_BLV, proposal_BL, options.remasking, generator)
            confidence_BL[:, block_end:].fill_(-torch.inf)
            confidence_BL.masked_fill_(tokens_BL != mask_id, -torch.inf)
            commit_best(tokens_BL, proposal_BL, confidence_BL, counts[step_in_block])
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


def _confidence(
    logits_BLV: torch.Tensor, proposal_BL: torch.Tensor, remasking: str, generator: torch.Generator | None
) -> torch.Tensor:
    if remasking == "random":
        return torch.rand(proposal_BL.shape, device=proposal_BL.device, generator=generator)
    return probability_of(torch.softmax(logits_BLV, dim=-1), proposal_BL)
