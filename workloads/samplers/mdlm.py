"""MDLM: masked diffusion by ancestral sampling; every step reveals each mask with the posterior's probability.

Sahoo et al., "Simple and Effective Masked Diffusion Language Models", arXiv:2406.07524, section 3.2 and the authors'
`ddpm` and `ddpm_cache` updates: log-linear noise with move chance t on an even grid from 1 to 1e-5, Gumbel-max in
float64 over rows x (V + 1), revealed tokens carried over, and a last forward whose most probable tokens fill the masks
that are left. Each forward shows the network all positions. Leaves out semi-autoregressive strides; temperature
(arXiv:2406.07524 has 1) divides the logits.

Shape suffixes: B batch, P prompt positions, G generated positions, L all of them, V vocabulary with the mask.
"""

import itertools
from dataclasses import dataclass

import torch

from workloads.markers import phase
from workloads.samplers.choosing import commit_where
from workloads.samplers.masked import append_masks, require_mask_id
from workloads.samplers.noise import absorbing_posterior, at_noise, race, reverse_times, token_probabilities
from workloads.samplers.protocol import Denoiser, Generation, make_generator
from workloads.samplers.reveals import Ledger, StepOptions, assumed_reuse

LAST_TIME = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(StepOptions):
    """Options of MDLM.

    Attributes:
        reuse: take the last prediction again, without a forward, after a step that revealed nothing in the whole batch
            (`ddpm_cache`); for networks that are not told the time. On `meta`, where nothing shows what a step
            reveals, the expected number of forwards is run, evenly spread over the steps.
    """

    reuse: bool = False


@torch.inference_mode()
def sample(model: Denoiser, prompt_BP: torch.Tensor, options: Options) -> Generation:
    """Fill `options.gen_length` masks behind each prompt in `steps` steps and one forward."""
    mask_id = require_mask_id(model, "mdlm")
    batch, prompt_length = prompt_BP.shape
    generator = make_generator(prompt_BP.device, options.seed)
    tokens_BL = append_masks(prompt_BP, options.gen_length, mask_id)
    generated_BG = tokens_BL[:, prompt_length:]
    times = reverse_times(options.steps_count, LAST_TIME)
    ledger = Ledger(generated_BG, mask_id, tokens_BL.numel())
    assumed = assumed_reuse(options.steps_count, batch * options.gen_length, 1 - LAST_TIME)
    clean_BGV = None
    for step, (time, next_time) in enumerate(itertools.pairwise(times)):
        with phase("denoise", step=step):
            is_reused = options.reuse and step > 0 and not ledger.changed(assumed[step])
            if clean_BGV is None or not is_reused:
                clean_BGV = _predict(at_noise(model, time), tokens_BL, prompt_length, mask_id, options.temperature)
                ledger.count_forward()
            revealed_BG = race(absorbing_posterior(clean_BGV.clone(), mask_id, time, next_time), generator)
            commit_where(generated_BG, revealed_BG, generated_BG == mask_id)
            ledger.count_commits(expected_left=next_time)
    with phase("denoise", step=options.steps_count):
        clean_BGV = _predict(at_noise(model, times[-1]), tokens_BL, prompt_length, mask_id, options.temperature)
        ledger.count_forward()
        commit_where(generated_BG, clean_BGV.argmax(dim=-1), generated_BG == mask_id)
        ledger.count_commits(expected_left=0.0)
    return ledger.generation(tokens_BL, prompt_length)


def _predict(
    model: Denoiser, tokens_BL: torch.Tensor, prompt_length: int, mask_id: int, temperature: float
) -> torch.Tensor:
    """Distribution of each generated token, nothing on the mask."""
    logits_BGV = model(tokens_BL)[:, prompt_length:]
    logits_BGV[..., mask_id].fill_(-torch.inf)
    return token_probabilities(logits_BGV, temperature)
