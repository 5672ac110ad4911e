"""UDLM: uniform-noise diffusion; every step resamples every token from the posterior, so errors can be mended.

Schiff et al., "Simple Guidance Mechanisms for Discrete Diffusion Models", arXiv:2412.10193: the posterior of equation
13 over rows x V by Gumbel-max in float64, on an even grid of log-linear noise from t = 1 to 1e-5, and classifier-free
guidance `p(x_s | x_t, prompt)^(s + 1) p(x_s | x_t)^(-s)` of the posteriors (equation 6 with gamma = s + 1) by a second
copy of the batch whose prompt is noise: masks, or random tokens where the network has none. No token is final, and no
prediction can be reused, before the last step. Leaves out classifier-based guidance; temperature divides the logits.

`routing=confidence` draws from no posterior: after Zheng et al., "A Reparameterized Discrete Diffusion Model for Text
Generation", arXiv:2302.05737 (adaptive routing), each step predicts all tokens, keeps as many as the noise level leaves
clean, those of the highest probability, and gives all others fresh noise. It matches no distribution, and makes fewer
mistakes: an unlikely token is asked again when more of the others stand. Leaves out the paper's own training and the
routing mechanisms besides the top ones.

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
from workloads.samplers.choosing import choose_tokens
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
ROUTINGS = ("posterior", "confidence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(StepOptions):
    """Options of UDLM.

    Attributes:
        cfg_scale: strength of classifier-free guidance; 0 runs without.
        prediction: whether the network's distribution is given the other positions (`leave_one_out`) or all of them.
        routing: `posterior` resamples every token; `confidence` keeps the most probable tokens, noises the rest.
    """

    cfg_scale: float = 0.0
    prediction: str = "leave_one_out"
    routing: str = "posterior"

    def __post_init__(self) -> None:
        StepOptions.__post_init__(self)
        if self.prediction not in PREDICTIONS:
            raise WorkloadError(f"udlm: prediction must be one of {', '.join(PREDICTIONS)}, got {self.prediction!r}")
        if self.routing not in ROUTINGS:
            raise WorkloadError(f"udlm: routing must be one of {', '.join(ROUTINGS)}, got {self.routing!r}")
        if self.routing == "confidence" and self.cfg_scale > 0:
            raise WorkloadError(f"udlm: routing=confidence takes no guidance, got cfg_scale = {self.cfg_scale}")
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
            if options.routing == "confidence":
                here_BG.copy_(_route(logits_BGV, next_chance, options.temperature, generator))
            else:
                noisy_BG = shown_BL[:, prompt_length:]
                here_BG.copy_(_resample(logits_BGV, noisy_BG, (chance, next_chance), options, generator))
    rows = tokens_BL.numel() * (2 if options.cfg_scale > 0 else 1)
    return Generation(
        tokens=tokens_BL,
        prompt_length=prompt_length,
        committed_per_forward=(0,) * (options.steps_count - 1) + (batch * options.gen_length,),
        rows_per_forward=(rows,) * options.steps_count,
    )


def _resample(
    logits_BGV: torch.Tensor,
    noisy_BG: torch.Tensor,
    chances: tuple[float, float],
    options: Options,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """Tokens `[B, G]` of the next step from the posterior; with guidance the batch comes doubled."""
    clean_BGV = token_probabilities(logits_BGV, options.temperature)
    if options.prediction == "posterior":
        clean_BGV = leave_one_out(clean_BGV, noisy_BG, chances[0])
    weight_BGV = uniform_posterior(clean_BGV, noisy_BG, *chances)
    if options.cfg_scale > 0:
        conditional_BGV, unconditional_BGV = weight_BGV.chunk(2)
        weight_BGV = guide(conditional_BGV, unconditional_BGV, options.cfg_scale)
    return race(weight_BGV, generator)


def _route(
    logits_BGV: torch.Tensor, next_chance: float, temperature: float, generator: torch.Generator | None
) -> torch.Tensor:
    """The most probable predictions `[B, G]`, as many as noise leaves clean at the next step, and noise elsewhere."""
    drawn_BG = choose_tokens(logits_BGV, temperature, generator)
    chance_BG = torch.softmax(logits_BGV.float(), dim=-1).gather(-1, drawn_BG[..., None])[..., 0]
    kept = round(drawn_BG.shape[1] * (1 - next_chance))
    is_kept_BG = chance_BG.argsort(dim=-1, descending=True).argsort(dim=-1) < kept
    return torch.where(is_kept_BG, drawn_BG, random_tokens(drawn_BG, logits_BGV.shape[-1], generator))


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
