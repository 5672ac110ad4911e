"""SEDD: discrete diffusion by score ratios, under absorbing or uniform noise, with Euler or analytic steps.

Lou et al., "Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution", arXiv:2310.16834:
tau-leaping by Euler steps and the Tweedie denoiser ("analytic", theorem 4.2), then the authors' last denoising step
from t = 1e-5 to 0: NFE = steps + 1. A network of score entropy gives log ratios (`prediction=score`); one that gives
logits of the clean token (`posterior`) is converted exactly: `p(y) (1 - m) / m` under absorbing noise, and
`1 + p(y) a / u - p(x_i) a / (a + u)` under uniform noise (`a = 1 - m`, `u = m / V`). Positions of the prompt stay.
Temperature, which the paper does not have, divides the logits of the clean token.

Shape suffixes: B batch, P prompt positions, G generated positions, L all of them, V vocabulary.
"""

from dataclasses import dataclass

import torch

from workloads.errors import WorkloadError
from workloads.markers import phase
from workloads.samplers.masked import append_masks, require_mask_id
from workloads.samplers.noise import (
    SCHEDULES,
    absorbing_score,
    at_noise,
    make_schedule,
    move_chance,
    race,
    random_tokens,
    reverse_times,
    staggered_score,
    token_probabilities,
    transposed_rate,
    transposed_transition,
    uniform_score,
)
from workloads.samplers.protocol import Generation, make_generator
from workloads.samplers.reveals import Ledger, StepOptions
from workloads.samplers.uniform import UniformDenoiser

LAST_TIME = 1e-5
GRAPHS, PREDICTORS, PREDICTIONS = ("absorbing", "uniform"), ("euler", "analytic"), ("posterior", "score")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(StepOptions):
    """Options of SEDD.

    Attributes:
        graph: `absorbing` noise masks tokens, `uniform` noise replaces them by any.
        predictor: `euler` or `analytic`.
        schedule: `log_linear`, `geometric` or `cosine`.
        prediction: whether the logits are those of the clean token (`posterior`) or log score ratios (`score`).
    """

    graph: str = "absorbing"
    predictor: str = "euler"
    schedule: str = "log_linear"
    prediction: str = "posterior"

    def __post_init__(self) -> None:
        StepOptions.__post_init__(self)
        for name, allowed in (
            ("graph", GRAPHS),
            ("predictor", PREDICTORS),
            ("schedule", tuple(SCHEDULES)),
            ("prediction", PREDICTIONS),
        ):
            if getattr(self, name) not in allowed:
                raise WorkloadError(f"sedd: {name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")


@torch.inference_mode()
def sample(model: UniformDenoiser, prompt_BP: torch.Tensor, options: Options) -> Generation:
    """Generate `options.gen_length` tokens behind each prompt in `steps` steps and a last denoising one."""
    batch, prompt_length = prompt_BP.shape
    generator = make_generator(prompt_BP.device, options.seed)
    mask_id = require_mask_id(model, "sedd") if options.graph == "absorbing" else None
    tokens_BL = append_masks(prompt_BP, options.gen_length, mask_id or 0)
    here_BG = tokens_BL[:, prompt_length:]
    if mask_id is None:
        here_BG.copy_(random_tokens(here_BG, model.vocab, generator))
    schedule = make_schedule(options.schedule, "sedd")
    times = reverse_times(options.steps_count, LAST_TIME)
    rows, committed = tokens_BL.numel(), batch * options.gen_length
    ledger = Ledger(here_BG, -1 if mask_id is None else mask_id, rows)
    for step, time in enumerate(times):
        is_last = step == options.steps_count
        sigma = schedule.total_noise(time)
        with phase("denoise", step=step):
            score_BGV = _score(model, tokens_BL, prompt_length, sigma, mask_id, options)
            ledger.count_forward()
            if is_last or options.predictor == "analytic":
                passed = sigma if is_last else sigma - schedule.total_noise(times[step + 1])
                weight_BGV = analytic_step(score_BGV, here_BG, passed, mask_id)
            else:
                passed = (time - times[step + 1]) * schedule.noise_rate(time)
                weight_BGV = euler_step(score_BGV, here_BG, passed, mask_id)
            if is_last and mask_id is not None:
                weight_BGV[..., mask_id].fill_(0.0)
            here_BG.copy_(race(weight_BGV, generator))
            ledger.count_commits(expected_left=0.0 if is_last else move_chance(schedule.total_noise(times[step + 1])))
    if mask_id is None:  # every token may change until the last step
        return Generation(
            tokens=tokens_BL,
            prompt_length=prompt_length,
            committed_per_forward=(0,) * options.steps_count + (committed,),
            rows_per_forward=(rows,) * (options.steps_count + 1),
        )
    return ledger.generation(tokens_BL, prompt_length)


def analytic_step(score_V: torch.Tensor, tokens: torch.Tensor, sigma: float, mask_id: int | None) -> torch.Tensor:
    """Weights `[..., V]` of the token `sigma` of noise earlier: staggered score times transposed transition.

    Lou et al., arXiv:2310.16834, theorem 4.2.
    """
    transition_V = transposed_transition(tokens, score_V.shape[-1], sigma, mask_id)
    return staggered_score(score_V, sigma, mask_id) * transition_V


def euler_step(score_V: torch.Tensor, tokens: torch.Tensor, sigma: float, mask_id: int | None) -> torch.Tensor:
    """Weights `[x = y] + sigma Q(x, y) score(y)` of one Euler step of the reverse process (equation 17).

    The weight of staying is one minus all others, and may fall below 0 in a step that is too long.
    """
    move_V = score_V * transposed_rate(tokens, score_V.shape[-1], mask_id) * sigma
    return move_V.scatter_(-1, tokens[..., None], 1 - move_V.sum(dim=-1, keepdim=True))


def _score(
    model: UniformDenoiser,
    tokens_BL: torch.Tensor,
    prompt_length: int,
    sigma: float,
    mask_id: int | None,
    options: Options,
) -> torch.Tensor:
    chance = move_chance(sigma)
    logits_BGV = at_noise(model, chance)(tokens_BL)[:, prompt_length:]
    here_BG = tokens_BL[:, prompt_length:]
    if options.prediction == "score":
        return logits_BGV.exp().scatter_(-1, here_BG[..., None], 1.0)
    if mask_id is not None:
        logits_BGV[..., mask_id].fill_(-torch.inf)
    clean_BGV = token_probabilities(logits_BGV, options.temperature)
    if mask_id is None:
        return uniform_score(clean_BGV, here_BG, chance)
    return absorbing_score(clean_BGV, here_BG, mask_id, chance)
