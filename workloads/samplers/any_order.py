"""Any-order autoregression: exactly one token per forward, at positions in random order or from left to right.

Hoogeboom et al., "Autoregressive Diffusion Models", arXiv:2110.02037, algorithm 1 in its one-token-at-a-time form; the
order is drawn once per generation and shared by the batch. From left to right under a causal network
(`order=left_to_right`, `token_shift=true`) it is autoregressive decoding, token for token. Leaves out the paper's
dynamic programming over parallel steps. Each forward shows the network all positions, without a cache.

Shape suffixes: B batch, P prompt positions, L prompt and generated positions, V vocabulary.
"""

import random
from dataclasses import dataclass

import torch

from workloads.errors import WorkloadError
from workloads.markers import phase
from workloads.samplers.choosing import choose_tokens
from workloads.samplers.masked import append_masks, require_mask_id
from workloads.samplers.protocol import Denoiser, Generation, SamplerOptions, make_generator

ORDERS = ("random", "left_to_right")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(SamplerOptions):
    """Options of any-order decoding.

    Attributes:
        order: `random` (by the seed) or `left_to_right`.
        token_shift: whether the network's row i says what stands at position i + 1, as causal networks do.
    """

    order: str = "random"
    token_shift: bool = False

    def __post_init__(self) -> None:
        SamplerOptions.__post_init__(self)
        if self.order not in ORDERS:
            raise WorkloadError(f"any_order: order must be one of {', '.join(ORDERS)}, got {self.order!r}")


@torch.inference_mode()
def sample(model: Denoiser, prompt_BP: torch.Tensor, options: Options) -> Generation:
    """Fill one position after the other behind each prompt.

    A network without a mask token is shown token 0 where nothing stands yet; that is allowed from left to right only,
    where a causal network cannot see it.

    Raises:
        WorkloadError: a shifted network is given an empty prompt.
    """
    batch, prompt_length = prompt_BP.shape
    if options.token_shift and prompt_length == 0:
        raise WorkloadError("any_order: token_shift needs a prompt of at least one token, got none")
    is_ordered = options.order == "left_to_right"
    mask_id = model.mask_id if is_ordered else require_mask_id(model, "any_order")
    generator = make_generator(prompt_BP.device, options.seed)
    tokens_BL = append_masks(prompt_BP, options.gen_length, mask_id or 0)
    positions = list(range(prompt_length, tokens_BL.shape[1]))
    if not is_ordered:
        random.Random(options.seed).shuffle(positions)
    for step, position in enumerate(positions):
        with phase("denoise", step=step):
            logits_BLV = model(tokens_BL)
            logits_BV = logits_BLV[:, position - 1 if options.token_shift else position]
            if mask_id is not None:
                logits_BV[:, mask_id].fill_(-torch.inf)
            tokens_BL[:, position].copy_(choose_tokens(logits_BV, options.temperature, generator))
    return Generation(
        tokens=tokens_BL,
        prompt_length=prompt_length,
        committed_per_forward=(batch,) * options.gen_length,
        rows_per_forward=(tokens_BL.numel(),) * options.gen_length,
    )
