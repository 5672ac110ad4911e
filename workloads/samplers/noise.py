"""Noise of discrete diffusion: schedules, forward kernels, exact posteriors, score ratios and their reverse steps.

Time runs from 0 (clean) to 1 (noise). The move chance `1 - exp(-sigma)` is the probability that noise hit a token by
time t; a hit turns it into the mask (absorbing noise) or into any token with equal probability (uniform noise).
Functions work on distributions over the last axis, and none reads a value back, so all of it runs on `meta`.

Shape suffixes: `...` any leading shape, V vocabulary (with the mask, where there is one).
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from workloads.errors import WorkloadError
from workloads.samplers.protocol import Denoiser


class Schedule(Protocol):
    """How noise grows with time."""

    def total_noise(self, time: float) -> float:
        """Integrated noise sigma(t)."""

    def noise_rate(self, time: float) -> float:
        """Its derivative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLinear:
    """`sigma = -log(1 - (1 - eps) t)`: the move chance is `(1 - eps) t` (SEDD, arXiv:2310.16834, and MDLM)."""

    eps: float = 1e-3

    def total_noise(self, time: float) -> float:
        """Integrated noise sigma(t).

        >>> LogLinear(eps=0.0).total_noise(0.5) == math.log(2)
        True
        """
        return -math.log1p(-(1 - self.eps) * time)

    def noise_rate(self, time: float) -> float:
        """Its derivative."""
        return (1 - self.eps) / (1 - (1 - self.eps) * time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometric:
    """`sigma = least^(1 - t) greatest^t` (SEDD, arXiv:2310.16834, for uniform noise)."""

    least: float = 1e-4
    greatest: float = 20.0

    def total_noise(self, time: float) -> float:
        """Integrated noise sigma(t)."""
        return float(self.least ** (1 - time) * self.greatest**time)

    def noise_rate(self, time: float) -> float:
        """Its derivative."""
        return self.total_noise(time) * math.log(self.greatest / self.least)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosine:
    """`sigma = -log(eps + (1 - eps) cos(pi t / 2))` (MDLM, arXiv:2406.07524, appendix on schedules)."""

    eps: float = 1e-3

    def total_noise(self, time: float) -> float:
        """Integrated noise sigma(t)."""
        return -math.log(self.eps + (1 - self.eps) * math.cos(time * math.pi / 2))

    def noise_rate(self, time: float) -> float:
        """Its derivative."""
        kept = self.eps + (1 - self.eps) * math.cos(time * math.pi / 2)
        return (1 - self.eps) * math.pi / 2 * math.sin(time * math.pi / 2) / kept


SCHEDULES: dict[str, type[LogLinear] | type[Geometric] | type[Cosine]] = {
    "log_linear": LogLinear,
    "geometric": Geometric,
    "cosine": Cosine,
}


def make_schedule(name: str, where: str) -> Schedule:
    """The schedule of this name, with its published constants.

    Raises:
        WorkloadError: there is none.
    """
    if name not in SCHEDULES:
        raise WorkloadError(f"{where}: schedule must be one of {', '.join(SCHEDULES)}, got {name!r}")
    return SCHEDULES[name]()


def move_chance(sigma: float) -> float:
    """Probability that total noise `sigma` has hit a token.

    >>> move_chance(math.log(4))
    0.75
    """
    return -math.expm1(-sigma)


def reverse_times(steps: int, last: float) -> tuple[float, ...]:
    """The `steps + 1` even times from 1 down to `last`.

    >>> reverse_times(4, 0.0)
    (1.0, 0.75, 0.5, 0.25, 0.0)
    """
    return tuple(1 - (1 - last) * step / steps for step in range(steps + 1))


@runtime_checkable
class NoiseConditioned(Protocol):
    """A denoiser that wants to be told the noise of what it is shown; one without this method infers it."""

    def at_noise(self, move_chance: float) -> Denoiser:
        """The network for tokens that noise hit with this probability each."""


def at_noise(model: Denoiser, chance: float) -> Denoiser:
    """The network, told the move chance if it can hear."""
    return model.at_noise(chance) if isinstance(model, NoiseConditioned) else model


def token_probabilities(logits_V: torch.Tensor, temperature: float) -> torch.Tensor:
    """Predicted distribution `[..., V]` of the clean token; temperature 0 puts all of it on the most probable one."""
    if temperature == 0:
        return torch.zeros_like(logits_V).scatter_(-1, logits_V.argmax(dim=-1, keepdim=True), 1.0)
    return torch.softmax(logits_V.to(torch.promote_types(logits_V.dtype, torch.float32)) / temperature, dim=-1)


def race(weight_V: torch.Tensor, generator: torch.Generator | None, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """A token from each row of weights, `[..., V]` to `[...]`: `argmax w / (-log u)`, as Gumbel-max does.

    Weights need not sum to 1; one at or below 0 is never drawn.
    """
    weight_V = weight_V.to(dtype)
    uniform_V = torch.rand(weight_V.shape, dtype=dtype, device=weight_V.device, generator=generator)
    return (weight_V / -uniform_V.log()).argmax(dim=-1)


def absorb(tokens: torch.Tensor, chance: float, mask_id: int, generator: torch.Generator | None) -> torch.Tensor:
    """Forward absorbing noise: each token becomes the mask with probability `chance`."""
    return tokens.masked_fill(torch.rand(tokens.shape, device=tokens.device, generator=generator) < chance, mask_id)


def scramble(tokens: torch.Tensor, chance: float, vocab: int, generator: torch.Generator | None) -> torch.Tensor:
    """Forward uniform noise: each token is replaced with probability `chance`, by any token including itself."""
    is_hit = torch.rand(tokens.shape, device=tokens.device, generator=generator) < chance
    return torch.where(is_hit, random_tokens(tokens, vocab, generator), tokens)


def random_tokens(like: torch.Tensor, vocab: int, generator: torch.Generator | None) -> torch.Tensor:
    """Uniform tokens, the limit of uniform noise, in the shape of `like`."""
    return torch.randint(vocab, like.shape, device=like.device, generator=generator)


def absorbing_posterior(clean_V: torch.Tensor, mask_id: int, chance: float, next_chance: float) -> torch.Tensor:
    """`q(x_s | x_t = MASK)` times `chance`: `(m_t - m_s) p(x0)` on tokens, `m_s` on the mask (arXiv:2406.07524, eq. 7).

    Args:
        clean_V: distribution of the clean token, nothing on the mask; changed in place.
        mask_id: the mask.
        chance: move chance at t.
        next_chance: move chance at s < t.
    """
    clean_V.mul_(chance - next_chance)
    clean_V[..., mask_id].fill_(next_chance)
    return clean_V


def uniform_posterior(clean_V: torch.Tensor, tokens: torch.Tensor, chance: float, next_chance: float) -> torch.Tensor:
    """`q(x_s | x_t, x0 ~ clean)` up to a constant per row, `[..., V]` (UDLM, arXiv:2412.10193, eq. 13).

    The numerator `a_t V x_t * x + (a_ts - a_t) x_t + (a_s - a_t) x + (1 - a_ts)(1 - a_s) / V`, which is
    `q(x_t | x_s) q(x_s | x0) V`, with `a = 1 - m` and `a_ts = a_t / a_s`; the denominator does not depend on `x_s`.
    It is exact for a clean token that is known, and for the distribution of the clean token given the *other*
    positions, which is what training on UDLM's bound learns; see `leave_one_out`.
    """
    vocab = clean_V.shape[-1]
    kept, next_kept = 1 - chance, 1 - next_chance
    step_kept = kept / next_kept
    here_1 = clean_V.gather(-1, tokens[..., None])
    weight_V = clean_V * (next_kept - kept) + (1 - step_kept) * next_chance / vocab
    return weight_V.scatter_add_(-1, tokens[..., None], kept * vocab * here_1 + (step_kept - kept))


def leave_one_out(clean_V: torch.Tensor, tokens: torch.Tensor, chance: float) -> torch.Tensor:
    """`p(x0_i | x_t of the other positions)` from `p(x0_i | all of x_t)` under uniform noise, rows summing to 1.

    Bayes the other way round: divide by `q(x_t_i | x0_i) = a [x0_i = x_t_i] + m / V`.
    """
    noise = chance / clean_V.shape[-1]
    here_1 = clean_V.gather(-1, tokens[..., None]) * (noise / (1 - chance + noise))
    weight_V = clean_V.scatter(-1, tokens[..., None], here_1)
    return weight_V / weight_V.sum(dim=-1, keepdim=True)


def absorbing_score(clean_V: torch.Tensor, tokens: torch.Tensor, mask_id: int, chance: float) -> torch.Tensor:
    """Ratios `p_t(x with i set to y) / p_t(x)` at masked positions, `[..., V]`: `(1 - m) / m * p(x0_i = y | x_t)`.

    The closed form of RADD (arXiv:2406.03736, theorem 1); 1 for the token that stands there. Ratios of positions that
    are not masked are not needed by any reverse step, and come out alike.
    """
    return (clean_V * ((1 - chance) / chance)).scatter_(-1, tokens[..., None], 1.0)


def uniform_score(clean_V: torch.Tensor, tokens: torch.Tensor, chance: float) -> torch.Tensor:
    """Ratios `p_t(x with i set to y) / p_t(x)` under uniform noise, `[..., V]`, from `p = p(x0_i | x_t)`.

    `sum_x0 p(x0) q(y | x0) / q(x_i | x0) = 1 + p(y) a / u - p(x_i) a / (a + u)` for `y != x_i`, with `a = 1 - m` and
    `u = m / V`; 1 for the token that stands there.
    """
    kept, noise = 1 - chance, chance / clean_V.shape[-1]
    here_1 = clean_V.gather(-1, tokens[..., None])
    ratio_V = clean_V * (kept / noise) + (1 - here_1 * (kept / (kept + noise)))
    return ratio_V.scatter_(-1, tokens[..., None], 1.0)


def staggered_score(score_V: torch.Tensor, sigma: float, mask_id: int | None) -> torch.Tensor:
    """`exp(-sigma Q) score`: ratios of the distribution `sigma` earlier to that now (arXiv:2310.16834, theorem 4.1).

    `mask_id` None is uniform noise. May come out negative where the score is not exact.
    """
    total_1 = score_V.sum(dim=-1, keepdim=True)
    growth = math.exp(sigma)
    if mask_id is None:
        return score_V * growth + total_1 * ((1 - growth) / score_V.shape[-1])
    earlier_V = score_V * growth
    earlier_V[..., mask_id].add_(total_1[..., 0], alpha=1 - growth)
    return earlier_V


def transposed_transition(tokens: torch.Tensor, vocab: int, sigma: float, mask_id: int | None) -> torch.Tensor:
    """`q(x_t = token | x_s = y)` for each y, `[..., V]`, after noise of `sigma`; `mask_id` None is uniform noise."""
    chance = move_chance(sigma)
    shape = (*tokens.shape, vocab)
    if mask_id is None:
        base_V = torch.full(shape, chance / vocab, device=tokens.device)
    else:
        base_V = ((tokens == mask_id)[..., None] * chance).expand(shape).contiguous()
    return base_V.scatter_add_(-1, tokens[..., None], torch.full_like(base_V[..., :1], 1 - chance))


def transposed_rate(tokens: torch.Tensor, vocab: int, mask_id: int | None) -> torch.Tensor:
    """Forward rates into the token that stands there, from each y: `[..., V]`, 0 from itself."""
    if mask_id is None:
        rate_V = torch.full((*tokens.shape, vocab), 1 / vocab, device=tokens.device)
    else:
        rate_V = (tokens == mask_id)[..., None].expand((*tokens.shape, vocab)).float()
    return rate_V.scatter(-1, tokens[..., None], 0.0)
