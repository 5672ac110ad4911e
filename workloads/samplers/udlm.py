"""UDLM: uniform-noise diffusion; every step resamples every token from the posterior, so errors can be mended.

Schiff et al., "Simple Guidance Mechanisms for Discrete Diffusion Models", arXiv:2412.10193: the posterior of equation
13 over rows x V by Gumbel-max in float64, on an even grid of log-linear noise from t = 1 to 1e-5, and classifier-free
guidance `p(x_s | x_t, prompt)^(s + 1) p(x_s | x_t)^(-s)` of the posteriors (equation 6 with gamma = s + 1) by a second
copy of the batch whose prompt is noise: masks, or random tokens where the network has none. No token is final, and no
prediction can be reused, before the last step. Leaves out classifier-based guidance; temperature divides the logits.

The posterior takes the clean token's distribution given the *other* positions, which training on the paper's bound
learns (`prediction=leave_one_out`). For a network trained by plain cross entropy (`prediction=posterior`) the token
that stands there is divided out first; without that the samples are wrong at any number of steps.

Shape suffixes: B batch, P prompt positions, G generated positions, L all of them, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch

from workloads.errors import WorkloadError
from workloads.markers import phase
from workloads.samplers.masked import append_masks
from workloads.samplers.noise import (
    LogLinear,
    at_noise,
    leave_one_out,
    move_chance,
    race,
    random_tokens,
    reverse_times,
    token_probabilities,
    uniform_posterior,
)
from workloads.samplers.protocol import Generation, make_generator
from workloads.samplers.reveals import StepOptions
from workloads.samplers.uniform import UniformDenoiser

LAST_TIME = 1e-5
PREDICTIONS = ("leave_one_out", "posterior")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(StepOptions):
    """Options of UDLM.

    Attributes:
        cfg_scale: strength of classifier-free guidance; 0 runs without.
        prediction: whether the network's distribution is given the other positions (`leave_one_out`) or all of them.
    """

    cfg_scale: float = 0.0
    prediction: str = "leave_one_out"

    def __post_init__(self) -> None:
        StepOptions.__post_init__(self)
        if self.prediction not in PREDICTIONS:
            raise WorkloadError(f"udlm: prediction must be one of {', '.join(PREDICTIONS)}, got {self.prediction!r}")
        if not (math.isfinite(self.cfg_scale) and self.cfg_scale >= 0):
            raise WorkloadError(f"udlm: cfg_scale must be finite and >= 0, got {self.cfg_scale}")


@torch.inference_mode()
def sample(model: UniformDenoiser, prompt_BP: torch.Tensor, options: Options) -> Generation:
    """Turn `options.gen_length` random tokens behind each prompt into text."""
    batch, prompt_length = prompt_BP.shape
    generator = make_generator(prompt_BP.device, options.seed)
    tokens_BL = append_masks(prompt_BP, options.gen_length, 0)
    here_BG = tokens_BL[:, prompt_length:]
    here_BG.copy_(random_tokens(here_BG, model.vocab, generator))
    chances = [move_chance(LogLinear().total_noise(time)) for time in reverse_times(options.steps_count, LAST_TIME)]
    for step in range(options.steps_count):
        chance, next_chance = chances[step : step + 2]
        with phase("denoise", step=step):
            shown_BL = tokens_BL
            if options.cfg_scale > 0:
                shown_BL = torch.cat((tokens_BL, _without_prompt(model, tokens_BL, prompt_length, generator)))
            logits_BGV = at_noise(model, chance)(shown_BL)[:, prompt_length:]
            clean_BGV = token_probabilities(logits_BGV, options.temperature)
            noisy_BG = shown_BL[:, prompt_length:]
            if options.prediction == "posterior":
                clean_BGV = leave_one_out(clean_BGV, noisy_BG, chance)
            weight_BGV = uniform_posterior(clean_BGV, noisy_BG, chance, next_chance)
            if options.cfg_scale > 0:
                conditional_BGV, unconditional_BGV = weight_BGV.chunk(2)
                weight_BGV = guide(conditional_BGV, unconditional_BGV, options.cfg_scale)
            here_BG.copy_(race(weight_BGV, generator))
    rows = tokens_BL.numel() * (2 if options.cfg_scale > 0 else 1)
    return Generation(
        tokens=tokens_BL,
        prompt_length=prompt_length,
        committed_per_forward=(0,) * (options.steps_count - 1) + (batch * options.gen_length,),
        rows_per_forward=(rows,) * options.steps_count,
    )


def guide(conditional_V: torch.Tensor, unconditional_V: torch.Tensor, cfg_scale: float) -> torch.Tensor:
    """`c^(s + 1) u^(-s)`, scaled to sum to 1 in each row."""
    return torch.softmax((cfg_scale + 1) * conditional_V.log() - cfg_scale * unconditional_V.log(), dim=-1)


def _without_prompt(
    model: UniformDenoiser, tokens_BL: torch.Tensor, prompt_length: int, generator: torch.Generator | None
) -> torch.Tensor:
    unprompted_BL = tokens_BL.clone()
    prompt_BP = unprompted_BL[:, :prompt_length]
    if model.mask_id is None:
        prompt_BP.copy_(random_tokens(prompt_BP, model.vocab, generator))
    else:
        prompt_BP.fill_(model.mask_id)
    return unprompted_BL
