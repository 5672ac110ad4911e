"""Dream: masked diffusion over the whole sequence, revealed by a noise schedule at random or by confidence.

Ye et al., "Dream 7B: Diffusion Large Language Models", arXiv:2508.15487, and the authors' generation_utils.py: times
from 1 to 0.001, four ways to order positions, temperature on the order, top-p by a full sort over V, and the token
shift that Dream keeps from the autoregressive network it began as: what stands at position i is read from row i - 1.
Softmax, filters and draws run on masked rows only. The mask token is never predicted. Leaves out hooks on tokens and
logits; `origin` draws which positions to reveal outside of the network's device, so that shapes are known on `meta`.

Shape suffixes: B batch, P prompt positions, L prompt and generated positions, M masked positions, N commits of a step,
R rows of a step, V vocabulary.
"""

import random
from dataclasses import dataclass

import torch

from workloads.errors import WorkloadError
from workloads.markers import phase
from workloads.samplers.choosing import FilterOptions, draw_tokens, margin, negative_entropy, probability_of
from workloads.samplers.masked import append_masks, require_mask_id
from workloads.samplers.protocol import Denoiser, Generation, make_generator

ALGORITHMS = ("entropy", "maskgit_plus", "topk_margin", "origin")
LAST_TIME = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(FilterOptions):
    """Options of Dream's sampler; its filters apply to greedy choices too, whose confidence they change.

    Attributes:
        steps: denoising steps, None for one per token.
        alg: which positions come first: `entropy` (lowest), `maskgit_plus` (highest probability), `topk_margin`
            (largest lead of the best token over the second), or `origin` (each at random, by the schedule).
        alg_temp: 0 reveals the first positions of that order; above 0 they are drawn by
            `softmax(confidence / alg_temp)`.
    """

    steps: int | None = None
    alg: str = "entropy"
    alg_temp: float = 0.0

    def __post_init__(self) -> None:
        FilterOptions.__post_init__(self)
        if self.steps is not None and self.steps <= 0:
            raise WorkloadError(f"dream: steps must be > 0, got {self.steps}")
        if self.alg not in ALGORITHMS:
            raise WorkloadError(f"dream: alg must be one of {', '.join(ALGORITHMS)}, got {self.alg!r}")
        if not 0 <= self.alg_temp < float("inf"):
            raise WorkloadError(f"dream: alg_temp must be finite and >= 0, got {self.alg_temp}")


def reveal_ratios(steps: int) -> tuple[float, ...]:
    """Share of the remaining masks that each step reveals, `1 - s / t` between times spaced evenly; the last takes all.

    >>> [round(ratio, 4) for ratio in reveal_ratios(2)]
    [0.4995, 1.0]
    """
    times = [1 + (LAST_TIME - 1) * step / steps for step in range(steps + 1)]
    return (*(1 - times[step + 1] / times[step] for step in range(steps - 1)), 1.0)


def reveal_counts(masked: int, steps: int) -> tuple[int, ...]:
    """Positions that each step reveals when ordered by confidence; rounded down, so early steps may reveal none.

    >>> reveal_counts(4, 4)
    (0, 1, 1, 2)
    """
    counts: list[int] = []
    for ratio in reveal_ratios(steps):
        counts.append(int((masked - sum(counts)) * ratio))
    return tuple(counts)


@torch.inference_mode()
def sample(model: Denoiser, prompt_BP: torch.Tensor, options: Options) -> Generation:
    """Fill `options.gen_length` masks behind each prompt; every step shows the network all positions."""
    mask_id = require_mask_id(model, "dream")
    batch, prompt_length = prompt_BP.shape
    generator = make_generator(prompt_BP.device, options.seed)
    tokens_BL = append_masks(prompt_BP, options.gen_length, mask_id)
    steps = options.gen_length if options.steps is None else options.steps
    counts = reveal_counts(options.gen_length, steps)
    plan = _random_plan(batch, prompt_length, options, steps) if options.alg == "origin" else ()
    masked = options.gen_length
    committed = []
    for step in range(steps):
        with phase("denoise", step=step):
            logits_BLV = model(tokens_BL)
            logits_BLV[..., mask_id].fill_(-torch.inf)
            logits_BLV = torch.cat((logits_BLV[:, :1], logits_BLV[:, :-1]), dim=1)
            if options.alg == "origin":
                _reveal(tokens_BL, logits_BLV, plan[step], options, generator)
                committed.append(len(plan[step]))
            else:
                _reveal_best(tokens_BL, logits_BLV, mask_id, masked, counts[step], options, generator)
                committed.append(batch * counts[step])
                masked -= counts[step]
    return Generation(
        tokens=tokens_BL,
        prompt_length=prompt_length,
        committed_per_forward=tuple(committed),
        rows_per_forward=(tokens_BL.numel(),) * steps,
    )


def _random_plan(
    batch: int, prompt_length: int, options: Options, steps: int
) -> tuple[tuple[tuple[int, int], ...], ...]:
    """The positions (sequence, column) that each step reveals; nothing that the network says decides them."""
    source = random.Random(options.seed)
    masked = [(row, prompt_length + column) for row in range(batch) for column in range(options.gen_length)]
    plan = []
    for ratio in reveal_ratios(steps):
        revealed = {position for position in masked if source.random() < ratio}
        plan.append(tuple(position for position in masked if position in revealed))
        masked = [position for position in masked if position not in revealed]
    return tuple(plan)


def _reveal(
    tokens_BL: torch.Tensor,
    logits_BLV: torch.Tensor,
    positions: tuple[tuple[int, int], ...],
    options: Options,
    generator: torch.Generator | None,
) -> None:
    if not positions:
        return
    row_R, column_R = torch.tensor(positions, device=tokens_BL.device).unbind(dim=1)
    proposal_R, _ = _propose(logits_BLV[row_R, column_R], options, generator)
    tokens_BL.index_put_((row_R, column_R), proposal_R)


def _reveal_best(
    tokens_BL: torch.Tensor,
    logits_BLV: torch.Tensor,
    mask_id: int,
    masked: int,
    count: int,
    options: Options,
    generator: torch.Generator | None,
) -> None:
    is_masked_BL = (tokens_BL == mask_id).to(torch.int8)
    position_BM = is_masked_BL.argsort(dim=-1, descending=True, stable=True)[:, :masked]
    row_B1 = torch.arange(tokens_BL.shape[0], device=tokens_BL.device)[:, None]
    proposal_BM, probability_BMV = _propose(logits_BLV[row_B1, position_BM], options, generator)
    if options.alg == "topk_margin":
        confidence_BM = margin(probability_BMV)
    elif options.alg == "entropy":
        confidence_BM = negative_entropy(probability_BMV)
    else:
        confidence_BM = probability_of(probability_BMV, proposal_BM)
    if count == 0:
        return
    if options.alg_temp == 0:
        chosen_BN = confidence_BM.topk(count, dim=-1).indices
    else:
        weight_BM = torch.softmax(confidence_BM / options.alg_temp, dim=-1)
        chosen_BN = torch.multinomial(weight_BM, count, generator=generator)
    tokens_BL.scatter_(1, position_BM.gather(1, chosen_BN), proposal_BM.gather(1, chosen_BN))


def _propose(
    logits_RV: torch.Tensor, options: Options, generator: torch.Generator | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """A token for each row, and the filtered distribution that it comes from."""
    probability_RV = options.distribution(logits_RV)
    if options.temperature == 0:
        return probability_RV.argmax(dim=-1), probability_RV
    return draw_tokens(probability_RV, generator), probability_RV
